"""The real file system, as Linux has it and as macOS would."""

import errno
import os
import pickle
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tcfs.host import native
from tcfs.host.base import FileSystem
from tcfs.host.posix import PosixFileSystem

NS = 1_234_567_890_123_456_789


@pytest.fixture
def files() -> PosixFileSystem:
    return PosixFileSystem()


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


@pytest.fixture(params=["native call", "no native call"])
def either(request, monkeypatch):
    """Renames with the system's call, and as where the system or the file system lacks it."""
    if request.param == "no native call":
        take_native_rename(monkeypatch)
    return request.param


def take_native_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_rename_call", lambda: lambda source, target, flag: -1)
    monkeypatch.setattr(native, "_errno_of", lambda result: errno.EINVAL)


@contextmanager
def fails_with(code: int):
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        yield


def names(path: bytes) -> list[bytes]:
    return sorted(os.listdir(path))


def test_it_is_what_the_engine_asks_for_and_survives_pickling():
    files: FileSystem = PosixFileSystem(ignores_case=True)
    assert pickle.loads(pickle.dumps(files)) == files
    assert files.ignores_case
    assert PosixFileSystem().ignores_case == (sys.platform == "darwin")
    assert PosixFileSystem().normalises_unicode == (sys.platform == "darwin")


def test_a_scan_finds_every_entry_with_its_kind_size_mode_and_times(files, root):
    odd = b"\xff\xfe not utf-8 \n" if sys.platform == "linux" else b"plain"
    for name in (b"file", odd):
        files.write_new(root + b"/" + name, [b"12345"], 0o640, NS)
    files.mkdir(root + b"/dir", 0o750)
    files.symlink(b"nowhere/at all", root + b"/link", NS)
    os.mkfifo(root + b"/fifo")
    found = dict(files.scan(root))
    assert set(found) == {b"file", odd, b"dir", b"link", b"fifo"}
    kinds = {name: status.kind for name, status in found.items()}
    assert kinds == {
        b"file": "file",
        odd: "file",
        b"dir": "dir",
        b"link": "symlink",
        b"fifo": "other",
    }
    assert found[b"file"][1:4] == (5, 0o640, NS)
    for name, status in found.items():
        assert status == files.lstat(root + b"/" + name)


def test_a_scan_of_many_entries_is_complete(files, root):
    expected = {b"%05d" % i for i in range(3000)}
    for name in expected:
        os.close(os.open(root + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert {name for name, _ in files.scan(root)} == expected


def test_a_scan_of_what_is_absent_a_file_or_a_symlink_is_an_error_and_not_empty(files, root):
    files.mkdir(root + b"/dir")
    files.symlink(b"dir", root + b"/link", NS)
    files.write_new(root + b"/file", [], 0o600, NS)
    for name, error in (
        (b"/absent", FileNotFoundError),
        (b"/link", NotADirectoryError),
        (b"/file", NotADirectoryError),
    ):
        with pytest.raises(error):
            files.scan(root + name)


class _Entry:
    """A directory entry whose stat fails as the test says."""

    def __init__(self, name: str, error: OSError | None) -> None:
        self.name = name
        self._error = error

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        if self._error:
            raise self._error
        return os.lstat("/")


class _Entries(list[_Entry]):
    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def test_an_entry_that_vanished_is_left_out_and_any_other_failure_is_raised(
    files, root, monkeypatch
):
    gone = FileNotFoundError(errno.ENOENT, "gone")
    entries = _Entries([_Entry("a", None), _Entry("b", gone), _Entry("c", None)])
    monkeypatch.setattr(os, "scandir", lambda fd: entries)
    assert [name for name, _ in files.scan(root)] == [b"a", b"c"]
    entries[1] = _Entry("b", OSError(errno.EIO, "unreadable"))
    with pytest.raises(OSError, match="unreadable"):
        files.scan(root)


def test_a_reader_reads_on_seeks_and_tells_of_the_open_file(files, root):
    path = root + b"/file"
    files.write_new(path, [b"0123456789"], 0o600, NS)
    with files.open(path) as reader:
        assert reader.read(4) == b"0123"
        buffer = bytearray(3)
        assert reader.readinto(memoryview(buffer)) == 3
        assert buffer == b"456"
        assert reader.read(100) == b"789"
        assert reader.read(100) == b""
        reader.seek(8)
        assert reader.read(100) == b"89"
        os.unlink(path)
        assert reader.fstat().size == 10
    reader.close()


def test_opening_anything_but_a_regular_file_fails_at_once(files, root):
    files.mkdir(root + b"/dir")
    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    files.symlink(b"file", root + b"/link", NS)
    os.mkfifo(root + b"/fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fsdecode(root + b"/sock"))
        for name, code in (
            (b"/dir", errno.EISDIR),
            (b"/link", errno.ELOOP),
            (b"/fifo", errno.EINVAL),  # and not: waiting for a writer
            (b"/sock", errno.ENXIO if sys.platform == "linux" else errno.EOPNOTSUPP),
            (b"/absent", errno.ENOENT),
        ):
            with fails_with(code):
                files.open(root + name)
    open_files = Path("/proc/self/fd")
    if open_files.exists():
        assert not any(
            os.fsdecode(root) in os.readlink(fd) for fd in open_files.iterdir() if fd.is_symlink()
        )


def test_a_file_of_somebody_else_is_read_without_the_owners_privilege(files, root, monkeypatch):
    path = root + b"/file"
    files.write_new(path, [b"x"], 0o644, NS)
    real_open = os.open

    def open_as_another(path, flags, *rest):
        if flags & getattr(os, "O_NOATIME", 0):
            raise PermissionError(errno.EPERM, "not the owner")
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_as_another)
    with files.open(path) as reader:
        assert reader.read(9) == b"x"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o777, 0o444, 0o000, 0o4755])
