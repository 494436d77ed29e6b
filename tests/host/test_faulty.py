"""The file system and the plan that make faults."""

import errno
import os

import pytest

from tcfs.host.base import FileSystem
from tcfs.host.faults import FaultPlan, SimulatedCrash, crash_at, fail_at
from tcfs.host.faulty import FaultyFileSystem
from tcfs.host.posix import PosixFileSystem


@pytest.fixture
def root(tmp_path):
    return os.fsencode(tmp_path)


def work(files: FileSystem, root: bytes) -> None:
    """One of each."""
    files.mkdir(root + b"/dir")
    files.write_new(root + b"/dir/temp", [b"01", b"23"], 0o600, 0)
    files.barrier(root)
    files.rename_new(root + b"/dir/temp", root + b"/dir/file")
    files.write_at(root + b"/dir/file", 4, [b"45", b"67"])
    files.symlink(b"file", root + b"/dir/link", 0)
    files.exchange(root + b"/dir/file", root + b"/dir/link")
    files.set_attributes(root + b"/dir/link", mode=0o644, mtime_ns=5)
    files.fsync(root + b"/dir")
    files.rename(root + b"/dir/link", root + b"/dir/file")
    files.unlink(root + b"/dir/file")
    files.rmdir(root + b"/dir")


NAMES = [
    "mkdir",
    "write_new",
    "barrier",
    "rename_new",
    "write_at",
    "symlink",
    "exchange",
    "set_attributes",
    "fsync",
    "rename",
    "unlink",
    "rmdir",
]


def tree(root: bytes) -> dict[bytes, int]:
    return {
        os.path.join(where, name): os.lstat(os.path.join(where, name)).st_size
        for where, dirs, names in os.walk(root)
        for name in dirs + names
        if not os.path.isdir(os.path.join(where, name))
    }


def test_what_changes_something_is_numbered_and_reads_are_not(root):
    plan = FaultPlan()
    inner = PosixFileSystem(ignores_case=True, normalises_unicode=False)
    files = FaultyFileSystem(inner, plan)
    files.scan(root)
    files.lstat(root)
    assert files.free_space(root) > 0
    assert (files.ignores_case, files.normalises_unicode) == (True, False)
    work(files, root)
    assert [operation.name for operation in plan.operations] == NAMES
    assert [operation.number for operation in plan.operations] == list(range(1, 13))
    assert plan.count == 12


@pytest.mark.parametrize("number", range(1, len(NAMES) + 1))
def test_a_crash_before_an_operation_leaves_what_the_one_before_it_left(tmp_path, number):
    before, after = os.fsencode(tmp_path / "before"), os.fsencode(tmp_path / "after")
    for root, plan in (
        (before, crash_at(number, "before")),
        (after, crash_at(number - 1, "after")),
    ):
        os.mkdir(root)
        files = FaultyFileSystem(PosixFileSystem(), plan)
        if number == 1 and root == after:
            continue
        with pytest.raises(SimulatedCrash):
            work(files, root)
    assert list(tree(before).values()) == list(tree(after).values())


def test_after_a_crash_nothing_works_any_more(root):
    files = FaultyFileSystem(PosixFileSystem(), crash_at(1, "after"))
    with pytest.raises(SimulatedCrash):
        files.mkdir(root + b"/dir")
    for call in (
        lambda: files.rmdir(root + b"/dir"),
        lambda: files.write_new(root + b"/file", [], 0o600, 0),
        lambda: files.scan(root),
        lambda: files.open(root + b"/x"),
        lambda: files.readlink(root + b"/x"),
    ):
        with pytest.raises(SimulatedCrash):
            call()
    assert os.listdir(root) == [b"dir"]


def test_a_crash_in_the_middle_of_a_write_leaves_a_torn_file(root):
    files = FaultyFileSystem(PosixFileSystem(), crash_at(1, "middle"))
    with pytest.raises(SimulatedCrash):
        files.write_new(root + b"/file", [b"0123", b"4567"], 0o600, 0)
    with open(root + b"/file", "rb") as file:
        assert file.read() == b"0123"


def test_an_error_in_the_middle_of_a_write_leaves_nothing(root):
    plan = fail_at(1, "middle", lambda: OSError(errno.ENOSPC, "full"))
    files = FaultyFileSystem(PosixFileSystem(), plan)
    with pytest.raises(OSError, match="full"):
        files.write_new(root + b"/file", [b"0123"], 0o600, 0)
    assert os.listdir(root) == []
    files.write_new(root + b"/file", [b"0123"], 0o600, 0)
    with files.open(root + b"/file") as reader:
        assert reader.read(9) == b"0123"


def test_a_crash_in_the_middle_of_a_write_into_a_file_leaves_half_of_it(root):
    files = FaultyFileSystem(PosixFileSystem(), crash_at(2, "middle"))
    files.write_new(root + b"/file", [b"01"], 0o600, 0)
    with pytest.raises(SimulatedCrash):
        files.write_at(root + b"/file", 4, [b"45", b"67"])
    with open(root + b"/file", "rb") as file:
        assert file.read() == b"01\0\x0045"


def test_a_read_fails_where_the_hook_says(root):
    def hook(operation, moment):
        if operation.name == "scan":
            raise OSError(errno.EIO, "unreadable")

    with pytest.raises(OSError, match="unreadable"):
        FaultyFileSystem(PosixFileSystem(), FaultPlan(hook)).scan(root)


def test_a_crash_is_seen_by_no_handler_of_exceptions():
    assert not issubclass(SimulatedCrash, Exception)
