"""The real file system of Linux and macOS."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tcfs.host import native
from tcfs.host.base import Reader, Stat
from tcfs.host.listing import KINDS, MODE_BITS, TYPE_BITS, stats_in
from tcfs.model.spelling import folded

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_AT_ONCE: Final = 256 << 10
"""Bytes of one write. For more the system takes memory in larger pieces, which a virtual machine
may have to get from its host first: measured, that takes up to twelve times as long."""
_NOATIME: Final[int] = getattr(os, "O_NOATIME", 0)
_PATH_ONLY: Final[int] = getattr(os, "O_PATH", 0)


@dataclass(frozen=True, slots=True)
class PosixFileSystem:
    """``FileSystem`` on the system's own calls. Holds no state: pickle it as you like.

    Args:
        ignores_case: whether names differing in case alone are one file; by default true on macOS.
        normalises_unicode: the same for Unicode normalisation.
    """

    ignores_case: bool = sys.platform == "darwin"
    normalises_unicode: bool = sys.platform == "darwin"

    def spelling(self, path: bytes) -> bytes:
        if not (self.ignores_case or self.normalises_unicode):
            os.lstat(path)
            return os.path.basename(path)
        name = os.path.basename(path)
        told = native.name_of(path)
        # Of a file with several names the system may tell another.
        if told is not None and folded(told) == folded(name):
            return told
        there = os.lstat(path)
        listed = os.listdir(os.path.dirname(path))
        if name in listed:
            return name
        alike = [other for other in listed if folded(other) == folded(name)]
        for other in alike:
            status = os.lstat(os.path.join(os.path.dirname(path), other))
            if (status.st_dev, status.st_ino) == (there.st_dev, there.st_ino):
                return other
        return name

    def lstat(self, path: bytes) -> Stat:
        return _to_stat(os.lstat(path))

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        found: list[tuple[bytes, Stat]] = []
        add, kind_of, new = found.append, KINDS.get, tuple.__new__
        for name, status in stats_in(directory):
            mode = status.st_mode
            fields = (
                kind_of(mode & TYPE_BITS, "other"),
                status.st_size,
                mode & MODE_BITS,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_ino,
                status.st_dev,
            )
            # tuple.__new__ saves a third of what Stat(...) costs.
            add((name, new(Stat, fields)))
        return found

    def open(self, path: bytes) -> Reader:
        # O_NONBLOCK: a FIFO would wait for its writer. O_NOATIME: a scan must not wear the disk.
        try:
            fd = os.open(path, _READ | _NOATIME)
        except PermissionError:  # O_NOATIME is for the file's owner alone
            if not _NOATIME:
                raise
            fd = os.open(path, _READ)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
                raise OSError(code, "not a regular file", path)
        except BaseException:
            os.close(fd)
            raise
        return _PosixReader(fd)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        fd = os.open(path, _CREATE, mode & 0o777)
        try:
            try:
                for part in parts:
                    written = os.write(fd, part) if len(part) <= _AT_ONCE else 0
                    if written < len(part):
                        _write_all(fd, memoryview(part)[written:])
                os.utime(fd, ns=(mtime_ns, mtime_ns))
                status = os.fstat(fd)
                if status.st_mode & 0o7777 != mode:  # the umask took bits, or they are special
                    os.fchmod(fd, mode)
                    status = os.fstat(fd)
            finally:
                os.close(fd)
        except BaseException:
            _remove_quietly(path)
            raise
        return _to_stat(status)

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        fd = os.open(path, _WRITE)
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    written = os.pwrite(fd, rest[:_AT_ONCE], offset)
                    offset += written
                    rest = rest[written:]
        finally:
            os.close(fd)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        os.symlink(target, path)
        try:
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
            return self.lstat(path)
        except BaseException:
            _remove_quietly(path)
            raise

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        os.mkdir(path, mode)

    def rename_new(self, source: bytes, target: bytes) -> None:
        """As the protocol says; where the system lacks the call, files are linked and unlinked.

        Directories are then checked and renamed: what appears at ``target`` in between is
        replaced only if it is an empty directory, since rename(2) refuses all else.
        """
        if native.rename_exclusive(source, target):
            return
        if stat.S_ISDIR(os.lstat(source).st_mode):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            os.rename(source, target)
            return
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):  # no hard links
                raise OSError(
                    errno.ENOTSUP, "cannot rename without replacing", source, None, target
                ) from error
            raise
        os.unlink(source)

    def exchange(self, one: bytes, other: bytes) -> None:
        if not native.rename_exchange(one, other):
            raise OSError(errno.ENOTSUP, "cannot exchange two names", one, None, other)

    def rename(self, source: bytes, target: bytes) -> None:
        os.rename(source, target)

    def unlink(self, path: bytes) -> None:
        os.unlink(path)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(path)

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        if mode is not None:
            _chmod_nofollow(path, mode)
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def barrier(self, directory: bytes) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not native.sync_volume(fd):
                os.sync()
                native.full_fsync(fd)
        finally:
            os.close(fd)

    def fsync(self, path: bytes) -> None:
        fd = os.open(path, _READ)
        try:
            native.full_fsync(fd)
        except OSError as error:
            # Some network file systems write directories through and refuse to be asked.
            refused = error.errno in (errno.EINVAL, errno.ENOTSUP)
            if not (refused and stat.S_ISDIR(os.fstat(fd).st_mode)):
                raise
        finally:
            os.close(fd)

    def free_space(self, path: bytes) -> int:
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


class _PosixReader:
    """An open regular file. Closed when it is collected, if nobody did so before."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def readinto(self, buffer: memoryview) -> int:
        return os.readv(self._fd, [buffer])

    def seek(self, offset: int) -> None:
        os.lseek(self._fd, offset, os.SEEK_SET)

    def fstat(self) -> Stat:
        return _to_stat(os.fstat(self._fd))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> _PosixReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _to_stat(status: os.stat_result) -> Stat:
    mode = status.st_mode
    return Stat(
        KINDS.get(mode & TYPE_BITS, "other"),
        status.st_size,
        mode & 0o7777,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )


def _write_all(fd: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(fd, rest[:_AT_ONCE]) :]


def _remove_quietly(path: bytes) -> None:
    with suppress(OSError):  # the failure that brought us here is the one to report
        os.unlink(path)


def _chmod_nofollow(path: bytes, mode: int) -> None:
    if not _PATH_ONLY:  # macOS, whose chmod can be told not to follow
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, mode, follow_symlinks=False)
        return
    # Linux has no such flag before 6.6; a descriptor that only names the inode pins it, needs no
    # right to read it, and is changed by way of /proc, as the C library does.
    fd = os.open(path, _PATH_ONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(b"/proc/self/fd/%d" % fd, mode)
    except FileNotFoundError:  # no /proc here: then only what can be read can be changed
        os.close(fd)
        fd = os.open(path, _READ)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
