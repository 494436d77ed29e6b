"""The naive model says no to each thing that must never be."""

from __future__ import annotations

import pytest
from blake3 import blake3

from tests.sim.model import Model, Violation
from tests.sim.users import Entry, Tree


def file(data: bytes, mode: int = 0o644) -> Entry:
    return Entry("file", mode, 1, data)


OLD: Tree = {b"a": file(b"old"), b"b": file(b"other")}


@pytest.fixture
def model() -> Model:
    """Two files that everybody has."""
    made = Model()
    made.user_changed("ann", {}, OLD)
    made.check_quiet({"ann": OLD, "bob": OLD})
    return made


def quiet(model: Model, tree: Tree) -> None:
    model.check_quiet({"ann": tree, "bob": tree})


def test_trees_that_differ_are_a_violation(model: Model) -> None:
    with pytest.raises(Violation, match="differ"):
        model.check_quiet({"ann": OLD, "bob": {b"a": OLD[b"a"]}})


def test_a_content_that_nobody_saved_is_a_violation(model: Model) -> None:
    with pytest.raises(Violation, match="nobody saved"):
        quiet(model, OLD | {b"a": file(b"\0\0\0")})


def test_a_path_that_nobody_touched_stays_as_it_was(model: Model) -> None:
    with pytest.raises(Violation, match="nobody touched"):
        quiet(model, {b"a": OLD[b"a"]})


def test_a_conflict_copy_comes_from_a_conflict_only(model: Model) -> None:
    with pytest.raises(Violation, match="nobody touched"):
        quiet(model, OLD | {b"a.conflict-bob": file(b"old")})


def test_a_conflict_of_two_users_may_leave_a_copy(model: Model) -> None:
    model.user_changed("ann", OLD, OLD | {b"a": file(b"1")})
    model.user_changed("bob", OLD, OLD | {b"a": file(b"2")})
    quiet(model, OLD | {b"a": file(b"1"), b"a.conflict-bob": file(b"2")})


def test_a_deletion_that_comes_back_is_a_violation(model: Model) -> None:
    model.user_changed("ann", OLD, {b"b": OLD[b"b"]})
    with pytest.raises(Violation, match="came back"):
        quiet(model, OLD)


def test_the_work_of_a_single_user_is_not_undone(model: Model) -> None:
    model.user_changed("ann", OLD, OLD | {b"a": file(b"new")})
    with pytest.raises(Violation, match="alone"):
        quiet(model, OLD)


def test_an_edit_that_outlives_a_deletion_is_fine(model: Model) -> None:
    model.user_changed("ann", OLD, {b"b": OLD[b"b"]})
    model.user_changed("bob", OLD, OLD | {b"a": file(b"edit")})
    quiet(model, OLD | {b"a": file(b"edit")})


def test_what_is_owed_must_be_in_a_tree_or_in_the_history(model: Model) -> None:
    model.owe(b"old", "it was pushed")
    model.check_kept([OLD], set())
    model.check_kept([{}], {b"old"})
    with pytest.raises(Violation, match="lost"):
        model.check_kept([{}], set())


def test_what_a_power_loss_took_from_a_careless_user_is_not_owed(model: Model) -> None:
    model.user_changed("ann", OLD, OLD | {b"a": file(b"unsynced")})
    model.power_failed(OLD | {b"a": file(b"unsynced")}, OLD, {b"unsynced"})
    model.check_kept([OLD], set())


def test_what_was_durable_before_a_power_loss_is_owed(model: Model) -> None:
    model.power_failed(OLD, {b"b": OLD[b"b"]}, set())
    with pytest.raises(Violation, match="durable"):
        model.check_kept([{}], set())


def test_what_came_back_after_a_power_loss_is_its_users_to_edit(model: Model) -> None:
    model.power_failed(OLD, {b"b": OLD[b"b"]}, set())
    back = {b"b": OLD[b"b"], b"recovered": OLD[b"a"]}
    model.user_changed("ann", back, back | {b"recovered": file(b"edited")})
    model.check_kept([{}], set())


def test_what_was_sent_is_owed_whatever_became_of_it_in_a_tree(model: Model) -> None:
    model.power_failed(OLD, {b"b": OLD[b"b"]}, set())
    model.owe(OLD[b"a"].data, "it was pushed")
    back = {b"b": OLD[b"b"], b"recovered": OLD[b"a"]}
    model.user_changed("ann", back, back | {b"recovered": file(b"edited")})
    with pytest.raises(Violation, match="lost"):
        model.check_kept([{}], set())