def test_a_new_file_has_its_bytes_mode_and_mtime_whatever_the_umask(files, root, mode):
    path = root + b"/file"
    before = os.umask(0o077)
    try:
        status = files.write_new(path, [b"ab", memoryview(b"cd"), b""], mode, NS)
    finally:
        os.umask(before)
    assert status == files.lstat(path)
    assert (status.kind, status.size, status.mode, status.mtime_ns) == ("file", 4, mode, NS)
    os.chmod(path, 0o600)
    assert Path(os.fsdecode(path)).read_bytes() == b"abcd"


def test_an_existing_name_is_never_written_to(files, root):
    path = root + b"/file"
    files.write_new(path, [b"mine"], 0o600, NS)
    files.symlink(b"elsewhere", root + b"/link", NS)
    for name in (b"/file", b"/link"):
        with pytest.raises(FileExistsError):
            files.write_new(root + name, [b"yours"], 0o600, NS)
    assert Path(os.fsdecode(path)).read_bytes() == b"mine"
    assert names(root) == [b"file", b"link"]


def test_short_writes_are_continued(files, root, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data)[:3]))
    files.write_new(root + b"/file", [b"0123456789", b"abc", b"defg"], 0o600, NS)
    monkeypatch.undo()
    assert Path(os.fsdecode(root + b"/file")).read_bytes() == b"0123456789abcdefg"


def test_nothing_is_left_when_the_bytes_or_the_disk_fail(files, root, monkeypatch):
    def parts():
        yield b"first"
        raise ValueError("the second did not verify")

    with pytest.raises(ValueError, match="verify"):
        files.write_new(root + b"/file", parts(), 0o600, NS)
    assert names(root) == []

    def full(fd, data):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        files.write_new(root + b"/file", [b"x"], 0o600, NS)
    assert names(root) == []


