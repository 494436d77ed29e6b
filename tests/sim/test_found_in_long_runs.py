"""What thousands of fresh seeds found, each as the shortest story that showed it."""

from __future__ import annotations

import pytest

from tcfs.model.spelling import own_name
from tests.sim.disk import Naming
from tests.sim.stories import hold, whole
from tests.sim.world import WHOLE, Move


@pytest.mark.parametrize("fault", ["lost", "late"])
def test_a_decision_that_waited_in_the_outbox_holds_from_when_it_is_sent(fault: str) -> None:
    """The rig let nobody in again whom the fleet did not yet know to be let go."""
    hold(
        ("user", "bob", True, "write", b"a", b"bob's\n"),
        *whole("bob", "sync"),
        ("arm", "ann", "put", fault),
        ("banish", "bob", "expire", "ann"),
        ("run", "ann", WHOLE),
    )


def test_who_was_let_go_is_told_so_and_not_that_another_machine_has_its_identity() -> None:
    """Its chain goes on past the cut; that it wrote itself."""
    hold(
        ("settle",),
        ("user", "bob", True, "write", b"a", b"bob's\n"),
        ("operation", "bob", "push"),
        ("run", "bob", WHOLE, "", "safe"),
        ("banish", "bob", "revoke", "ann"),
        ("run", "ann", WHOLE),
        ("run", "bob", WHOLE),
        # Nobody syncs in quiet before it is let in again, but where two machines are told apart.
        ("clone", "cy"),
        ("user", "cy", True, "write", b"b", b"cy's\n"),
        ("user", "cy.twin", True, "write", b"c", b"the twin's\n"),
        ("operation", "cy.twin", "push"),
        *[("run", "cy.twin", WHOLE, "", "safe")] * 3,
        *whole("cy", "push"),
        names=("ann", "bob", "cy"),
    )


def test_a_settlement_for_what_an_edit_answers_is_no_side_against_it() -> None:
    """It was made while its user went on from these bytes, and both are of one device."""
    hold(
        ("user", "ann", True, "write", b"b", b"ann's\n"),
        ("user", "bob", True, "write", b"b", b"bob's\n"),
        ("operation", "bob", "push"),
        ("run", "bob", WHOLE, "", "read"),
        *whole("ann", "push"),
        ("run", "bob", WHOLE),
        ("operation", "ann", "sync"),
        ("run", "ann", WHOLE, "", "safe"),
        ("run", "ann", WHOLE, "", "safe"),
        ("user", "bob", True, "write", b"b", b"bob's again\n"),
        ("user", "ann", True, "write", b"b", b"ann's again\n"),
        ("run", "ann", WHOLE),
        *whole("bob", "sync"),
    )


def test_a_file_that_was_never_whole_is_no_users_empty_one() -> None:
    """A large file is put together in pieces, and the disk was full before the first of them."""
    hold(
        ("user", "bob", True, "write", b"a", b""),
        ("user", "bob", True, "write", b"a", b"large enough\n"),
        *whole("bob", "push"),
        ("share",),
        ("user", "bob", True, "write", b"a", b"large enough, and of other bytes\n"),
        *whole("bob", "push"),
        ("operation", "ann", "sync"),
        ("space", "ann", 0),
        ("run", "ann", WHOLE),
        sizes={"tcfs.sync.staging.LARGE": 4},
    )


@pytest.mark.parametrize("how", ["expire", "revoke"])
def test_what_gave_way_to_a_settlement_that_counts_for_nothing_is_on_disk(how: str) -> None:
    """Its device was let go before it had sent the edit, and its conflict copy could not be had."""
    for steps in (1, 3, 5):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            ("user", "ann", True, "write", b"a", b"ann's\n"),
            *whole("ann", "push"),
            ("user", "bob", True, "write", b"a", bytes(range(200))),
            ("operation", "bob", "sync"),
            *[("run", "bob", WHOLE, "", "safe")] * steps,
            ("banish", "bob", how, "ann"),
            ("run", "ann", WHOLE),
            ("run", "bob", WHOLE, "", "fetch"),
            ("run", "bob", 1, "damaged"),
            ("run", "bob", WHOLE),
        )


def test_who_edits_a_conflict_copy_has_it_before_his_eyes() -> None:
    """What it is a copy of gives way a moment later, since the copy was there."""
    for steps in range(1, 6):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            ("user", "ann", True, "write", b"a", b"ann's, first of all\n"),
            ("user", "bob", True, "write", b"a", b"bob's\n"),
            *whole("ann", "push"),
            ("operation", "bob", "sync"),
            ("run", "bob", WHOLE, "", "tree"),
            ("run", "bob", steps),
            ("user", "bob", True, "write", b"a.conflict-bob", b"bob's again\n"),
        )


