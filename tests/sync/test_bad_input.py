"""What is damaged, forged, full, unreadable or in motion: a clear error, and nothing lost."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from tcfs.errors import (
    AccessError,
    CancelledError,
    IntegrityError,
    LocalFileError,
    RepositoryError,
    StoreError,
    TcfsError,
)
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.ledger.keys import parse_key
from tcfs.store.base import StoreRefused
from tcfs.store.open import open_store
from tcfs.store.wrappers.fault import FaultStore, flip_bit
from tcfs.sync import session
from tests.sync.kit import Device, Watching, World, assert_same, path_of, watched_host

BIG = secrets.token_bytes(400_000)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.chmod(0o600)
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        path.write_bytes(flip_bit(data, len(data) * 4))
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()


# The store's objects


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "lost"])
def test_a_damaged_pack_costs_only_the_files_in_it(world: World, how: str) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": BIG})
    anna.push()
    anna.fill({"small.txt": "small", "d/e.txt": "e"})
    anna.push()
    (pack,) = world.objects("packs")
    whole = pack.read_bytes()
    damage(pack, how)

    pulled = ben.pull()

    assert [p.path for p in pulled.problems] == ["big.bin"]
    assert pulled.problems[0].code in ("integrity", "object_missing", "store_refused")
    assert pulled.problems[0].remedy
    assert ben.contents() == {"small.txt": b"small", "d/e.txt": b"e"}
    # What is not here is not taken for deleted, and comes when the pack is whole again.
    assert ben.push().plan.total == 0
    pack.write_bytes(whole)
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def test_a_damaged_pack_leaves_the_file_it_was_to_replace(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": "old"})
    anna.push()
    ben.pull()
    anna.fill({"big.bin": BIG})
    anna.push()
    (pack,) = world.objects("packs")
    damage(pack, "flipped")
    assert len(ben.pull().problems) == 1
    assert ben.contents() == {"big.bin": b"old"}
    assert ben.push().plan.total == 0


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied"])
def test_a_damaged_segment_stops_its_chain_and_no_other(world: World, how: str) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo")
    ben.fill({"ben1.txt": "1"})
    ben.push()
    ben.fill({"ben2.txt": "2"})
    ben.push()
    (_, second) = world.objects(f"ledger/default/{ben.fleet.status().device_id}")
    whole = second.read_bytes()
    damage(second, how)
    anna.fill({"anna.txt": "a"})
    anna.push()

    pulled = cleo.pull()

    assert cleo.contents() == {"ben1.txt": b"1", "anna.txt": b"a"}
    assert [(p.path, p.code) for p in pulled.problems] == [
        (f"ledger/default/{ben.fleet.status().device_id}/2", "integrity")
    ]
    assert any("damaged" in w for w in cleo.fleet.status().warnings)
    second.write_bytes(whole)
    assert cleo.pull().problems == ()
    assert cleo.fleet.status().warnings == ()
    assert cleo.contents() == {"ben1.txt": b"1", "ben2.txt": b"2", "anna.txt": b"a"}


def test_a_forged_segment_counts_for_nothing(world: World) -> None:
    """Whoever can write to the store, and has no key, can make no history."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    (real,) = world.objects(f"ledger/default/{anna.fleet.status().device_id}")
    forged = bytearray(real.read_bytes())
    at = forged.index(b'"seq":1')
    forged[at : at + 7] = b'"seq":2'

    name = f"0000000002-{blake3(bytes(forged)).hexdigest()}"
    real.with_name(name).write_bytes(bytes(forged))

    ben.pull()
    assert ben.contents() == {"a.txt": b"a"}
    ben.fill({"b.txt": "b"})
    ben.push()
    # The real device is not stopped by junk under its name, either.
    anna.fill({"a.txt": "a2"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"a.txt": b"a2", "b.txt": b"b"}


def test_a_device_with_the_wrong_key_reads_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.close()
    other = World(world.top / "other")
    stranger = other.device("stranger")
    stranger.close()
    shutil.copy2(
        stranger.home / "identity" / "identity.json", ben.home / "identity" / "identity.json"
    )
    with pytest.raises(TcfsError) as caught:
        ben.pull()
    assert isinstance(caught.value, AccessError | IntegrityError)
    assert ben.contents() == {}
    with pytest.raises(AccessError):
        ben.push()
    other.close()


def test_what_a_revoked_device_forces_into_the_store_is_not_believed(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    ben.fill({"before.txt": "fine"})
    ben.push()
    anna.pull()
    # ben's store does not show him the revocation, so he writes on in good faith.
    copy = world.top / "copy"
    shutil.copytree(world.store_dir, copy)
    anna.fleet.revoke("ben")
    ben.reopen(store=open_store(copy.as_uri()))
    ben.fill({"after.txt": "too late"})
    ben.push()
    for path in (copy / "ledger" / "default").rglob("*"):
        there = world.store_dir / path.relative_to(copy)
        if path.is_file() and not there.exists():
            shutil.copy2(path, there)

    anna.sync()
    cleo = world.device("cleo")
    cleo.pull()

    assert anna.contents() == cleo.contents() == {"before.txt": b"fine"}
    assert cleo.fleet.verify(read_data=True).ok


def test_a_store_that_is_another_repository_is_refused(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    other = World(world.top / "other")
    other.device("somebody").close()
    for device in (anna, ben):
        device.settings["TCFS_REMOTE"] = other.endpoint
        device.close()
        with pytest.raises(RepositoryError) as caught:
            device.pull()
        assert caught.value.exit_code == 15
    code = other._devices[0].fleet.invite().code
    late = world.device("late", join=False)
    with pytest.raises(RepositoryError):
        session.enroll_fleet(late.loaded, name="late", invite=code, store=world.open_store())
    other.close()


def test_a_store_that_was_emptied_is_no_empty_tree(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    anna.close()
    shutil.rmtree(world.store_dir)
    world.store_dir.mkdir()
    with pytest.raises(TcfsError) as caught:
        anna.sync()
    assert caught.value.exit_code in (13, 15)
    assert anna.contents() == {"a.txt": b"a"}


def test_a_store_that_lost_its_history_is_no_empty_tree(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    shutil.rmtree(world.store_dir / "ledger" / "default")
    with pytest.raises(IntegrityError, match="no longer has"):
        anna.push()
    ben.pull()
    assert ben.contents() == {"a.txt": b"a"}
    assert not ben.fleet.verify().ok
    assert any("rollback" in w for w in ben.fleet.status().warnings)


def test_a_store_that_was_set_back_is_noticed(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "one"})
    anna.push()
    shutil.copytree(world.store_dir, world.top / "old")
    anna.fill({"a.txt": "two"})
    anna.push()
    ben.pull()
    shutil.rmtree(world.store_dir)
    shutil.copytree(world.top / "old", world.store_dir)
    ben.pull()
    assert ben.read("a.txt") == b"two"
    assert any("rollback" in w for w in ben.fleet.status().warnings)
    with pytest.raises(IntegrityError):
        anna.push()


# A store that fails


def failing(world: World, name: str, part: str = "") -> FaultStore:
    """The store, whose operation ``name`` on keys with ``part`` in them fails."""

    def fail(operation: Operation, moment: Moment) -> None:
        if operation.name == name and part in str(operation.target) and moment == "before":
            raise StoreError("the line is down")

    return FaultStore(open_store(world.endpoint), FaultPlan(fail))


@pytest.mark.parametrize("listing", ["list", "list_dirs"])
def test_a_listing_that_fails_is_not_an_empty_one(world: World, listing: str) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    ben.reopen(store=failing(world, listing))
    for work in (ben.pull, ben.push):
        with pytest.raises(StoreError) as caught:
            work()
        assert caught.value.retryable
        assert caught.value.exit_code == 13
    assert ben.contents() == {"a.txt": b"a"}


@pytest.mark.parametrize("part", ["packs/", "ledger/default"])
def test_a_push_to_a_store_that_takes_nothing_is_finished_by_the_next(
    world: World, part: str
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": BIG, "small.txt": "s"})
    anna.reopen(store=failing(world, "put", part))
    with pytest.raises(StoreError):
        anna.push()
    anna.reopen()
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert anna.fleet.verify(read_data=True).ok


def test_a_full_store_says_so_and_loses_nothing(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"big.bin": BIG})

    def full(operation: Operation, moment: Moment) -> None:
        if operation.name == "put" and moment == "before":
            raise StoreRefused("no space left in the store", remedy="Make room.")

    anna.reopen(store=FaultStore(open_store(world.endpoint), FaultPlan(full)))
    with pytest.raises(StoreError, match="no space") as caught:
        anna.push()
    assert caught.value.exit_code == 13
    assert anna.read("big.bin") == BIG


def test_bytes_that_change_on_the_way_are_not_believed(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": BIG, "a.txt": "a"})
    anna.push()

    def spoil(operation: Operation, data: bytes) -> bytes:
        return flip_bit(data, 8 * len(data) // 2) if operation.name == "get_range" else data

    ben.reopen(store=FaultStore(open_store(world.endpoint), FaultPlan(), spoil))
    pulled = ben.pull()
    assert "big.bin" in [p.path for p in pulled.problems]
    assert "big.bin" not in ben.contents()
    ben.reopen()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


# A disk that fails


def fail_when(files: Watching, method: str, part: bytes, code: int, times: int = 1_000_000) -> None:
    left = [times]

    def before(name: str, path: bytes) -> None:
        if name == method and part in path and left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code), path)

    files.before = before


def test_a_disk_that_is_full_stops_a_pull_which_goes_on_later(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"d{n}/f.txt": f"content {n}" for n in range(5)})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    fail_when(files, "write_new", b"/tmp-", errno.ENOSPC)

    with pytest.raises(LocalFileError, match="no space") as caught:
        ben.pull()

    assert caught.value.exit_code == 14
    assert "room" in caught.value.remedy
    assert ben.contents() == {}
    ben.reopen()
    # Neither is anything taken for deleted, nor a half-made directory for an edit.
    assert ben.push().plan.total == 0
    assert ben.pull().conflicts == ()
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_a_file_that_is_larger_than_may_be_written_stops_a_pull(world: World) -> None:
    """A real limit of the system, in a process of its own."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": BIG * 10, "a.txt": "a"})
    anna.push()
    ben.close()
    code = (
        "import sys\n"
        "from tcfs.config.load import load_config\n"
        "from tcfs.errors import TcfsError\n"
        "from tcfs.sync.session import open_fleet\n"
        "try:\n"
        "    result = open_fleet(load_config(), actor='test').pull()\n"
        "except TcfsError as error:\n"
        "    print(error.message); sys.exit(error.exit_code)\n"
        "print(*(p.code + ' ' + p.path + ' ' + p.message for p in result.problems), sep='\\n')\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    done = run_python(ben, code, limit)
    assert done.returncode in (0, 14), done.stderr
    assert "big.bin" in done.stdout or "space" in done.stdout
    assert "big.bin" not in ben.contents()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


@pytest.mark.parametrize("first", ["the marker's", "the files'"])
def test_a_disk_that_fails_at_a_barrier_is_a_local_error(world: World, first: str) -> None:
    anna, ben = world.devices("anna", "ben")
    if first == "the files'":
        ben.fill({"b.txt": "b"})
        ben.push()
    anna.fill({"a.txt": "a"})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    fail_when(files, "barrier", path_of(ben.tree), errno.EIO, times=1)
    with pytest.raises(LocalFileError) as caught:
        ben.pull()
    assert caught.value.exit_code == 14
    ben.reopen()
    ben.pull()
    anna.pull()
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_an_unreadable_file_is_named_and_the_rest_is_sent(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "private.txt": "p", "locked/in.txt": "i", "z.txt": "z"})
    anna.push("private.txt", "locked")
    anna.fill({"private.txt": "edited"})
    host, files = watched_host()
    anna.reopen(host=host)

    def before(name: str, path: bytes) -> None:
        if (name, path) in (
            ("open", anna.path("private.txt")),
            ("scan", anna.path("locked")),
        ):
            raise PermissionError(errno.EACCES, "Permission denied", path)

    files.before = before
    result = anna.push()

    assert sorted(p.path for p in result.problems) == ["locked", "private.txt"]
    assert {p.code for p in result.problems} == {"local"}
    assert all("rights" in p.remedy for p in result.problems)
    ben.pull()
    # What could not be looked at is not deleted.
    assert ben.contents() == {
        "a.txt": b"a",
        "private.txt": b"p",
        "locked/in.txt": b"i",
        "z.txt": b"z",
    }


def test_an_unreadable_file_that_the_fleet_changed_is_left_alone(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "one", "b.txt": "one"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "two", "b.txt": "two"})
    anna.push()
    ben.fill({"a.txt": "own"})
    host, files = watched_host()
    ben.reopen(host=host)
    fail_when(files, "open", b"tree/a.txt", errno.EACCES)
    result = ben.pull()
    assert [p.path for p in result.problems] == ["a.txt"]
    assert ben.contents() == {"a.txt": b"own", "b.txt": b"two"}


def test_directories_that_may_not_be_written_take_what_the_fleet_has(world: World) -> None:
    """For an ordinary user: root ignores rights, so the file system here does not."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"ro/a.txt": "a", "ro/gone.txt": "g", "ro/sub/x.txt": "x"})
    os.chmod(anna.path("ro/sub"), 0o555)
    os.chmod(anna.path("ro"), 0o555)
    anna.push()
    host, files = watched_host()
    changes = {"mkdir", "rename", "rename_new", "exchange", "unlink", "rmdir", "write_new"}

    def before(name: str, path: bytes) -> None:
        directory = os.path.dirname(path)
        if name in changes and directory.startswith(path_of(ben.tree)):
            mode = os.lstat(directory).st_mode if os.path.lexists(directory) else 0o700
            if not mode & 0o200:
                raise PermissionError(errno.EACCES, "Permission denied", path)

    files.before = before
    ben.reopen(host=host)
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    anna.fill({"ro/a.txt": "edited", "ro/new.txt": "new", "ro/sub/y.txt": "y"})
    anna.remove("ro/gone.txt")
    anna.push()

    assert ben.pull().problems == ()

    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


# Roots


def test_a_root_that_was_replaced_by_an_empty_directory_deletes_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "b.txt": "b"})
    anna.push()
    ben.pull()
    shutil.move(anna.tree, world.top / "unmounted")
    anna.tree.mkdir()

    for work in (anna.push, anna.pull):
        with pytest.raises(LocalFileError, match="not the directory that was synced") as caught:
            work()
        assert caught.value.exit_code == 14
        assert "Mount" in caught.value.remedy
    ben.pull()
    assert ben.contents() == {"a.txt": b"a", "b.txt": b"b"}
    anna.tree.rmdir()
    shutil.move(world.top / "unmounted", anna.tree)
    assert anna.push().plan.total == 0


def test_a_root_without_its_marker_or_with_anothers_is_refused(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    marker = Path(os.fsdecode(anna.path(".tcfs/root")))
    for content in (None, "ab" * 16):
        marker.unlink()
        if content:
            marker.write_text(content)
        with pytest.raises(LocalFileError, match="identity marker"):
            anna.push()
        marker.write_text("put back below")


def test_a_root_that_is_missing_is_said_to_be(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    shutil.rmtree(anna.tree)
    for work in (anna.push, anna.pull):
        with pytest.raises(LocalFileError) as caught:
            work()
        assert caught.value.exit_code == 14
    ben.pull()
    assert ben.contents() == {"a.txt": b"a"}


# A tree in motion


def test_a_file_that_changes_while_it_is_read_is_read_again_or_left_for_later(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"busy.log": "first", "calm.txt": "c"})
    host, files = watched_host()
    anna.reopen(host=host)
    writes = [0]

    def after(name: str, path: bytes) -> None:
        if name == "open" and path == anna.path("busy.log"):
            writes[0] += 1
            with open(path, "ab") as file:
                file.write(b"!" * 100)

    files.after = after
    result = anna.push()

    assert [p.path for p in result.problems] == ["busy.log"]
    assert "changed while it was read" in result.problems[0].message
    assert writes[0] == 2
    ben.pull()
    assert ben.contents() == {"calm.txt": b"c"}
    anna.reopen()
    assert anna.push().problems == ()
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_a_file_that_vanishes_while_it_is_pushed_harms_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"here.txt": "h", "gone.txt": "g"})
    host, files = watched_host()
    anna.reopen(host=host)

    def before(name: str, path: bytes) -> None:
        if name == "open" and path == anna.path("gone.txt"):
            anna.remove("gone.txt")

    files.before = before
    anna.push()
    anna.reopen()
    anna.push()
    ben.pull()
    assert ben.contents() == {"here.txt": b"h"}


