"""What the simulation found, each as the shortest story that showed it."""

from __future__ import annotations

import pytest

from tests.sim.disk import Naming
from tests.sim.minimise import replay
from tests.sim.stories import hold, whole
from tests.sim.world import WHOLE, Move, Setting


@pytest.mark.parametrize("salt", [5, 6, 7])
def test_a_file_that_was_pushed_is_what_was_pushed_after_a_power_loss(salt: int) -> None:
    for operation in ("push", "sync"):
        hold(
            ("share",),
            ("user", "bob", False, "write", b"a", b"first\n"),
            *whole("bob", operation),
            ("crash", "bob", "all", salt),
        )


def test_a_disk_that_fails_under_a_pull_is_an_error_of_ours() -> None:
    for steps in range(9, 40):
        hold(
            ("user", "ann", True, "write", b"p/x", b"1\n"),
            *whole("ann", "push"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", steps),
            ("run", "bob", WHOLE, "broken"),
        )


def test_an_edit_that_meets_a_file_while_it_is_put_back_survives() -> None:
    """Two edits within one replacement: the second goes into the file that tcfs takes away."""
    hold(
        ("user", "ann", True, "write", b"b", b"before\n"),
        ("settle",),
        ("user", "ann", True, "write", b"b", b"theirs, and longer\n"),
        *whole("ann", "push"),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "replace", b"b", b"mine\n"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "write", b"b", b"mine again\n"),
    )


def test_a_marker_that_a_killed_process_left_is_durable_before_the_root_is_recorded() -> None:
    """Otherwise a power loss leaves a root without its marker, which nobody may use any more."""
    for first in range(17, 22):
        hold(
            ("operation", "ann", "pull", "defer"),
            ("run", "ann", first),
            ("crash", "ann", None, 1),
            ("operation", "ann", "pull", "defer"),
            ("run", "ann", first + 3),
            ("crash", "ann", "none", 2),
        )


def test_a_file_deleted_again_while_it_is_pushed_stays_deleted() -> None:
    """Others had deleted the path before: their tombstone is no change that outlives a deletion."""
    hold(
        ("user", "ann", True, "write", b"a", b"before\n"),
        ("settle",),
        ("user", "bob", True, "delete", b"a"),
        ("settle",),
        ("user", "ann", True, "write", b"a", b"anew\n"),
        *whole("ann", "push"),
        ("user", "ann", True, "delete", b"a"),
    )


def test_a_file_written_over_its_own_deletion_and_moved_away_leaves_its_old_name() -> None:
    hold(
        ("user", "ann", True, "write", b"a", b"before\n"),
        ("settle",),
        ("user", "ann", True, "delete", b"a"),
        *whole("ann", "sync"),
        ("user", "ann", True, "write", b"a", b"anew\n"),
        *whole("ann", "sync"),
        ("user", "ann", True, "move", b"a", b"d/e"),
    )


@pytest.mark.parametrize("action", ["write", "replace"])
def test_an_edit_in_the_moment_in_which_attributes_are_set_is_seen(action: str) -> None:
    """Its times are overwritten: only its bytes tell it from what the fleet has."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("settle",),
        ("user", "bob", True, "chmod", b"a", 0o600, 0o700),
        *whole("bob", "push"),
        ("operation", "ann", "pull", "auto"),
        ("run", "ann", WHOLE, "", "tree"),
        ("user", "ann", True, action, b"a", b"other\n"),
    )


def test_a_file_that_takes_the_place_of_one_just_placed_is_seen_by_its_inode() -> None:
    """Size and time may be the same where the clock of the file system is coarse."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("user", "ann", True, "write", b"b", b"other\n"),
        *whole("ann", "push"),
        *whole("bob", "pull_part", b"b"),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE, "", "tree"),
        ("run", "bob", 1),
        ("user", "bob", True, "move", b"b", b"a"),
        tick_ns={"ann": 10_000_000_000, "bob": 10_000_000_000},
    )