def test_an_answer_to_one_branch_ends_nothing_of_the_other_at_another_path() -> None:
    """Versions are named by device and number, and both branches gave the same numbers."""
    hold(
        ("user", "ann", True, "write", b"q/r/s", b"1\n"),
        ("user", "cy", False, "write", b"p/x", b"2\n"),
        ("settle",),
        ("user", "bob", True, "write", b"p/x", b"3\n"),
        ("clone", "bob"),
        ("user", "bob", True, "write", b"q/r/s", b"4\n"),
        ("user", "bob.twin", True, "write", b"b", b"5\n"),
        ("operation", "bob", "push"),
        ("run", "bob", WHOLE, "", "safe"),
        *whole("bob.twin", "push"),
        *whole("ann", "push"),
        ("run", "bob", WHOLE),
        ("hint", "dee", (11,), False, ""),
        ("user", "cy", True, "write", b"q/r/s", b"6\n"),
        names=("ann", "bob", "cy", "dee"),
    )


def test_where_chunks_were_moved_to_is_asked_until_the_store_shows_it() -> None:
    """The pack was passed over for good, and what it held not found when its old place was gone."""
    hold(
        ("user", "ann", True, "replace", b"a", b"ann's\n"),
        *whole("ann", "sync"),
        ("operation", "bob", "sync"),
        ("operation", "ann", "push"),
        ("run", "bob", WHOLE),
        ("user", "ann", True, "move", b"a", b"p/y"),
        ("arm", "bob", "head", "stale"),
        ("run", "ann", WHOLE),
        ("operation", "ann", "compact"),
        ("operation", "bob", "push"),
        ("run", "ann", WHOLE, "", "read"),
        ("run", "bob", WHOLE, "", "read"),
        ("operation", "ann", "compact"),
        admins=2,
        encrypted=False,
        strategy="first-write",
        sizes={"tcfs.sync.upload.MAX_INLINE_PACK": 2000, "tcfs.content.packer.SOFT_LIMIT": 6000},
    )


def test_bytes_saved_once_more_while_their_conflict_copy_goes_are_kept_once_more() -> None:
    """A settlement counted the copy of an earlier conflict, whose removal was still to be sent."""
    hold(
        ("user", "bob", True, "write", b"p/x/z", b"same 1\n"),
        ("user", "ann", True, "write", b"p/x/z", b"ann's\n"),
        *whole("ann", "sync"),
        *whole("bob", "sync"),
        ("user", "ann", True, "write", b"p/x/z", b"ann's again\n"),
        ("user", "bob", True, "write", b"p", b"bob's\n"),
        ("user", "bob", True, "write", b"p/x/z", b"same 1\n"),
    )


def test_a_removal_that_an_edit_outlived_is_looked_at_again_when_the_edit_is_gone() -> None:
    hold(
        ("user", "ann", True, "write", b"p/x/z", b"ann's\n"),
        ("settle",),
        ("user", "ann", False, "move", b"p/x", b"a"),
        ("user", "bob", False, "replace", b"p/x", b"bob's\n"),
        *whole("ann", "push"),
        *whole("bob", "pull", "auto"),
        ("user", "bob", True, "mkdir", b"p/x"),
    )


def test_a_hint_from_the_other_machine_does_not_hide_that_the_own_chain_forks() -> None:
    """What it named was taken up as this device's own, and what waited in the outbox put beside."""
    hold(
        *whole("bob", "sync"),
        ("clone", "bob"),
        ("user", "bob", True, "write", b"a", b"bob's\n"),
        ("user", "bob.twin", True, "write", b"b", b"the twin's\n"),
        ("operation", "bob.twin", "push"),
        ("arm", "bob.twin", "put", "lost"),
        ("run", "bob.twin", WHOLE),
        *whole("bob", "push"),
        # Settled, that writes: the outbox is sent first.
        ("user", "bob.twin", True, "write", b"a", b"the twin's\n"),
        ("hint", "bob.twin", (0,), False, ""),
        ("run", "bob.twin", WHOLE),
    )


ACROSS_BRANCHES: list[Move] = [
    ("user", "ann", True, "write", b"q/r", b"1\n"),
    ("operation", "cy", "sync"),
    ("operation", "ann", "strategy", "first-write"),
    ("run", "cy", WHOLE, "", "read"),
    ("clone", "dee"),
    ("user", "dee", True, "write", b"p/y", b"2\n"),
    ("user", "dee", True, "write", b"q/r", b"3\n"),
    ("user", "dee.twin", True, "write", b"q/r", b"4\n"),
    ("operation", "dee.twin", "push"),
    *[("run", "dee.twin", WHOLE, "", "safe")] * 3,
    *whole("dee", "push"),
    # Which takes up dee's branch, and answers it.
    ("run", "ann", WHOLE),
    ("run", "dee.twin", WHOLE),
    ("hint", "ann", (16, 11), True, ""),
    # Which takes up the twin's, and learns of dee's from ann.
    ("hint", "cy", (1,), False, ""),
]
"""Somebody knows two branches of a chain, and settles what lies inside the one that falls away."""


@pytest.mark.parametrize("end", [("settle",), ("tidy",)])
def test_what_was_settled_across_two_branches_can_be_had_by_all(end: Move) -> None:
    """A segment can say of one branch alone that its writer had seen it."""
    hold(*ACROSS_BRANCHES, end, names=("ann", "bob", "cy", "dee"))