def race(device: Device, methods: tuple[str, ...], name: str, change) -> None:
    """Let ``change`` happen just before the first of these calls that is about ``name``."""
    host, files = watched_host()
    device.reopen(host=host)
    armed = [True]

    def before(method: str, path: bytes) -> None:
        if armed[0] and method in methods and path == device.path(name):
            armed[0] = False
            change()

    files.before = before


def everything(device: Device) -> set[bytes]:
    return set(device.contents().values())


def test_an_edit_in_the_very_moment_of_a_replacement_is_kept(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old", "b.txt": "old"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new from anna", "b.txt": "new from anna"})
    anna.push()
    race(ben, ("exchange", "rename"), "a.txt", lambda: ben.fill({"a.txt": "last moment"}))

    result = ben.pull()

    assert [p.path for p in result.problems] == ["a.txt"]
    assert ben.contents() == {"a.txt": b"last moment", "b.txt": b"new from anna"}
    ben.sync()
    anna.sync()
    assert_same(anna.tree, ben.tree)
    assert everything(anna) == {b"last moment", b"new from anna"}


def test_a_file_replaced_by_an_editor_in_that_moment_is_kept(world: World) -> None:
    """Editors write another file and rename it: it has another inode."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new"})
    anna.push()

    def save() -> None:
        ben.fill({"a.txt~": "saved"})
        os.replace(ben.path("a.txt~"), ben.path("a.txt"))

    race(ben, ("exchange", "rename"), "a.txt", save)
    ben.pull()
    assert ben.read("a.txt") == b"saved"
    ben.sync()
    anna.sync()
    assert everything(anna) == everything(ben) == {b"saved", b"new"}


def test_an_edit_in_that_moment_is_kept_where_names_cannot_be_swapped(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new"})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    edited = False

    def before(method: str, path: bytes) -> None:
        nonlocal edited
        if method == "exchange":
            raise OSError(errno.ENOTSUP, "no")
        if method == "rename" and not edited:
            edited = True
            ben.fill({"a.txt": "last moment"})

    files.before = before
    ben.pull()
    assert edited
    assert ben.read("a.txt") == b"last moment"
    ben.sync()
    assert everything(ben) == {b"last moment", b"new"}


def test_a_pull_works_where_names_cannot_be_swapped(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old", "d/b.txt": "b"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new", "d/b.txt": "b2"})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    fail_when(files, "exchange", b"", errno.ENOTSUP)
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_a_file_that_appears_in_that_moment_is_kept(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"new.txt": "from anna"})
    anna.push()
    race(ben, ("rename_new",), "new.txt", lambda: ben.fill({"new.txt": "ben's, just now"}))
    result = ben.pull()
    assert [p.path for p in result.problems] == ["new.txt"]
    assert ben.read("new.txt") == b"ben's, just now"
    ben.sync()
    anna.sync()
    assert everything(anna) == everything(ben) == {b"from anna", b"ben's, just now"}


def test_a_directory_that_appears_in_that_moment_is_filled(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "from anna"})
    anna.push()
    race(ben, ("rename_new", "mkdir"), "d", lambda: ben.fill({"d/b.txt": "ben's, just now"}))
    ben.pull()
    ben.sync()
    anna.sync()
    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"d/a.txt": b"from anna", "d/b.txt": b"ben's, just now"}


def test_an_edit_in_the_moment_of_a_removal_is_kept(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old", "b.txt": "b"})
    anna.push()
    ben.pull()
    anna.remove("a.txt")
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    edited = False

    def before(method: str, path: bytes) -> None:
        nonlocal edited
        if method == "rename" and not edited:
            edited = True
            ben.fill({"a.txt": "last moment"})

    files.before = before
    result = ben.pull()
    assert edited
    assert [p.path for p in result.problems] == ["a.txt"]
    assert ben.read("a.txt") == b"last moment"
    ben.sync()
    anna.sync()
    assert anna.contents() == {"a.txt": b"last moment", "b.txt": b"b"}


def test_two_edits_in_the_moment_of_a_removal_are_both_kept(world: World) -> None:
    """One before the file was moved out of the way, one while it was."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.remove("a.txt")
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    edits = 0

    def before(method: str, path: bytes) -> None:
        nonlocal edits
        if method == "rename" and edits == 0:
            edits = 1
            ben.fill({"a.txt": "first edit"})

    def after(method: str, path: bytes) -> None:
        nonlocal edits
        if method == "rename" and edits == 1:
            edits = 2
            ben.fill({"a.txt": "second edit"})

    files.before, files.after = before, after
    ben.pull()
    ben.reopen()
    for _ in range(2):
        ben.sync()
        anna.sync()
    assert everything(ben) == everything(anna) == {b"first edit", b"second edit"}