def test_of_two_concurrent_edits_both_stand(model: Model) -> None:
    model.user_changed("ann", OLD, OLD | {b"a": file(b"1")})
    model.user_changed("bob", OLD, OLD | {b"a": file(b"2")})
    with pytest.raises(Violation, match="replaced by no user"):
        quiet(model, OLD | {b"a": file(b"1")})


def test_an_edit_that_another_user_saw_and_replaced_need_not_stand(model: Model) -> None:
    edited = OLD | {b"a": file(b"1")}
    model.user_changed("ann", OLD, edited)
    model.user_changed("bob", edited, OLD | {b"a": file(b"2")})
    quiet(model, OLD | {b"a": file(b"2")})


def test_putting_back_what_another_replaced_is_no_edit_of_its_own(model: Model) -> None:
    bob = OLD | {b"a": file(b"bob's")}
    model.user_changed("bob", OLD, bob)
    model.user_changed("ann", OLD, OLD | {b"a": file(b"ann's")})
    model.user_changed("ann", OLD | {b"a": file(b"ann's")}, OLD)
    quiet(model, bob)


def test_putting_back_what_another_replaced_before_ones_eyes_stands(model: Model) -> None:
    bob = OLD | {b"a": file(b"bob's")}
    model.user_changed("bob", OLD, bob)
    model.user_changed("ann", bob, OLD)
    with pytest.raises(Violation, match="in no file"):
        quiet(model, bob)


def test_two_copies_that_two_users_took_away_are_lost_to_nobody(model: Model) -> None:
    twice = OLD | {b"c": file(b"old")}
    model.user_changed("ann", OLD, twice)
    quiet(model, twice)
    bob = twice | {b"a": file(b"bob's")}
    model.user_changed("bob", twice, bob)
    model.user_changed("ann", twice, OLD)
    quiet(model, OLD | {b"a": file(b"bob's")})


def test_putting_back_what_nobody_else_replaced_stands(model: Model) -> None:
    mine = OLD | {b"a": file(b"ann's")}
    model.user_changed("ann", OLD, mine)
    model.user_changed("ann", mine, OLD)
    with pytest.raises(Violation, match="alone"):
        quiet(model, mine)


def test_what_stood_in_two_places_and_was_given_up_in_each_by_one_who_saw_it_may_go(
    model: Model,
) -> None:
    both = {b"a": file(b"same"), b"b": file(b"same")}
    model.user_changed("ann", OLD, both)
    quiet(model, both)
    model.user_changed("ann", both, both | {b"a": file(b"1")})
    model.user_changed("bob", both, both | {b"b": file(b"2")})
    quiet(model, {b"a": file(b"1"), b"b": file(b"2")})


def test_of_two_edits_at_once_the_one_of_the_first_name_has_the_path(model: Model) -> None:
    model.by_name = True
    model.user_changed("ann", OLD, OLD | {b"a": file(b"1")})
    model.user_changed("bob", OLD, OLD | {b"a": file(b"2")})
    copy = b"a.conflict-bob"
    quiet(model, OLD | {b"a": file(b"1"), copy: file(b"2")})
    model.user_changed("ann", OLD, OLD | {b"b": file(b"3")})
    model.user_changed("bob", OLD, OLD | {b"b": file(b"4")})
    agreed = OLD | {b"a": file(b"1"), copy: file(b"2")}
    with pytest.raises(Violation, match="whose name comes first"):
        quiet(model, agreed | {b"b": file(b"4"), b"b.conflict-ann": file(b"3")})


def test_the_history_holds_what_users_saved_and_the_deletions_of_users(model: Model) -> None:
    model.user_changed("ann", OLD, OLD | {b"n": file(b"new")})
    model.user_changed("ann", OLD | {b"n": file(b"new")}, OLD)
    saved = blake3(b"new").digest()
    model.check_history([(b"n", saved, False), (b"n", b"", True)])
    with pytest.raises(Violation, match="nobody saved"):
        model.check_history([(b"n", blake3(b"torn").digest(), False)])
    with pytest.raises(Violation, match="nobody did"):
        model.check_history([(b"a", b"", True)])