def test_who_only_puts_back_what_another_went_on_from_has_lost_nothing() -> None:
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("settle",),
        ("user", "bob", True, "append", b"a", b"second\n"),
        ("user", "ann", True, "truncate", b"a"),
        ("user", "ann", True, "write", b"a", b"first\n"),
    )


def test_an_edit_that_a_power_loss_tore_under_a_temporary_name_is_kept_as_it_is() -> None:
    for salt in range(12):
        hold(
            ("user", "ann", True, "write", b"a", b"first, and longer\n"),
            ("settle",),
            ("user", "ann", True, "delete", b"a"),
            *whole("ann", "push"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", WHOLE, "", "tree"),
            ("user", "bob", False, "write", b"a", b"second\n"),
            ("run", "bob", 1),
            ("crash", "bob", "all", salt),
        )


def test_what_an_earlier_identity_left_under_temporary_names_is_looked_at() -> None:
    """Its state is laid aside with it; an edit in the last moment may lie there."""
    for salt in range(6):
        hold(
            ("user", "ann", True, "write", b"a", b"before, and longer\n"),
            ("settle",),
            ("user", "ann", True, "delete", b"a"),
            *whole("ann", "push"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", WHOLE, "", "tree"),
            ("user", "bob", True, "write", b"a", b"mine\n"),
            ("run", "bob", 1),
            ("crash", "bob", "all", salt),
            ("banish", "bob", "revoke"),
            ("run", "ann", WHOLE),
        )


def test_an_edit_within_the_tick_in_which_a_file_was_looked_at_is_not_taken_away() -> None:
    """Its user touched it, and its bytes are as they were: a write may leave the same stat."""
    for earlier in (0, 100):  # so that one of them falls within a tick
        hold(
            *[("user", "ann", True, "mkdir", b"b")] * earlier,
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            ("user", "ann", True, "delete", b"a"),
            *whole("ann", "push"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", 1),
            ("user", "bob", True, "touch", b"a"),
            ("run", "bob", WHOLE, "", "read"),
            ("run", "bob", WHOLE, "", "tree"),
            ("user", "bob", True, "write", b"a", b"mine!\n"),
            tick_ns={"bob": 10_000_000},
        )


@pytest.mark.parametrize("action", [("link", b"p", b"x"), ("write", b"p", b"instead\n")])
def test_a_directory_that_gave_way_to_a_file_is_seen_so_by_who_sees_a_part_of_the_push(
    action: tuple[bytes, ...],
) -> None:
    """Else the file stands above what was in the directory, and both are kept as a conflict."""
    hold(
        ("user", "ann", True, "write", b"p/x", b"1\n"),
        ("user", "ann", True, "write", b"p/y/z", b"2\n"),
        ("settle",),
        ("user", "bob", True, *action),
        ("operation", "bob", "push"),
        *[
            move
            for _ in range(6)
            for move in (
                ("run", "bob", WHOLE, "", "safe"),
                *whole("ann", "sync"),
            )
        ],
        sizes={"tcfs.sync.commit.PART_BYTES": 300},
    )


def test_an_edit_within_the_tick_of_one_that_was_read_at_the_second_look_is_sent() -> None:
    for earlier in (0, 100):  # so that one of them falls within a tick
        hold(
            *[("user", "ann", True, "mkdir", b"b")] * earlier,
            ("user", "bob", True, "write", b"a", b"1\n"),
            ("operation", "bob", "push"),
            ("run", "bob", WHOLE, "", "read"),
            ("user", "bob", True, "write", b"a", b"first\n"),
            ("run", "bob", WHOLE, "", "safe"),
            ("user", "bob", True, "write", b"a", b"other\n"),
            tick_ns={"bob": 10_000_000},
        )


def test_a_forked_control_chain_is_no_problem_any_more_once_its_device_is_revoked() -> None:
    """Both machines of a cloned identity acknowledged a snapshot; nobody could ever mend that."""
    hold(
        ("settle",),
        *whole("ann", "snapshot"),
        ("clone", "bob"),
        ("operation", "bob", "sync"),
        ("operation", "bob.twin", "sync"),
        ("run", "bob.twin", WHOLE, "", "safe"),
    )


def test_a_file_from_before_the_clock_was_put_back_hides_no_edit_within_a_tick() -> None:
    for earlier in (0, 100):  # so that one of them falls within a tick
        hold(
            *[("user", "ann", True, "mkdir", b"b")] * earlier,
            ("user", "bob", True, "write", b"c", b"long before\n"),
            ("clock", "bob", -3600.0),
            ("operation", "bob", "push"),
            ("user", "bob", True, "write", b"a", b"first\n"),
            ("run", "bob", WHOLE, "", "read"),
            ("run", "bob", WHOLE, "", "safe"),
            ("user", "bob", True, "write", b"a", b"other\n"),
            tick_ns={"bob": 10_000_000},
        )


def test_a_pack_that_a_device_had_sent_when_it_was_revoked_is_collected() -> None:
    """Its chain will never pass the segment that the pack was for."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("settle",),
        ("user", "bob", True, "write", b"a", b"second, in a pack of its own\n"),
        ("arm", "bob", "put", "late"),
        *whole("bob", "push"),
        ("user", "bob", True, "delete", b"a"),
        ("banish", "bob", "revoke"),
        ("run", "ann", WHOLE),
        ("tidy",),
        sizes={"tcfs.sync.upload.MAX_INLINE_PACK": 1},
    )


def test_an_edit_that_takes_a_name_while_a_folding_disk_looks_for_it_stands_beside_the_other() -> (
    None
):
    """Not under a name of its own, as if the two were spelt differently."""
    for steps in range(1, 12):
        hold(
            ("user", "ann", True, "write", b"p/y", b"first\n"),
            ("settle",),
            ("user", "ann", True, "delete", b"p/y"),
            *whole("ann", "push"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", WHOLE, "", "tree"),
            ("user", "bob", True, "write", b"p/y", b"second\n"),
            ("run", "bob", steps),
            ("user", "bob", True, "write", b"p/y", b"third\n"),
            naming={"bob": Naming(ignores_case=True)},
        )


def test_a_hint_after_a_rebuild_that_was_cut_off_does_not_fork_the_own_chain() -> None:
    for steps in range(17, 22):
        hold(
            ("user", "bob", True, "write", b"a", b"bob's\n"),
            *whole("bob", "push"),
            ("user", "ann", True, "write", b"a", b"ann's\n"),
            *whole("ann", "push"),
            ("operation", "bob", "rebuild"),
            ("run", "bob", steps),
            ("run", "bob", 1, "lost"),
            ("hint", "bob", (0,), False, ""),
        )


def test_a_directory_in_the_place_of_a_file_that_a_killed_pull_took_away_is_kept() -> None:
    """It took the place in the moment before, and something else the place it should go back to."""
    hold(
        ("user", "ann", True, "write", b"p/x", b"1\n"),
        ("user", "bob", True, "write", b"p/x/z", b"2\n"),
        ("operation", "bob", "push"),
        ("operation", "ann", "sync"),
        ("run", "bob", WHOLE, "", "tree"),
        ("run", "ann", WHOLE, "", "tree"),
        ("user", "ann", True, "append", b"p/x", b"3\n"),
        ("user", "ann", True, "copy", b"p/x", b"p/x/z"),
        ("run", "ann", WHOLE, "", "tree"),
        ("user", "ann", True, "link", b"p/x", b"a"),
        ("crash", "ann", "none", 1),
    )


def test_a_link_in_the_place_of_a_file_that_a_killed_pull_took_away_is_kept() -> None:
    outcome = replay(
        Setting(0),
        [
            ("user", "ann", True, "write", b"a", b"1\n"),
            ("settle",),
            ("user", "bob", True, "delete", b"a"),
            *whole("bob", "push"),
            ("operation", "ann", "pull", "auto"),
            ("run", "ann", WHOLE, "", "tree"),
            ("user", "ann", True, "link", b"a", b"elsewhere"),
            ("run", "ann", WHOLE, "", "tree"),
            ("user", "ann", True, "write", b"a", b"2\n"),
            ("crash", "ann", "none", 1),
        ],
        traced=True,
    )
    assert not outcome.failure, outcome.failure
    assert any("recovered.conflict" in line for line in outcome.trace), outcome.trace


def acknowledged(safe: int) -> list[Move]:
    """An acknowledgement is sent, the look after it fails, and a hint asks for another."""
    return [
        ("settle",),
        *whole("ann", "snapshot"),
        ("user", "ann", True, "write", b"a", b"1\n"),
        *whole("ann", "push"),
        ("operation", "bob", "pull", "auto"),
        *[("run", "bob", WHOLE, "", "safe")] * safe,
        ("arm", "bob", "list", "lost"),
        ("run", "bob", WHOLE),
        ("user", "ann", True, "write", b"a", b"2\n"),
        *whole("ann", "push"),
        ("hint", "bob", (0, 1), False, ""),
    ]


def test_a_segment_whose_event_was_lost_counts_before_what_was_built_on_it() -> None:
    """Else a deletion meets a version that it does not answer, and both are taken for settled."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("settle",),
        ("user", "cy", True, "write", b"a", b"second\n"),
        *whole("cy", "sync"),
        *whole("ann", "sync"),
        ("user", "ann", True, "delete", b"a"),
        *whole("ann", "push"),
        ("hint", "bob", (2,), False, ""),
        ("run", "bob", WHOLE),
        names=("ann", "bob", "cy"),
    )


def test_a_listing_that_fails_after_an_acknowledgement_was_sent_does_not_fork_the_own_chain() -> (
    None
):
    """The next one came by way of a hint, which asks for no listing, and took the same place."""
    for safe in range(4, 8):
        hold(*acknowledged(safe))


BEHIND_THE_HEAD: list[Move] = [
    ("user", "bob", True, "write", b"a", b"1\n"),
    ("settle",),
    ("clone", "bob"),
    ("user", "bob.twin", True, "write", b"a", b"the twin's\n"),
    ("operation", "bob.twin", "push"),
    ("run", "bob.twin", WHOLE, "", "safe"),
    ("run", "bob.twin", WHOLE, "", "safe"),
    ("run", "bob.twin", WHOLE, "", "safe"),
    *[
        move
        for text in (b"2\n", b"3\n")
        for move in (
            ("user", "bob", True, "write", b"a", text),
            *whole("bob", "push"),
            *whole("ann", "sync"),
        )
    ],
    ("run", "bob.twin", WHOLE),
]
"""A clone puts its segment when others have taken up two of the original that come before and after
it."""


def test_a_fork_behind_the_head_is_noticed_by_both_machines_and_by_all_others() -> None:
    hold(*BEHIND_THE_HEAD)


TWO_BRANCHES: list[Move] = [
    ("user", "bob", True, "write", b"a", b"1\n"),
    ("settle",),
    ("clone", "bob"),
    ("user", "bob", True, "write", b"a", b"bob's\n"),
    ("user", "bob.twin", True, "write", b"b", b"the twin's\n"),
    ("operation", "bob", "push"),
    *[("run", "bob", WHOLE, "", "safe")] * 3,
    *whole("bob.twin", "push"),
    *whole("ann", "sync"),
    ("run", "bob", WHOLE),
    ("hint", "cy", (3,), False, ""),
    ("run", "cy", WHOLE),
]
"""The admin takes up one branch, and another, by way of a hint, the other."""


def test_who_followed_the_branch_that_a_revocation_does_not_name_comes_back_to_the_other() -> None:
    """Else its tree differs from the others' for good."""
    hold(*TWO_BRANCHES, names=("ann", "bob", "cy"))


def test_nothing_takes_the_place_of_an_acknowledgement_that_could_not_be_sent() -> None:
    """It waits in the outbox; another control segment with its number would fork the own chain."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        *whole("ann", "sync"),
        *whole("ann", "compact"),
        ("operation", "bob", "snapshot"),
        ("arm", "bob", "put", "lost"),
        ("run", "bob", WHOLE),
        admins=2,
    )


def test_segments_that_an_admin_let_go_when_it_was_revoked_are_no_gap() -> None:
    """Its word that they are gone does not count; the snapshot that covers them does."""
    for steps in range(1, 12):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            *whole("ann", "push"),
            ("user", "ann", True, "write", b"a", b"second\n"),
            *whole("ann", "push"),
            *whole("ann", "compact"),
            *whole("bob", "snapshot"),
            *whole("ann", "sync"),
            ("banish", "bob", "expire", "ann"),
            ("run", "ann", WHOLE, "", "safe"),
            ("run", "ann", WHOLE, "", "safe"),
            ("operation", "bob", "compact"),
            *[("run", "bob", WHOLE, "", "safe")] * steps,
            admins=2,
        )


def test_a_save_of_the_same_bytes_is_not_durable_because_the_one_before_was() -> None:
    hold(
        ("user", "bob", False, "write", b"a", b"first\n"),
        *whole("bob", "push"),
        ("user", "bob", False, "write", b"a", b"first\n"),
        ("crash", "bob", "all", 63738444),
    )


@pytest.mark.parametrize("kind", [("mkdir", b"a"), ("write", b"a", b"same\n")])
def test_what_answers_two_equal_versions_that_a_push_found_knows_both(
    kind: tuple[bytes, ...],
) -> None:
    for steps in range(1, 6):
        hold(
            ("settle",),
            ("user", "ann", True, *kind),
            ("user", "bob", True, *kind),
            ("operation", "ann", "push"),
            *[("run", "ann", WHOLE, "", "safe")] * steps,
            *whole("bob", "push"),
            ("run", "ann", WHOLE),
            ("user", "cy", True, *kind),
            *whole("cy", "push"),
            ("user", "cy", True, "replace", b"a", b"other\n"),
            names=("ann", "bob", "cy"),
        )


@pytest.mark.parametrize("fault", [("commit", "full"), ("list", "lost")])
def test_a_control_segment_that_was_sent_is_known_whatever_fails_after_it(
    fault: tuple[str, str],
) -> None:
    """A daemon's next push looks at no listing before it signs another."""
    for steps in range(1, 6):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            *whole("ann", "snapshot"),
            ("operation", "bob", "pull", "auto"),
            *[("run", "bob", WHOLE, "", "safe")] * steps,
            ("arm", "bob", *fault),
            ("run", "bob", WHOLE),
            *whole("bob", "kept_push", b"a", True),
            *whole("ann", "snapshot"),
        )


def test_what_the_taking_of_a_snapshot_left_that_was_cut_off_is_collected() -> None:
    for steps in range(2, 6):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            ("operation", "ann", "snapshot"),
            *[("run", "ann", WHOLE, "", "safe")] * steps,
            ("crash", "ann", None, 1),
            ("tidy",),
        )


