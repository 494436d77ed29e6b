"""The simulated disk keeps the rules that a real one keeps, and forgets what a real one forgets."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tcfs.host.base import FileSystem
from tcfs.host.posix import PosixFileSystem
from tests.sim.disk import LOSSES, Disk, Gate, Naming, SimulatedFiles

Story = Callable[[FileSystem, bytes], object]


def new_disk(naming: Naming = Naming()) -> tuple[Disk, SimulatedFiles]:  # noqa: B008 - frozen
    now = iter(range(1, 1 << 40))
    disk = Disk(lambda: next(now), naming)
    disk.create(b"/top", "dir", 0o755)
    return disk, SimulatedFiles(disk, Gate())


def told(story: Story, files: FileSystem, top: bytes) -> object:
    """What a story tells of a file system: its result, or its errno."""
    try:
        return story(files, top)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def write(files: FileSystem, path: bytes, data: bytes = b"x") -> None:
    files.write_new(path, [data], 0o644, 5)


def clobbering(files: FileSystem, top: bytes) -> None:
    write(files, top + b"/a")
    write(files, top + b"/b")
    files.rename_new(top + b"/a", top + b"/b")


def replacing(files: FileSystem, top: bytes) -> object:
    write(files, top + b"/a", b"1")
    write(files, top + b"/b", b"2")
    files.rename(top + b"/a", top + b"/b")
    with files.open(top + b"/b") as reader:
        return reader.read(9), sorted(name for name, _ in files.scan(top))


def exchanging(files: FileSystem, top: bytes) -> object:
    write(files, top + b"/a", b"1")
    write(files, top + b"/b", b"22")
    before = files.lstat(top + b"/a").inode
    files.exchange(top + b"/a", top + b"/b")
    return files.lstat(top + b"/a").size, files.lstat(top + b"/b").inode == before


def exchanging_with_nothing(files: FileSystem, top: bytes) -> None:
    write(files, top + b"/a")
    files.exchange(top + b"/a", top + b"/b")


def reading_what_was_removed(files: FileSystem, top: bytes) -> object:
    write(files, top + b"/a", b"still here")
    with files.open(top + b"/a") as reader:
        files.unlink(top + b"/a")
        return reader.read(99)


def removing_a_full_directory(files: FileSystem, top: bytes) -> None:
    files.mkdir(top + b"/d")
    write(files, top + b"/d/a")
    files.rmdir(top + b"/d")


def creating_below_a_file(files: FileSystem, top: bytes) -> None:
    write(files, top + b"/a")
    write(files, top + b"/a/b")


def creating_twice(files: FileSystem, top: bytes) -> None:
    write(files, top + b"/a")
    write(files, top + b"/a")


def opening_a_link(files: FileSystem, top: bytes) -> None:
    files.symlink(b"a", top + b"/l", 5)
    files.open(top + b"/l")


def opening_a_directory(files: FileSystem, top: bytes) -> None:
    files.open(top)


def moving_into_itself(files: FileSystem, top: bytes) -> None:
    files.mkdir(top + b"/d")
    files.rename(top + b"/d", top + b"/d/e")


def a_file_over_a_directory(files: FileSystem, top: bytes) -> None:
    files.mkdir(top + b"/d")
    write(files, top + b"/a")
    files.rename(top + b"/a", top + b"/d")


def a_directory_over_an_empty_one(files: FileSystem, top: bytes) -> object:
    files.mkdir(top + b"/d")
    files.mkdir(top + b"/e")
    write(files, top + b"/d/a")
    files.rename(top + b"/d", top + b"/e")
    return [name for name, _ in files.scan(top + b"/e")]


def stamping(files: FileSystem, top: bytes) -> object:
    write(files, top + b"/a")
    files.set_attributes(top + b"/a", mode=0o600, mtime_ns=77)
    status = files.lstat(top + b"/a")
    return status.mode, status.mtime_ns, status.kind, status.size


STORIES = [
    clobbering,
    replacing,
    exchanging,
    exchanging_with_nothing,
    reading_what_was_removed,
    removing_a_full_directory,
    creating_below_a_file,
    creating_twice,
    opening_a_link,
    opening_a_directory,
    moving_into_itself,
    a_file_over_a_directory,
    a_directory_over_an_empty_one,
    stamping,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_simulated_disk_answers_as_a_real_one_does(story: Story, tmp_path: Path) -> None:
    _, files = new_disk()
    assert told(story, files, b"/top") == told(story, PosixFileSystem(), os.fsencode(tmp_path))


def test_renaming_changes_the_ctime_and_not_the_mtime() -> None:
    _, files = new_disk()
    write(files, b"/top/a")
    before = files.lstat(b"/top/a")
    files.rename_new(b"/top/a", b"/top/b")
    after = files.lstat(b"/top/b")
    assert after.ctime_ns > before.ctime_ns
    assert (after.mtime_ns, after.inode) == (before.mtime_ns, before.inode)


def losses() -> Iterator[tuple[Disk, SimulatedFiles, random.Random, str]]:
    for loss in LOSSES:
        for salt in range(40):
            disk, files = new_disk()
            disk.barrier()
            yield disk, files, random.Random(salt), loss


def test_what_a_barrier_covered_survives_every_power_loss() -> None:
    for disk, files, rng, loss in losses():
        write(files, b"/top/a", b"safe")
        files.mkdir(b"/top/d")
        files.barrier(b"/top")
        files.rename(b"/top/a", b"/top/d/b")
        disk.lose_power(loss, rng)  # type: ignore[arg-type]
        found = {path: inode.data for path, inode in disk.walk(disk.find(b"/top"))}
        assert found in ({b"a": b"safe", b"d": b""}, {b"d": b"", b"d/b": b"safe"})


def test_a_file_that_was_renamed_before_it_was_synced_may_be_torn() -> None:
    seen = set()
    for disk, files, rng, loss in losses():
        write(files, b"/top/temp", b"whole")
        files.rename_new(b"/top/temp", b"/top/a")
        disk.lose_power(loss, rng)  # type: ignore[arg-type]
        inode = disk.get(b"/top/a")
        seen.add(None if inode is None else inode.data)
    assert seen == {None, b"whole", b"", bytes(5), b"wh\0\0\0"}


def test_bytes_that_changed_in_place_come_with_the_times_of_their_write() -> None:
    seen = set()
    for disk, files, rng, loss in losses():
        write(files, b"/top/a", b"old")
        files.barrier(b"/top")
        before = files.lstat(b"/top/a")
        disk.write(disk.find(b"/top/a"), b"new")
        disk.lose_power(loss, rng)  # type: ignore[arg-type]
        data = disk.find(b"/top/a").data
        seen.add(data)
        assert data == b"old" or files.lstat(b"/top/a") != before
    assert {b"old", b"new"} < seen


def test_names_may_survive_in_another_order_than_they_were_given() -> None:
    seen = set()
    for disk, files, rng, loss in losses():
        write(files, b"/top/a")
        write(files, b"/top/b")
        disk.lose_power(loss, rng)  # type: ignore[arg-type]
        seen.add(frozenset(path for path, _ in disk.walk(disk.find(b"/top"))))
    assert frozenset((b"b",)) in seen


def test_a_file_that_was_synced_is_whole_and_has_its_name() -> None:
    for disk, files, rng, loss in losses():
        write(files, b"/top/a", b"whole")
        files.fsync(b"/top/a")
        disk.lose_power(loss, rng)  # type: ignore[arg-type]
        assert disk.find(b"/top/a").data == b"whole"


def test_a_disk_without_case_finds_a_file_by_any_spelling_and_keeps_the_first() -> None:
    _, files = new_disk(Naming(ignores_case=True))
    write(files, b"/top/Readme")
    assert files.lstat(b"/top/README").kind == "file"
    with pytest.raises(FileExistsError):
        write(files, b"/top/readme")
    files.rename(b"/top/readme", b"/top/README")
    assert [name for name, _ in files.scan(b"/top")] == [b"README"]


def test_a_disk_that_normalises_takes_two_spellings_of_a_name_for_one() -> None:
    _, files = new_disk(Naming(normalises_unicode=True))
    write(files, "/top/caf\u00e9".encode())
    assert files.lstat("/top/cafe\u0301".encode()).kind == "file"
    with pytest.raises(OSError, match="multibyte"):
        write(files, b"/top/\xff")


def test_a_full_disk_takes_nothing_and_leaves_nothing() -> None:
    disk, files = new_disk()
    disk.capacity = disk.used + 3
    with pytest.raises(OSError, match="No space"):
        write(files, b"/top/a", b"four")
    assert files.scan(b"/top") == []
    write(files, b"/top/a", b"333")
