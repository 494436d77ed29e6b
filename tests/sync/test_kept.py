"""Enrolling directories, pushing parts of them, and waiting for a daemon's turn."""

from __future__ import annotations

import os
import threading
import time

import pytest

from tcfs.errors import BusyError, LocalFileError, NotFoundError, UsageError
from tcfs.host.lock import file_lock
from tcfs.host.posix import PosixFileSystem
from tcfs.model.ids import RelPath
from tcfs.sync.kept import KeptRoot
from tcfs.sync.patience import DAEMON_LOCK
from tests.sync.kit import Device, World, fill, path_of


def rooted(device: Device, name: str = "proj", **options) -> tuple[bytes, KeptRoot]:
    directory = device.world.top / device.name / name
    directory.mkdir(exist_ok=True)
    device.fleet.roots.add(os.fsencode(directory), **options)
    local = os.path.realpath(os.fsencode(directory))
    return local, next(one for one in device.fleet.keeper.roots() if one.local == local)


@pytest.fixture
def pair(world: World) -> list[Device]:
    """Two devices without a sync root."""
    return world.devices("anna", "ben", TCFS_SYNC_SYNC_ROOT="")


def test_several_roots_go_where_they_were_enrolled(pair: list[Device]):
    anna, ben = pair
    for name in ("one", "two"):
        local, kept = rooted(anna, name, as_remote=f"work/{name}")
        fill(local, {"f.txt": name})
        anna.fleet.keeper.push(kept, None)
    local, kept = rooted(ben, "theirs", as_remote="work/two")
    ben.fleet.keeper.receive()
    ben.fleet.keeper.pull(kept, "auto")
    assert set(os.listdir(local)) == {b".tcfs", b"f.txt"}
    with open(path_of(local, "f.txt")) as file:
        assert file.read() == "two"
    infos = anna.fleet.roots.list()
    assert [(i.remote, i.present, i.is_sync_root) for i in infos] == [
        ("tcfs/default/work/one", True, False),
        ("tcfs/default/work/two", True, False),
    ]


def test_what_a_root_leaves_out_is_left_out_of_it_alone(pair: list[Device]):
    anna = pair[0]
    quiet, quiet_kept = rooted(anna, "quiet", exclude=["*.log"])
    loud, loud_kept = rooted(anna, "loud")
    for local, kept in ((quiet, quiet_kept), (loud, loud_kept)):
        fill(local, {"a.log": "x", "a.txt": "x"})
        anna.fleet.keeper.push(kept, None)
    assert set(anna.fleet.complete_paths("")) >= {"loud/a.log", "quiet/a.txt"}
    assert "quiet/a.log" not in anna.fleet.complete_paths("")


def test_a_root_is_enrolled_once_and_not_in_another(pair: list[Device]):
    anna = pair[0]
    local, _ = rooted(anna, "proj", as_remote="proj")
    anna.fleet.roots.add(local, as_remote="proj", exclude=["*.o"])
    assert [i.exclude for i in anna.fleet.roots.list()] == [("*.o",)]
    fill(local, {"inner/f": "x"})
    with pytest.raises(UsageError, match="enrolled already"):
        anna.fleet.roots.add(local, as_remote="elsewhere")
    with pytest.raises(UsageError, match="lie in one another"):
        anna.fleet.roots.add(local + b"/inner", as_remote="other")
    other = os.fsencode(anna.world.top / "other")
    os.mkdir(other)
    with pytest.raises(UsageError, match="twice"):
        anna.fleet.roots.add(other, as_remote="proj/sub")
    with pytest.raises(UsageError, match="not a directory"):
        anna.fleet.roots.add(local + b"/inner/f")
    with pytest.raises(NotFoundError):
        anna.fleet.roots.remove(other)


def test_a_root_that_is_taken_out_keeps_its_files_and_its_base(pair: list[Device]):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {"f": "x"})
    anna.fleet.keeper.push(kept, None)
    anna.fleet.roots.remove(local)
    assert anna.fleet.roots.list() == ()
    assert os.path.exists(path_of(local, "f"))
    assert anna.fleet.push([local]).plan.total == 0


def test_enrolment_outlives_a_rebuilt_index(pair: list[Device]):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {"f": "x"})
    anna.fleet.keeper.push(kept, None)
    anna.fleet.rebuild_index()
    anna.close()
    assert [one.local for one in anna.fleet.keeper.roots()] == [local]


def test_a_damaged_list_of_roots_is_an_error_and_never_an_empty_one(pair: list[Device]):
    anna = pair[0]
    rooted(anna)
    path = anna.loaded.state_db.with_name("roots.json")
    path.write_text("{}")
    with pytest.raises(LocalFileError, match="damaged"):
        anna.fleet.keeper.roots()