def test_what_comes_before_a_fork_is_not_taken_up_as_past_it() -> None:
    """Else its packs are looked for where they are not: they travelled inside what comes before."""
    hold(
        ("user", "ann", True, "write", b"d/e/f.txt", b"1\n"),
        ("user", "ann", True, "write", b"q/r", b"2\n"),
        ("user", "ann", True, "write", b"p/y", b"3\n"),
        ("settle",),
        ("user", "dee", False, "git", b"repo", b"7"),
        ("user", "dee", False, "cycle", b"p", b"d/e/f.txt", b"b"),
        ("operation", "dee", "push"),
        ("user", "cy", False, "delete", b"q/r"),
        ("run", "dee", WHOLE),
        ("clone", "dee"),
        ("user", "dee", True, "delete", b"p"),
        ("user", "dee.twin", True, "write", b"p/x", b"4\n"),
        ("operation", "dee", "push"),
        ("run", "dee", WHOLE, "", "safe"),
        *whole("dee.twin", "push"),
        ("operation", "cy", "push"),
        names=("ann", "bob", "cy", "dee"),
        sizes={
            "tcfs.sync.commit.PART_BYTES": 900,
            "tcfs.content.packer.TARGET": 3000,
            "tcfs.content.packer.SOFT_LIMIT": 600,
        },
    )


def test_a_file_gives_way_to_a_directory_whatever_copy_of_its_bytes_is_to_be_in_there() -> None:
    """It waited for a conflict copy that needed its place."""
    hold(
        ("user", "ann", True, "write", b"p", b"same 2\n"),
        ("settle",),
        ("user", "ann", True, "write", b"p/x/z", b"ann's\n"),
        ("user", "cy", True, "write", b"p/x/z", b"same 2\n"),
        names=("ann", "bob", "cy"),
    )


def test_a_conflict_copy_that_moves_to_another_directory_is_no_copy_of_itself() -> None:
    """The old one stayed until the new one was there, its directory with it, and that was sent."""
    hold(
        ("user", "ann", True, "write", b"b", b"ann's\n"),
        ("user", "ann", True, "write", b"p/x/z", b"ann's too\n"),
        ("user", "bob", True, "write", b"p/x/z", b"bob's\n"),
        ("settle",),
        ("user", "bob", True, "cycle", b"p/x", b"b"),
        ("user", "bob", True, "replace", b"p", b"same 0\n"),
        names=("ann", "bob", "cy"),
    )


def test_quiet_is_not_reached_while_an_outbox_was_being_emptied() -> None:
    """The rig took a round in which nothing was planned for the last, and somebody had sent what
    waited when another had looked already.
    """
    hold(
        ("user", "bob", True, "mkdir", b"p/x"),
        ("operation", "bob", "sync"),
        ("arm", "bob", "put", "lost"),
        ("run", "bob", WHOLE, "", "tree"),
        seed=1109701,
    )


def test_a_snapshot_that_fell_with_a_branch_had_been_among_the_last_two() -> None:
    """The rig asked for the one that was let go for it."""
    hold(
        ("user", "cy", True, "mkdir", b"p/x"),
        ("operation", "ann", "snapshot"),
        ("operation", "bob", "compact"),
        ("operation", "cy", "kept_push", b"b", False),
        ("run", "cy", WHOLE),
        ("clone", "cy"),
        ("run", "bob", WHOLE),
        ("user", "cy", True, "delete", b"p/x"),
        ("user", "cy.twin", True, "write", b"p/y", b"the twin's\n"),
        ("operation", "bob", "compact"),
        ("operation", "cy.twin", "push"),
        ("run", "cy.twin", WHOLE, "", "safe"),
        ("run", "cy.twin", WHOLE, "", "safe"),
        ("run", "ann", WHOLE),
        ("user", "cy.twin", True, "delete", b"p"),
        *whole("cy", "sync"),
        ("hint", "cy", (7,), True, ""),
        ("hint", "ann", (0, 7), False, ""),
        ("settle",),
        ("tidy",),
        names=("ann", "bob", "cy"),
        admins=2,
        encrypted=True,
        seed=1108514,
    )


FOLDS = {"naming": {"bob": Naming(ignores_case=True)}}


def test_a_name_of_its_own_is_given_by_nobody_who_comes_too_late() -> None:
    """Its user made room for ``p`` in the moment before it was put beside ``P``."""
    hold(
        ("user", "bob", True, "replace", b"P", b"bob's\n"),
        ("user", "ann", True, "link", b"p/y", b"nowhere"),
        ("user", "ann", True, "write", b"d/e/f.txt", b"ann's\n"),
        *whole("ann", "sync"),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE, "", "tree"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", False, "mkdir", b"p"),
        **FOLDS,
    )


def test_a_file_called_as_another_might_be_is_not_that_one_when_it_is_removed() -> None:
    hold(
        ("user", "ann", True, "write", b"a", b"ann's\n"),
        ("settle",),
        ("user", "ann", False, "delete", b"a"),
        ("user", "bob", True, "write", own_name(b"a"), b"bob's\n"),
        **FOLDS,
    )
