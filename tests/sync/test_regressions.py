"""What the state machine found, each as the shortest story that showed it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sync.naive import NAMES, Device, NaiveFleet


@pytest.fixture
def world() -> Iterator[NaiveFleet]:
    """Two devices that may write."""
    with NaiveFleet(NAMES[:2]) as fleet:
        yield fleet


@pytest.fixture
def ann(world: NaiveFleet) -> Device:
    return world.devices[0]


@pytest.fixture
def bob(world: NaiveFleet) -> Device:
    return world.devices[1]


def test_a_path_below_a_file_is_asked_about_as_if_nothing_were_there(
    world: NaiveFleet, ann: Device
) -> None:
    ann.write(b"p/x", b"1")
    ann.push()
    assert not ann.resolve(b"p/x/z", "keep_remote")
    world.settle()


def test_a_pull_never_looks_behind_a_symlink_that_took_a_directorys_place(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/x", b"1")
    world.settle()
    bob.move(b"p", b"q")
    bob.link(b"p", b"q")
    ann.delete(b"p/x")
    ann.push()
    bob.pull()
    assert bob.snapshot()[b"q/x"].data == b"1"
    world.settle()
    world.check()


def test_verifying_never_looks_below_a_symlink_that_took_a_directorys_place(ann: Device) -> None:
    ann.write(b"p/x", b"1")
    ann.push()
    ann.link(b"p", b"p/x")
    assert ann.fleet.verify(local=True).problems == ()


def test_a_conflict_that_was_deferred_is_settled_by_a_later_pull_in_mode_auto(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p", b"1")
    bob.write(b"p", b"2")
    bob.push()
    ann.pull("defer")
    bob.pull("defer")
    assert bob.pull("auto").resolved == ("p",)
    world.settle()
    world.check()


def test_equal_bytes_that_two_devices_wrote_end_with_one_time(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"c", b"")
    bob.write(b"c", b"")
    bob.push()
    ann.push()
    world.settle()
    world.check()


def test_a_push_forgets_nothing_that_a_pull_has_yet_to_do(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p", b"1")
    bob.write(b"p", b"2")
    bob.push()
    ann.pull("defer")
    bob.pull("defer")
    # Its times change and nothing else: there is nothing to send, and the conflict still stands.
    bob.chmod(b"p", True)
    bob.chmod(b"p", False)
    assert bob.push().segment == ""
    assert bob.pull("auto").resolved == ("p",)
    world.settle()
    world.check()


def test_a_directory_that_a_concurrent_file_outlived_is_deleted_with_that_file(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/x", b"1")
    world.settle()
    ann.delete(b"p")
    ann.push()
    bob.write(b"p/y", b"2")
    bob.push()
    # Nobody has p in the fleet now, and both have it on disk, for p/y.
    ann.pull()
    bob.pull()
    bob.delete(b"p/y")
    bob.push()
    world.settle()
    world.check()
    ann.delete(b"p")
    world.settle()
    world.check()
    assert b"p" not in bob.snapshot()


def test_a_directory_that_only_a_pull_needed_goes_with_what_was_in_it() -> None:
    with NaiveFleet((*NAMES[:2], NAMES[-1])) as world:
        ann, bob, reader = world.devices
        ann.write(b"p/x", b"1")
        world.settle()
        ann.delete(b"p")
        ann.push()
        bob.write(b"p/y", b"2")
        bob.push()
        reader.pull()
        bob.delete(b"p")
        bob.push()
        reader.pull()
        assert reader.snapshot() == {}
        world.settle()
        world.check()


def test_a_deleted_directory_that_is_kept_for_excluded_files_is_not_brought_back(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/x", b"1")
    world.settle()
    bob.write(b"p/notes.swp", b"an editor's")
    ann.delete(b"p")
    ann.push()
    bob.pull()
    assert bob.push().plan.total == 0
    assert b"p/notes.swp" in bob.snapshot()
    ann.pull()
    assert b"p" not in ann.snapshot()


def test_a_directory_that_is_kept_for_one_that_is_kept_is_not_brought_back_either(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/q/x", b"1")
    world.settle()
    bob.write(b"p/q/notes.swp", b"an editor's")
    ann.delete(b"p")
    ann.push()
    bob.pull()
    assert bob.push().plan.total == 0
    assert b"p/q/notes.swp" in bob.snapshot()
    ann.pull()
    assert ann.snapshot() == {}
    # Once its user puts something synced there, all of it is in the fleet again.
    bob.write(b"p/q/y", b"2")
    bob.push()
    ann.pull()
    assert ann.snapshot().keys() == {b"p", b"p/q", b"p/q/y"}


def test_a_directory_is_brought_back_with_an_empty_one_in_it(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/q/x", b"1")
    world.settle()
    bob.write(b"p/notes.swp", b"an editor's")
    bob.write(b"p/q/notes.swp", b"another")
    ann.delete(b"p")
    ann.push()
    bob.pull()
    bob.delete(b"p/q/notes.swp")
    bob.push()
    ann.pull()
    assert ann.snapshot().keys() == {b"p", b"p/q"}


def test_a_directory_deleted_here_that_must_hold_a_new_file_can_be_deleted_again(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/x", b"1")
    ann.chmod(b"p", True)
    world.settle()
    bob.delete(b"p")
    ann.write(b"p/y", b"2")
    ann.push()
    world.settle()
    assert bob.snapshot().keys() == {b"p", b"p/y"}
    bob.delete(b"p")
    world.settle()
    world.check()
    assert ann.snapshot() == {}


def test_directories_above_a_part_that_is_pulled_alone_are_the_fleets(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.write(b"p/q/x", b"1")
    ann.write(b"p/y", b"2")
    ann.chmod(b"p", True)
    ann.push()
    bob.pull_part(b"p/q/x")
    assert bob.snapshot()[b"p"].mode == 0o700
    assert bob.push().plan.total == 0
    world.settle()
    world.check()


@pytest.mark.parametrize("who", [0, 1])
def test_a_change_of_mode_or_time_here_and_an_edit_there_are_no_choice(
    world: NaiveFleet, who: int
) -> None:
    one, other = world.devices[who], world.devices[1 - who]
    for name in (b"a", b"b"):
        one.write(name, b"before")
    world.settle()
    one.chmod(b"a", True)
    one.touch(b"b")
    for name in (b"a", b"b"):
        other.write(name, b"after")
    one.push()
    other.push()
    world.settle()
    world.check()
    tree = one.snapshot()
    assert tree.keys() == {b"a", b"b"}
    assert (tree[b"a"].data, tree[b"a"].mode) == (b"after", 0o600)
    assert (tree[b"b"].data, tree[b"b"].mode) == (b"after", 0o644)


def test_two_modes_for_one_directory_are_settled_by_what_each_device_changed(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    ann.mkdir(b"d")
    world.settle()
    ann.chmod(b"d", True)
    ann.push()
    bob.write(b"d/x", b"1")
    bob.push()
    world.settle()
    world.check()
    assert bob.snapshot()[b"d"].mode == 0o700


def test_a_conflict_below_what_is_a_file_here_can_be_asked_about() -> None:
    with NaiveFleet(NAMES[:3]) as fleet:
        one, other, third = fleet.devices
        one.write(b"p/x", b"1")
        other.write(b"p/x", b"2")
        one.push()
        other.push()
        third.write(b"p", b"3")
        third.push()
        assert not third.resolve(b"p/x", "keep_local")
        fleet.settle()
        fleet.check()


def test_an_edit_that_is_taken_back_before_it_is_sent_no_longer_outlives_a_removal(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    """Nobody had asked again, and the directory stayed on the disk of its maker alone."""
    ann.write(b"p/x/z", b"1")
    world.settle()
    ann.move(b"p/x", b"a")
    ann.push()
    bob.write(b"p/x", b"2")
    bob.pull()
    bob.mkdir(b"p/x")
    world.settle()
    world.trees_are_equal()
    assert bob.snapshot()[b"a/z"].data == b"1"


def test_a_conflict_copy_is_written_again_for_bytes_whose_copy_is_being_removed(
    world: NaiveFleet, ann: Device, bob: Device
) -> None:
    """The copy of an earlier conflict counted, though its removal was still to be sent."""
    bob.write(b"p/z", b"same")
    ann.write(b"p/z", b"ann's")
    ann.push()
    bob.sync()
    assert bob.snapshot()[b"p/z.conflict-bob"].data == b"same"
    ann.pull()
    ann.write(b"p/z", b"ann's again")
    ann.push()
    bob.delete(b"p/z.conflict-bob")
    bob.write(b"p/z", b"same")
    bob.pull()
    world.settle()
    world.check()
    assert bob.snapshot()[b"p/z.conflict-bob"].data == b"same"
    assert bob.snapshot()[b"p/z"].data == b"ann's again"