# Pushing parts


def test_a_push_of_changed_paths_is_one_segment_and_takes_new_directories_whole(
    pair: list[Device],
):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {"d/a": "1", "d/b": "1", "e/c": "1", "gone/x": "1"})
    anna.fleet.keeper.push(kept, None)
    fill(local, {"d/a": "2", "new/deep/f": "1", "new/deep/g": "1", "e/c": "not told of"})
    os.unlink(path_of(local, "gone/x"))
    os.rmdir(path_of(local, "gone"))
    told = [b"d/a", b"d/b", b"new/deep/f", b"gone/x", b"gone", b"never/was"]
    result = anna.fleet.keeper.push(kept, [RelPath(p) for p in told])
    assert result.transfer.segments == 1
    assert {c.path: c.action for c in result.plan.changes} == {
        "proj/d/a": "change",
        "proj/new": "add",
        "proj/new/deep": "add",
        "proj/new/deep/f": "add",
        "proj/new/deep/g": "add",
        "proj/gone": "delete",
        "proj/gone/x": "delete",
    }
    assert anna.fleet.keeper.differs(kept, [RelPath(b"e")])
    assert not anna.fleet.keeper.differs(kept, [RelPath(b"d"), RelPath(b"new")])


def test_a_rename_between_told_paths_is_a_move(pair: list[Device]):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {"old": "content"})
    anna.fleet.keeper.push(kept, None)
    os.rename(path_of(local, "old"), path_of(local, "new"))
    result = anna.fleet.keeper.push(kept, [RelPath(b"old"), RelPath(b"new")])
    assert [(c.action, c.moved_from) for c in result.plan.changes] == [("move", "proj/old")]


def test_a_root_whose_directory_vanished_deletes_nothing(pair: list[Device]):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {"f": "x"})
    anna.fleet.keeper.push(kept, None)
    os.rename(local, local + b".away")
    os.mkdir(local)
    for paths in (None, [RelPath(b"f")]):
        with pytest.raises(LocalFileError, match="not the directory"):
            anna.fleet.keeper.push(kept, paths)
    os.rmdir(local)
    with pytest.raises(LocalFileError, match="does not exist"):
        anna.fleet.keeper.push(kept, None)


def test_no_directory_is_listed_for_a_file_that_is_told_of(
    pair: list[Device], monkeypatch: pytest.MonkeyPatch
):
    anna = pair[0]
    local, kept = rooted(anna)
    fill(local, {f"d{i}/f{j}": "x" for i in range(20) for j in range(10)})
    anna.fleet.keeper.push(kept, None)
    looked: list[bytes] = []
    scan = PosixFileSystem.scan

    def recorded(self: PosixFileSystem, directory: bytes):
        looked.append(directory)
        return scan(self, directory)

    monkeypatch.setattr(PosixFileSystem, "scan", recorded)
    fill(local, {"d7/f3": "y"})
    assert anna.fleet.keeper.push(kept, [RelPath(b"d7/f3")]).transfer.files == 1
    assert [path for path in looked if path.startswith(local) and b"/.tcfs" not in path] == []


# The lock


def test_a_command_waits_for_the_daemon_and_not_for_another_command(pair: list[Device]):
    anna = pair[0]
    rooted(anna)
    state = os.fsencode(anna.loaded.state_db.parent)
    # Held by this very process, which is no daemon.
    with file_lock(state + b"/lock", False), pytest.raises(BusyError):
        anna.fleet.push([os.fsencode(anna.tree)])
    with file_lock(state + b"/" + DAEMON_LOCK, False):
        taken, release = threading.Event(), threading.Event()

        def work() -> None:
            with file_lock(state + b"/lock", False):
                taken.set()
                release.wait()

        daemon = threading.Thread(target=work)
        daemon.start()
        taken.wait()
        threading.Timer(0.2, release.set).start()
        begun = time.monotonic()
        anna.fill({"f": "x"})
        anna.fleet.push([os.fsencode(anna.tree)])
        assert time.monotonic() - begun > 0.1
        daemon.join()


def test_the_daemon_itself_never_waits(pair: list[Device]):
    anna = pair[0]
    _, kept = rooted(anna)
    state = os.fsencode(anna.loaded.state_db.parent)
    daemon, device = (file_lock(state + b"/" + name, False) for name in (DAEMON_LOCK, b"lock"))
    with daemon, device, pytest.raises(BusyError):
        anna.fleet.keeper.push(kept, None)