def test_a_full_disk_is_reported_and_leaves_nothing(files, root):
    # A limit on file sizes stands in for the disk: it needs no mount and works for root.
    script = (
        "import resource, signal, sys\n"
        "from tcfs.host.posix import PosixFileSystem\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    PosixFileSystem().write_new(sys.argv[1].encode(), [bytes(600)] * 2, 0o600, 0)\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script, root + b"/file"], env=environment)
    assert result.returncode == errno.EFBIG
    assert names(root) == []


def test_a_symlink_has_its_target_and_mtime(files, root):
    status = files.symlink(b"some/where", root + b"/link", NS)
    assert (status.kind, status.mtime_ns) == ("symlink", NS)
    assert status == files.lstat(root + b"/link")
    assert files.readlink(root + b"/link") == b"some/where"
    with pytest.raises(FileExistsError):
        files.symlink(b"other", root + b"/link", NS)


def make(files: PosixFileSystem, path: bytes, kind: str) -> None:
    if kind == "dir":
        files.mkdir(path)
    elif kind == "symlink":
        files.symlink(b"target", path, NS)
    else:
        files.write_new(path, [b"bytes"], 0o600, NS)


@pytest.mark.parametrize("kind", ["file", "dir", "symlink"])
def test_a_rename_to_a_free_name_moves_the_inode(files, root, either, kind):
    make(files, root + b"/one", kind)
    inode = files.lstat(root + b"/one").inode
    files.rename_new(root + b"/one", root + b"/two")
    assert names(root) == [b"two"]
    assert files.lstat(root + b"/two").inode == inode
    assert files.lstat(root + b"/two").kind == kind


@pytest.mark.parametrize("kind", ["file", "dir", "symlink"])
@pytest.mark.parametrize("taken", ["file", "dir", "symlink"])
def test_a_rename_to_a_taken_name_is_refused_and_changes_nothing(files, root, either, kind, taken):
    make(files, root + b"/one", kind)
    make(files, root + b"/two", taken)
    before = (files.lstat(root + b"/one").inode, files.lstat(root + b"/two").inode)
    with pytest.raises(FileExistsError):
        files.rename_new(root + b"/one", root + b"/two")
    assert (files.lstat(root + b"/one").inode, files.lstat(root + b"/two").inode) == before


def test_a_rename_of_what_is_absent_or_named_with_a_nul_is_an_error(files, root, either):
    with pytest.raises(FileNotFoundError):
        files.rename_new(root + b"/absent", root + b"/two")
    make(files, root + b"/one", "file")
    with pytest.raises(ValueError, match="null"):
        files.rename_new(root + b"/one", root + b"/two\0three")
    assert names(root) == [b"one"]


def test_of_many_renames_to_one_name_one_succeeds(files, root, either):
    for number in range(12):
        files.write_new(root + b"/%d" % number, [b"%d" % number], 0o600, NS)
    start = threading.Barrier(12)
    won = []

    def run(number: int) -> None:
        start.wait()
        try:
            files.rename_new(root + b"/%d" % number, root + b"/target")
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Path(os.fsdecode(root + b"/target")).read_bytes() == b"%d" % won[0]
    assert len(names(root)) == 12


def test_where_a_file_cannot_be_renamed_exclusively_nothing_is_replaced(files, root, monkeypatch):
    take_native_rename(monkeypatch)

    def no_links(*args, **options):
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    make(files, root + b"/one", "file")
    with fails_with(errno.ENOTSUP):
        files.rename_new(root + b"/one", root + b"/two")
    assert names(root) == [b"one"]


@pytest.mark.parametrize(("one", "other"), [("file", "file"), ("file", "dir"), ("dir", "symlink")])
def test_an_exchange_swaps_two_names_of_any_kind(files, root, one, other):
    make(files, root + b"/one", one)
    make(files, root + b"/other", other)
    inodes = (files.lstat(root + b"/one").inode, files.lstat(root + b"/other").inode)
    files.exchange(root + b"/one", root + b"/other")
    assert (files.lstat(root + b"/other").inode, files.lstat(root + b"/one").inode) == inodes
    with pytest.raises(FileNotFoundError):
        files.exchange(root + b"/one", root + b"/absent")


def test_an_exchange_that_the_system_lacks_says_so(files, root, monkeypatch):
    take_native_rename(monkeypatch)
    make(files, root + b"/one", "file")
    make(files, root + b"/two", "file")
    with fails_with(errno.ENOTSUP):
        files.exchange(root + b"/one", root + b"/two")


def test_a_plain_rename_replaces(files, root):
    files.write_new(root + b"/one", [b"1"], 0o600, NS)
    files.write_new(root + b"/two", [b"2"], 0o600, NS)
    files.rename(root + b"/one", root + b"/two")
    assert names(root) == [b"two"]
    files.unlink(root + b"/two")
    files.mkdir(root + b"/dir", 0o700)
    assert stat.S_IMODE(os.lstat(root + b"/dir").st_mode) == 0o700
    files.rmdir(root + b"/dir")
    assert names(root) == []


def test_attributes_are_set_without_following_a_symlink(files, root):
    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    files.symlink(b"file", root + b"/link", NS)
    before = files.lstat(root + b"/file")
    link = files.lstat(root + b"/link")
    files.set_attributes(root + b"/link", mode=0o777, mtime_ns=NS + 1)
    assert files.lstat(root + b"/file") == before
    assert files.lstat(root + b"/link").mtime_ns == NS + 1
    assert files.lstat(root + b"/link").mode == link.mode
    files.set_attributes(root + b"/file", mode=0o4711, mtime_ns=None)
    assert files.lstat(root + b"/file")[2:4] == (0o4711, NS)
    files.set_attributes(root + b"/file", mode=None, mtime_ns=NS + 2)
    assert files.lstat(root + b"/file")[2:4] == (0o4711, NS + 2)


def test_the_mode_of_a_file_that_cannot_be_read_is_set(files, root, monkeypatch):
    files.write_new(root + b"/file", [b"x"], 0o000, NS)
    files.set_attributes(root + b"/file", mode=0o640, mtime_ns=None)
    assert files.lstat(root + b"/file").mode == 0o640


@pytest.mark.skipif(sys.platform != "linux", reason="macOS needs no /proc for that")
def test_modes_are_set_where_there_is_no_proc(files, root, monkeypatch):
    def no_proc(path, mode):
        raise FileNotFoundError(errno.ENOENT, "no /proc")

    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    monkeypatch.setattr(os, "chmod", no_proc)
    files.set_attributes(root + b"/file", mode=0o755, mtime_ns=None)
    assert files.lstat(root + b"/file").mode == 0o755


def test_free_space_is_some_and_a_barrier_and_an_fsync_return(files, root):
    assert 0 < files.free_space(root) < 1 << 60
    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    files.fsync(root + b"/file")
    files.fsync(root)
    files.barrier(root)
    for call in (files.barrier, files.fsync, files.free_space):
        with pytest.raises(FileNotFoundError):
            call(root + b"/absent")


def test_a_barrier_whose_write_back_failed_is_an_error(files, root, monkeypatch):
    monkeypatch.setattr(native, "_sync_call", lambda: (lambda fd: -1, ()))
    monkeypatch.setattr(native, "_errno_of", lambda result: errno.EIO)
    with fails_with(errno.EIO):
        files.barrier(root)


def test_a_barrier_without_the_systems_call_syncs_everything(files, root, monkeypatch):
    calls = []
    monkeypatch.setattr(native, "_sync_call", lambda: (None, ()))
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    monkeypatch.setattr(native, "full_fsync", lambda fd: calls.append("full"))
    files.barrier(root)
    assert calls == ["sync", "full"]


def test_a_file_system_that_refuses_to_sync_directories_is_taken_at_its_word(
    files, root, monkeypatch
):
    def refuse(fd):
        raise OSError(errno.EINVAL, "not here")

    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    monkeypatch.setattr(native, "full_fsync", refuse)
    files.fsync(root)
    with pytest.raises(OSError, match="not here"):
        files.fsync(root + b"/file")


def test_a_spelling_is_what_the_directory_lists(tmp_path, monkeypatch):
    top = os.fsencode(tmp_path)
    (tmp_path / "Notes.txt").write_bytes(b"1")
    exact = PosixFileSystem(ignores_case=False, normalises_unicode=False)
    assert exact.spelling(top + b"/Notes.txt") == b"Notes.txt"
    folding = PosixFileSystem(ignores_case=True)
    assert folding.spelling(top + b"/Notes.txt") == b"Notes.txt"
    for files in (exact, folding):
        with pytest.raises(FileNotFoundError):
            files.spelling(top + b"/notes.txt")
    # As a disk that ignores case answers.
    os.link(tmp_path / "Notes.txt", tmp_path / "notes.TXT")
    monkeypatch.setattr(os, "listdir", lambda _path: [b"other", b"Notes.txt"])
    assert folding.spelling(top + b"/notes.TXT") == b"Notes.txt"
    # And as a system answers that tells another of a file's names.
    monkeypatch.setattr(native, "name_of", lambda _path: b"other")
    assert folding.spelling(top + b"/notes.TXT") == b"Notes.txt"
    monkeypatch.setattr(native, "name_of", lambda _path: b"NOTES.txt")
    assert folding.spelling(top + b"/notes.TXT") == b"NOTES.txt"


def test_writing_into_a_file_leaves_the_rest_and_grows_it_with_zeros(files, root):
    path = root + b"/file"
    files.write_new(path, [b"0123456789"], 0o600, NS)
    files.write_at(path, 2, [b"ab", memoryview(b"cd"), b""])
    files.write_at(path, 12, [b"x"])
    with open(path, "rb") as file:
        assert file.read() == b"01abcd6789\0\0x"


def test_nothing_is_written_through_a_symlink_or_into_what_is_no_file(files, root):
    files.write_new(root + b"/file", [b"x"], 0o600, NS)
    os.symlink(b"file", root + b"/link")
    os.mkfifo(root + b"/fifo")
    for name in (b"/link", b"/missing", b"/fifo", b""):
        with pytest.raises(OSError):  # noqa: PT011 (each system has its own errno)
            files.write_at(root + name, 0, [b"y"])
    with open(root + b"/file", "rb") as file:
        assert file.read() == b"x"
