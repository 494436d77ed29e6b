"""How a path stands, in the words that front ends show."""

from __future__ import annotations

import os

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.store.open import open_store
from tcfs.store.wrappers.fault import FaultStore
from tests.sync.kit import Device, Link, World, path_of


def state(device: Device, name: str) -> str:
    """By its local path, which must agree with its remote one."""
    local = device.fleet.path_status(device.path(name))
    remote = device.fleet.path_status(os.fsencode(name))
    assert local.state == remote.state
    return local.state


def test_a_path_stands_as_it_does(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    anna.fill({"same.txt": "s", "d/x.txt": "x", "l": Link("same.txt"), "empty": b""})
    anna.push()
    assert state(ben, "same.txt") == "not_present"
    ben.pull()
    for name in ("same.txt", "d", "d/x.txt", "l", "empty"):
        assert state(anna, name) == state(ben, name) == "up_to_date", name
    ben.fill({"new.txt": "n"})
    assert state(ben, "never.txt") == "not_tracked"

    anna.fill({"same.txt": "edited"})
    assert state(anna, "same.txt") == "local_newer"
    anna.push()
    assert state(anna, "same.txt") == "up_to_date"
    assert state(ben, "same.txt") == "remote_newer"
    ben.fill({"same.txt": "edited too"})
    assert state(ben, "same.txt") == "conflict"
    ben.push()
    assert state(ben, "same.txt") == state(anna, "same.txt") == "conflict"
    assert state(anna, "d") == "up_to_date"


def test_links_modes_times_and_deletions_show_in_a_paths_state(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"l": Link("one"), "m.txt": "m", "e": b"", "gone.txt": "g"})
    anna.push()
    ben.pull()
    anna.remove("l")
    anna.fill({"l": Link("two")})
    os.chmod(anna.path("m.txt"), 0o700)
    anna.remove("gone.txt")
    anna.remove("e")
    for name in ("l", "m.txt", "gone.txt", "e"):
        assert state(anna, name) == "local_newer", name
    anna.push()
    for name in ("l", "m.txt", "gone.txt", "e"):
        assert state(ben, name) == "remote_newer", name
    ben.pull()
    for name in ("l", "m.txt"):
        assert state(anna, name) == state(ben, name) == "up_to_date"
    for name in ("gone.txt", "e"):
        assert state(anna, name) == state(ben, name) == "not_present"


def test_a_directory_is_as_new_as_what_is_in_it(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "a"})
    anna.push()
    ben.pull()
    anna.fill({"d/a.txt": "edited"})
    assert state(anna, "d") == "local_newer"
    anna.push()
    assert state(ben, "d") == "remote_newer"
    assert ben.fleet.path_status(path_of(ben.tree)).state == "remote_newer"
    ben.pull()
    assert state(ben, "d") == "up_to_date"


def test_a_paths_state_tells_its_version(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "hello"})
    anna.push()
    found = ben.fleet.path_status(b"a.txt")
    assert (found.size, found.device, found.chunks) == (5, "anna", 1)
    assert found.remote == "tcfs/default/a.txt"
    assert len(found.file_hash) == 64
    assert list(found.vclock.values()) == [1]


def test_status_sums_up_this_device(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    for device in (anna, ben):
        device.fill({"a.txt": device.name})
        device.push()
    found = ben.fleet.status()
    assert (found.device_name, found.role, found.devices) == ("ben", "writer", 2)
    assert (found.conflicts, found.outbox, found.encryption) == (1, 0, True)
    (root,) = found.roots
    assert (root.is_sync_root, root.tracked, root.remote) == (True, 1, "tcfs/default")
    assert found.warnings == ()
    assert any("phrase" in warning for warning in anna.fleet.status().warnings)


def test_a_store_that_cannot_be_reached_is_a_warning_of_status(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    anna.close()
    anna.fleet.status()
    down = [False]

    def fail(operation: Operation, moment: Moment) -> None:
        if down[0]:
            raise StoreError("the line is down")

    fleet = anna.reopen(store=FaultStore(open_store(world.endpoint), FaultPlan(fail)))
    down[0] = True
    assert any("cannot be reached" in warning for warning in fleet.status().warnings)
    # What is known here is shown all the same.
    assert [v.path for v in fleet.log().versions] == ["a.txt"]
    with pytest.raises(StoreError):
        fleet.push([])


def test_the_content_of_a_remote_path_can_be_read_without_pulling_it(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "hello there", "b.bin": b"\0\1\2"})
    anna.push()
    text = ben.fleet.read("a.txt", max_bytes=5)
    assert (text.text, text.truncated, text.binary) == ("hello", True, False)
    assert ben.fleet.read("b.bin", max_bytes=100).binary
    assert ben.contents() == {}


def test_paths_are_completed_from_what_is_known(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"docs/a.txt": "a", "docs/b.txt": "b", "other": "o", b"docs/\xff": "x"})
    anna.push()
    assert anna.fleet.complete_paths("docs/") == ["docs/a.txt", "docs/b.txt", "docs/\\xff"]
    assert anna.fleet.complete_paths("") == ["docs", *anna.fleet.complete_paths("docs/"), "other"]


def test_a_new_file_where_the_fleet_has_another_is_a_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    ben.fill({"b.txt": "b"})
    ben.push()
    anna.fill({"a.txt": "from anna"})
    anna.push()
    ben.fill({"a.txt": "from ben"})
    assert state(ben, "a.txt") == "conflict"
    ben.remove("a.txt")
    assert state(ben, "a.txt") == "not_present"
    anna.remove("a.txt")
    anna.push()
    ben.fill({"a.txt": "from ben, later"})
    assert state(ben, "a.txt") == "not_tracked"