def test_a_pull_that_was_stopped_goes_on_without_conflicts(world: World, monkeypatch) -> None:
    monkeypatch.setattr("tcfs.sync.placement.BATCH_FILES", 3)
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"d{n}/f{m}.txt": f"{n} {m}" for n in range(4) for m in range(4)})
    os.chmod(anna.path("d1"), 0o755)
    anna.push()
    calls = [0]

    def cancel() -> bool:
        calls[0] += 1
        return ben.tree.joinpath("d1").exists()

    with pytest.raises(CancelledError) as caught:
        ben.pull(cancel=cancel)
    assert caught.value.exit_code == 22
    assert 0 < len(ben.contents()) < 16
    assert ben.push().plan.total == 0
    result = ben.pull()
    assert (result.conflicts, result.resolved, result.problems) == ((), (), ())
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_a_push_that_was_stopped_leaves_a_sound_store_and_goes_on(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n}.bin": secrets.token_bytes(100_000) for n in range(10)})
    seen = [0]

    def cancel() -> bool:
        seen[0] += 1
        return seen[0] > 4

    with pytest.raises(CancelledError):
        anna.push(cancel=cancel)
    assert ben.fleet.verify(read_data=True).ok
    assert anna.push().problems == ()
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_sockets_and_pipes_are_skipped_and_said(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    os.mkfifo(anna.path("pipe"))
    result = anna.push()
    assert any("pipe" in warning for warning in result.plan.warnings)
    ben.pull()
    assert ben.contents() == {"a.txt": b"a"}
    # One in the place of a tracked file is no deletion.
    anna.remove("a.txt")
    os.mkfifo(anna.path("a.txt"))
    assert anna.push().plan.total == 0
    ben.fill({"a.txt": "b"})
    ben.push()
    assert [p.path for p in anna.pull().problems] == ["a.txt"]


def test_a_damaged_state_or_identity_says_what_to_do(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    for device, part in ((anna, "state/state.db"), (ben, "identity/identity.json")):
        device.close()
        for suffix in ("-wal", "-shm"):
            (device.home / (part + suffix)).unlink(missing_ok=True)
        (device.home / part).write_bytes(b"this is no such file" * 500)
        with pytest.raises(TcfsError) as caught:
            device.pull()
        assert caught.value.exit_code in (11, 14)
        assert caught.value.remedy


def test_keys_of_the_ledger_name_their_place() -> None:
    for junk in ("ledger/default/x", "ledger/default/../y", "packs/aa/b", "ledger/_control"):
        with pytest.raises(IntegrityError):
            parse_key(junk)


def test_a_state_file_that_cannot_grow_is_a_local_error_and_nothing_is_lost(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    connection = anna.fleet._context.state.database.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    anna.fill({f"{n}-{'x' * 200}.txt": str(n) for n in range(300)})

    with pytest.raises(LocalFileError, match="state file") as caught:
        anna.push()

    assert caught.value.exit_code == 14
    anna.reopen()
    assert anna.push().problems == ()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert ben.fleet.verify(read_data=True).ok


@pytest.mark.parametrize("limit_kb", [150, 400])
def test_a_push_that_runs_into_a_limit_of_the_system_is_finished_later(
    world: World, limit_kb: int
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n}.bin": BIG[n * 1000 : n * 1000 + 200_000] for n in range(5)})
    anna.close()
    code = (
        "import sys\n"
        "from tcfs.config.load import load_config\n"
        "from tcfs.errors import TcfsError\n"
        "from tcfs.sync.session import open_fleet\n"
        "try:\n"
        "    open_fleet(load_config(), actor='test').push([])\n"
        "except TcfsError as error:\n"
        "    print(error.message); sys.exit(error.exit_code)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_kb * 1000, limit_kb * 1000))

    done = run_python(anna, code, limit)
    assert done.returncode in (13, 14), done.stderr
    assert "Traceback" not in done.stderr
    assert anna.push().problems == ()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert anna.fleet.verify(read_data=True).ok


def run_python(
    device: Device, code: str, before: Callable[[], None]
) -> subprocess.CompletedProcess[str]:
    """Run a program with the device's home, in a process of its own."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(device.home),
        "TCFS_HOME": str(device.home),
        "TCFS_REMOTE": device.world.endpoint,
        "TCFS_SYNC_SYNC_ROOT": str(device.tree),
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        check=False,
        preexec_fn=before,
        text=True,
    )
