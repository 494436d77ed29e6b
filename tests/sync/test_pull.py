"""Pull: the fleet's tree on disk, and nothing of the disk's own lost on the way."""

from __future__ import annotations

import os

import pytest

from tcfs.errors import UsageError
from tests.sync.kit import World, assert_same, path_of, snapshot


def test_directories_get_their_times_on_the_first_pull(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/e/f.txt": "f", "g/": None})
    for name, when in ((b"g", 1_000_000_001), (b"d/e", 2_000_000_002), (b"d", 3_000_000_003)):
        os.utime(anna.path(name), ns=(when, when))
    anna.push()
    ben.pull()
    ours, theirs = (snapshot(d.tree, directory_times=True) for d in (anna, ben))
    for name in (b"d", b"d/e", b"g"):
        assert ours[name] == theirs[name]


def test_read_only_directories_are_made_and_their_content_with_them(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"ro/a.txt": "a", "ro/sub/b.txt": "b"})
    os.chmod(anna.path("ro/sub"), 0o555)
    os.chmod(anna.path("ro"), 0o555)
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_a_directory_deleted_in_the_fleet_stays_with_what_is_not_synced_in_it(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "a"})
    anna.push()
    ben.pull()
    ben.fill({"d/only-here.swp": "excluded, and the only copy"})
    anna.remove("d/a.txt")
    os.rmdir(anna.path("d"))
    anna.push()

    assert ben.pull().problems == ()

    assert ben.contents() == {"d/only-here.swp": b"excluded, and the only copy"}
    # It is not brought back into the fleet by its mere existence.
    ben.push()
    anna.pull()
    assert not os.path.exists(anna.path("d"))
    # And still nothing after another round.
    ben.sync()
    anna.sync()
    assert not os.path.exists(anna.path("d"))


def test_a_directory_deleted_in_the_fleet_comes_back_with_a_new_file_in_it(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "a"})
    anna.push()
    ben.pull()
    ben.fill({"d/new.txt": "new on ben"})
    anna.remove("d/a.txt")
    os.rmdir(anna.path("d"))
    anna.push()

    ben.pull()
    assert ben.contents() == {"d/new.txt": b"new on ben"}
    ben.push()
    anna.pull()

    assert anna.contents() == {"d/new.txt": b"new on ben"}
    assert_same(anna.tree, ben.tree)


def test_a_directory_kept_for_what_is_in_it_goes_once_that_is_gone(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "a"})
    anna.push()
    ben.pull()
    ben.fill({"d/x.swp": "x"})
    anna.remove("d/a.txt")
    os.rmdir(anna.path("d"))
    anna.push()
    ben.pull()
    ben.remove("d/x.swp")
    os.rmdir(ben.path("d"))
    assert ben.push().segment == ""
    assert_same(anna.tree, ben.tree)


def test_part_of_the_tree_can_be_pulled_and_the_rest_later(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a/x.txt": "x", "b/y.txt": "y"})
    anna.push()
    ben.fleet.pull("a")
    assert ben.contents() == {"a/x.txt": b"x"}
    # What was not pulled is not deleted by a push.
    assert ben.push().plan.counts == {}
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_a_file_is_not_pulled_over_a_directory_and_the_other_way_round(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "d/b.txt": "b"})
    anna.push()
    ben.fill({"in/the/way.txt": "w"})
    file = world.top / "file"
    file.write_bytes(b"mine")
    with pytest.raises(UsageError):
        ben.fleet.pull("d", path_of(file))
    assert file.read_bytes() == b"mine"


def test_a_new_local_file_where_the_fleet_has_a_directory(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x/in.txt": "inside"})
    anna.push()
    ben.fill({"x": "a file of ben's"})

    ben.sync()
    anna.sync()
    ben.sync()

    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"x/in.txt": b"inside", "x.conflict-ben": b"a file of ben's"}


def test_a_new_local_directory_where_the_fleet_has_a_file(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x": "a file of anna's"})
    anna.push()
    ben.fill({"x/in.txt": "inside"})

    ben.sync()
    anna.sync()
    ben.sync()
    anna.sync()

    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"x/in.txt": b"inside", "x.conflict-anna": b"a file of anna's"}


def test_a_file_edited_here_and_replaced_by_a_directory_there(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x": "a file"})
    anna.push()
    ben.pull()
    anna.remove("x")
    anna.fill({"x/in.txt": "inside"})
    anna.push()
    ben.fill({"x": "edited by ben"})

    for device in (ben, anna, ben, anna):
        device.sync()

    assert_same(anna.tree, ben.tree)
    found = anna.contents()
    assert found.pop("x/in.txt") == b"inside"
    assert list(found.values()) == [b"edited by ben"]


def test_a_directory_edited_inside_here_and_replaced_by_a_file_there(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x/in.txt": "inside"})
    anna.push()
    ben.pull()
    anna.remove("x/in.txt")
    os.rmdir(anna.path("x"))
    anna.fill({"x": "a file now"})
    anna.push()
    ben.fill({"x/in.txt": "edited by ben", "x/new.txt": "new"})

    for device in (ben, anna, ben, anna):
        device.sync()

    assert_same(anna.tree, ben.tree)
    found = anna.contents()
    assert sorted(found.values()) == [b"a file now", b"edited by ben", b"new"]


def test_a_path_that_was_left_out_by_an_earlier_pull_is_pulled_later(world: World) -> None:
    """A directory that could not be made room for is taken up again by the next pull."""
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    anna.fill({"x/in.txt": "inside"})
    anna.push()
    ben.fill({"x": "mine"})
    pulled = ben.pull()
    assert ben.contents() == {"x": b"mine"}
    assert pulled.conflicts != () or pulled.problems != ()
    ben.remove("x")
    ben.pull()
    assert ben.read("x/in.txt") == b"inside"


def test_excluded_names_in_the_fleet_are_still_pulled(world: World) -> None:
    """An exclude keeps local paths out of pushes; what others sent is theirs to decide."""
    anna = world.device("anna", TCFS_SYNC_EXCLUDE_PATTERNS="*.none")
    ben = world.device("ben", TCFS_SYNC_EXCLUDE_PATTERNS="*.log")
    anna.fill({"a.log": "a"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"a.log": b"a"}
    anna.fill({"a.log": "b"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"a.log": b"b"}


def test_a_local_edit_of_an_excluded_name_is_not_lost_to_a_pull(world: World) -> None:
    anna = world.device("anna", TCFS_SYNC_EXCLUDE_PATTERNS="*.none")
    ben = world.device("ben", TCFS_SYNC_EXCLUDE_PATTERNS="*.log")
    anna.fill({"a.log": "one"})
    anna.push()
    ben.pull()
    ben.fill({"a.log": "edited by ben"})
    anna.fill({"a.log": "two"})
    anna.push()
    ben.pull()
    everything = set(ben.contents().values())
    assert b"edited by ben" in everything


def test_a_pull_that_has_nothing_to_do_reads_no_file(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    again = ben.pull()
    assert again.plan.total == 0
    assert again.transfer.bytes_received == 0