def test_a_snapshot_that_another_admin_is_taking_is_left_alone_by_collections() -> None:
    for steps in range(2, 6):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("settle",),
            ("operation", "bob", "snapshot"),
            *[("run", "bob", WHOLE, "", "safe")] * steps,
            *[
                move
                for name in ("ann", "cy", "ann", "cy", "ann")
                for move in (
                    ("operation", name, "gc"),
                    ("run", name, WHOLE),
                    ("operation", name, "sync"),
                    ("run", name, WHOLE),
                )
            ],
            ("run", "bob", WHOLE),
            ("tidy",),
            names=("ann", "bob", "cy"),
            admins=2,
        )


def test_a_save_of_the_very_bytes_that_are_replaced_stands_after_a_kill() -> None:
    """Only its time tells it from the file that a pull had displaced."""
    hold(
        ("user", "ann", True, "write", b"a", b"same 1\n"),
        ("settle",),
        ("user", "ann", True, "write", b"a", b"line\nline\n00008\n"),
        *whole("ann", "sync"),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "write", b"a", b"00009\n"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "write", b"a", b"same 1\n"),
        ("crash", "bob", None, 983451131),
    )


def test_who_rebuilds_a_long_history_and_is_cut_off_midway_acts_on_no_part_of_it() -> None:
    """Its own chain would go on in the middle, at the first hint."""
    for steps in range(6, 46, 4):
        hold(
            *[
                move
                for text in (b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n")
                for move in (
                    ("user", "bob", True, "write", b"a", text),
                    *whole("bob", "push"),
                )
            ],
            ("user", "bob", True, "write", b"a", b"bob's\n"),
            ("user", "ann", True, "write", b"a", b"ann's\n"),
            *whole("ann", "push"),
            ("operation", "bob", "rebuild"),
            ("run", "bob", steps),
            ("crash", "bob", "none", steps),
            ("user", "ann", True, "write", b"a", b"ann's again\n"),
            *whole("ann", "push"),
            ("hint", "bob", (0,), False, ""),
            ("run", "bob", WHOLE),
            sizes={"tcfs.sync.receive.PART_BYTES": 1},
        )


def test_who_comes_back_from_a_branch_sends_anew_what_only_that_branch_had() -> None:
    """Nobody else needs to know that branch, and what is stored inside its segments."""
    for seed in (3, 4):  # which says who syncs first in the end
        hold(
            ("operation", "bob", "push"),
            ("clone", "cy"),
            ("user", "cy", True, "write", b"a", b"cy's, which bob takes up\n"),
            ("operation", "cy", "push"),
            ("user", "cy.twin", True, "write", b"a", b"the twin's\n"),
            ("operation", "cy.twin", "push"),
            *[("run", "cy.twin", WHOLE, "", "safe")] * 3,
            ("operation", "ann", "sync"),
            ("run", "cy", WHOLE, "", "tree"),
            ("run", "bob", WHOLE),
            ("run", "cy.twin", WHOLE, "", "tree"),
            ("run", "ann", WHOLE),
            ("hint", "ann", (17, 9), False, ""),
            seed=seed,
            names=("ann", "bob", "cy"),
        )


def test_a_clone_that_fell_behind_a_compaction_notices_that_it_is_one() -> None:
    """Its last segment is gone from the store; that is not all there is to say."""
    hold(
        ("user", "bob", True, "write", b"b", b"1\n"),
        ("settle",),
        ("clone", "bob"),
        ("user", "bob", True, "write", b"b", b"2\n"),
        *whole("bob", "sync"),
        *whole("ann", "snapshot"),
        *whole("bob", "sync"),
        *whole("ann", "compact"),
        sizes={"tcfs.sync.upload.MAX_INLINE_PACK": 40},
    )


def test_a_move_that_a_power_loss_took_back_need_not_stand() -> None:
    for salt in range(12):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("user", "ann", True, "write", b"p/x", b"second\n"),
            ("settle",),
            ("user", "bob", True, "write", b"a", b"bob's\n"),
            ("user", "bob", True, "write", b"p", b"bob's, too\n"),
            ("user", "ann", False, "cycle", b"a", b"p"),
            ("operation", "ann", "pull", "auto"),
            ("crash", "ann", "ordered", salt),
        )


def test_a_clone_has_a_place_for_its_state_after_a_power_loss() -> None:
    hold(
        ("user", "bob", True, "write", b"a", b"first\n"),
        ("settle",),
        ("clone", "bob"),
        ("crash", "bob.twin", "none", 1),
    )


def test_a_fork_of_an_identity_that_was_let_go_meanwhile_is_nothing_to_notice() -> None:
    """What let it go says which branch stands."""
    for steps in range(3, 7):
        hold(
            ("clone", "bob"),
            ("user", "bob", True, "write", b"a", b"bob's\n"),
            ("user", "bob.twin", True, "write", b"b", b"the twin's\n"),
            ("operation", "bob.twin", "push"),
            *[("run", "bob.twin", WHOLE, "", "safe")] * steps,
            *whole("bob", "push"),
            ("banish", "bob", "expire", "ann"),
            ("run", "ann", WHOLE),
        )
