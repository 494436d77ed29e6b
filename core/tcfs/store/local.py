"""The embedded store: a directory.

The key is the path below the directory. Beside the keys, whose names never begin with a dot, lie
``.tcfs-store``, the marker by which a store is told from an empty mount point, ``.tcfs-lock``,
held while an object is replaced or deleted, and ``.tmp`` with files being written. A put writes a
temporary file, makes it durable, gives it its name in one step and makes the name durable: a crash
at any point leaves the old object or the new one, and at most a temporary file, which a later
writer removes.

An object's etag is its size, mtime and inode. That is enough because nothing is changed in place
and because a replacement, made under the lock, always gets a later mtime than what it replaces.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tcfs.errors import StoreError
from tcfs.host.base import FileSystem, Reader, Stat
from tcfs.host.lock import file_lock
from tcfs.host.posix import PosixFileSystem
from tcfs.model.ids import StoreKey
from tcfs.model.paths import show
from tcfs.store.base import (
    ALWAYS,
    Capabilities,
    Condition,
    ETag,
    ObjectInfo,
    ObjectMissing,
    StoreRefused,
    check_condition,
    check_key,
    check_prefix,
    check_range,
    too_short,
)
from tcfs.store.temps import TempArea

_MARKER: Final = b".tcfs-store"
_TEMPS: Final = b".tmp"
_LOCK: Final = b".tcfs-lock"
_MARKER_TEXT = re.compile(rb"tcfs store, layout 1, [0-9a-f]{32}\n")
_NAME = re.compile(rb"[a-z0-9_-][a-z0-9._-]*")
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_STEPS_NS: Final = (1, 2_000_000_000)
"""How far a replacement's mtime is moved: as far as the finest, or the coarsest, clock needs."""

_PASSING: Final = frozenset(
    (
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
_REMEDIES: Final = {
    errno.ENOSPC: "Free space on the disk of the store, then run the command again.",
    errno.EDQUOT: "Free space in the store's quota, then run the command again.",
    errno.EROFS: "The disk of the store is mounted read-only: mount it for writing.",
    errno.EACCES: "Give this user the right to read and write the store's directory.",
    errno.EPERM: "Give this user the right to read and write the store's directory.",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f) for this user.",
    errno.ENOTSUP: "The store's file system lacks a call it needs: use another one.",
}


class LocalStore:
    """The store in the directory ``root``, which ``create`` made.

    Args:
        root: the directory; made absolute.
        files: the file system, which tests replace to make it fail.

    Raises:
        StoreRefused: there is no store (is a disk not mounted?), or not one of this layout.
    """

    def __init__(self, root: bytes | Path, *, files: FileSystem | None = None) -> None:
        given = os.path.abspath(os.fsencode(root))
        self._endpoint = "file://" + quote(given)
        # Resolved once: a scan follows no symlink, and the root may be one.
        self._root = os.path.realpath(given)
        self._files = files if files is not None else PosixFileSystem()
        self._temps = TempArea(self._at(_TEMPS))
        self._durable: set[bytes] = set()
        with self._failures("opening the store"):
            self._marker = self._read_marker()

    @classmethod
    def create(cls, root: bytes | Path, *, files: FileSystem | None = None) -> LocalStore:
        """Make a store in an absent or empty directory, and open it; or open the one there is.

        Raises:
            StoreRefused: the directory has other content, or cannot be written.
        """
        path = os.path.realpath(os.fsencode(root))
        system = files if files is not None else PosixFileSystem()
        with _failures(path, "creating the store"):
            _make_store(path, system)
        return cls(root, files=system)

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_writes=True)

    def get(self, key: StoreKey) -> bytes:
        with self._failures(f"reading {key}"), self._open(key) as reader:
            return _read_exactly(reader, reader.fstat().size, key)

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_range(offset, length)
        with self._failures(f"reading {key}"), self._open(key) as reader:
            if offset + length > reader.fstat().size:
                raise too_short(key)
            reader.seek(offset)
            return _read_exactly(reader, length, key)

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        path = self._path(key)
        directory = os.path.dirname(path)
        with self._failures(f"writing {key}"):
            self._check_mounted()
            _check(condition, self._replaceable(path, key), key)  # before writing for nothing
            temp = self._temps.new()
            status = self._files.write_new(
                temp, [memoryview(data).cast("B")], 0o600, time.time_ns()
            )
            try:
                self._files.fsync(temp)
                self._make_directory(directory)
                etag = self._publish(temp, path, status, condition, key)
            except BaseException:
                self._durable.clear()  # it may have failed because a directory has gone
                with suppress(OSError):
                    self._files.unlink(temp)
                raise
            self._files.fsync(directory)
            return etag

    def head(self, key: StoreKey) -> ObjectInfo | None:
        path = self._path(key)
        with self._failures(f"looking up {key}"):
            status = self._stat(path)
            if status is None:
                self._check_mounted()
                return None
            return ObjectInfo(key, status.size, _etag(status))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._failures(f"listing {prefix or 'the store'}"):
            self._check_mounted()
            for entry in self._entries(prefix):
                yield from self._walk(prefix, entry, after)
            # A disk that went away meanwhile looks like directories without entries.
            self._check_mounted()

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        check_prefix(prefix)
        with self._failures(f"listing {prefix or 'the store'}"):
            self._check_mounted()
            names = [
                entry[0].decode()
                for entry in self._entries(prefix)
                if entry[1].kind != "file" and any(True for _ in self._walk(prefix, entry, ""))
            ]
            self._check_mounted()
            return names

    def delete(self, key: StoreKey) -> None:
        path = self._path(key)
        with self._failures(f"deleting {key}"):
            if self._stat(path) is None:
                self._check_mounted()
                return
            with self._exclusive():
                if self._stat(path) is not None:
                    self._files.unlink(path)
            self._files.fsync(os.path.dirname(path))

    def close(self) -> None:
        self._temps.close()

    def _at(self, name: bytes) -> bytes:
        return os.path.join(self._root, name)

    def _path(self, key: StoreKey) -> bytes:
        return self._at(check_key(key).encode())

    def _failures(self, doing: str) -> AbstractContextManager[None]:
        return _failures(self._root, doing)

    def _exclusive(self) -> AbstractContextManager[None]:
        return file_lock(self._at(_LOCK), True)

    @contextmanager
    def _open(self, key: StoreKey) -> Iterator[Reader]:
        path = self._path(key)
        try:
            reader = self._files.open(path)
        except _ABSENT:
            self._check_mounted()
            raise ObjectMissing(f"the store has no object {key}") from None
        with reader:
            yield reader

    def _stat(self, path: bytes) -> Stat | None:
        """The object's file, or None if there is none; a directory is no object."""
        try:
            status = self._files.lstat(path)
        except _ABSENT:
            return None
        if status.kind == "dir":
            return None
        if status.kind != "file":
            raise _foreign(path, status)
        return status

    def _replaceable(self, path: bytes, key: StoreKey) -> Stat | None:
        """As ``_stat``; refused where a directory stands, since no file can take its place."""
        try:
            status = self._files.lstat(path)
        except _ABSENT:
            return None
        if status.kind == "dir":
            raise StoreRefused(f"{key} cannot be written: the store has keys below {key}/")
        return self._stat(path)

    def _publish(
        self, temp: bytes, path: bytes, status: Stat, condition: Condition, key: StoreKey
    ) -> ETag:
        while True:
            if condition.if_match is None:
                try:
                    self._files.rename_new(temp, path)
                except FileExistsError:
                    _check(condition, self._replaceable(path, key), key)
                else:
                    return _etag(status)
            # New objects need no lock; what exists is replaced and deleted under it alone.
            with self._exclusive():
                current = self._replaceable(path, key)
                _check(condition, current, key)
                if current is not None and not condition.if_absent:
                    status = self._make_later(temp, status, current)
                    self._files.rename(temp, path)
                    return _etag(status)
            # It was deleted in between: there is nothing to replace, so begin again.

    def _make_later(self, temp: bytes, status: Stat, current: Stat) -> Stat:
        for step in _STEPS_NS:
            if status.mtime_ns > current.mtime_ns:
                break
            self._files.set_attributes(temp, mode=None, mtime_ns=current.mtime_ns + step)
            status = self._files.lstat(temp)
        return status

    def _make_directory(self, directory: bytes) -> None:
        """Make a key's directory. When this returns, its name is durable, whoever made it."""
        if directory in self._durable or directory == self._root:
            return
        above = os.path.dirname(directory)
        self._make_directory(above)
        with suppress(FileExistsError):
            self._files.mkdir(directory, 0o700)
        self._files.fsync(above)
        self._durable.add(directory)

    def _entries(self, prefix: str) -> builtins.list[tuple[bytes, Stat]]:
        """What a prefix's directory holds; an absent one holds nothing."""
        try:
            return self._scan(prefix)
        except (FileNotFoundError, NotADirectoryError):
            self._stat(self._at(prefix.rstrip("/").encode()))  # a symlink is not an absence
            return []

    def _scan(self, prefix: str) -> builtins.list[tuple[bytes, Stat]]:
        return self._files.scan(self._at(prefix.rstrip("/").encode()))

    def _walk(self, prefix: str, entry: tuple[bytes, Stat], after: str) -> Iterator[ObjectInfo]:
        name, status = entry
        if not _NAME.fullmatch(name):
            return  # not ours: it can be no key
        key = prefix + name.decode()
        if status.kind == "file":
            if key > after:
                yield ObjectInfo(StoreKey(key), status.size, _etag(status))
        elif status.kind == "dir":
            below = key + "/"
            if after > below and not after.startswith(below):
                return  # every key below is lower
            # It was here a moment ago and no tcfs removes directories: absent is a failure now.
            for inner in self._scan(below):
                yield from self._walk(below, inner, after)
        else:
            raise _foreign(self._at(key.encode()), status)

    def _check_mounted(self) -> None:
        """Raise unless the directory still is the store that was opened."""
        try:
            status = self._files.lstat(self._at(_MARKER))
        except _ABSENT:
            raise _no_store(self._root) from None
        if (status.device, status.inode) == (self._marker.device, self._marker.inode):
            return
        marker = self._read_marker()
        if marker.text != self._marker.text:
            raise StoreRefused(
                f"another store was put in the place of {show(self._root)}",
                remedy="Bring the first one back, or start this program again.",
            )
        self._marker = marker  # the same store, mounted again

    def _read_marker(self) -> _Marker:
        try:
            with self._files.open(self._at(_MARKER)) as reader:
                status = reader.fstat()
                text = reader.read(4096)
        except _ABSENT:
            raise _no_store(self._root) from None
        if not _MARKER_TEXT.fullmatch(text):
            raise StoreRefused(
                f"the store in {show(self._root)} has a layout that this version cannot read",
                remedy="Use the version of tcfs that made it, or a newer one.",
            )
        return _Marker(text, status.device, status.inode)


@dataclass(frozen=True, slots=True)
class _Marker:
    text: bytes
    device: int
    inode: int


def _make_store(root: bytes, files: FileSystem) -> None:
    _make_root(root, files)
    names = {name for name, _ in files.scan(root)}
    if _MARKER in names:
        return
    if any(not name.startswith(b".") and name != b"lost+found" for name in names):
        raise StoreRefused(
            f"{show(root)} holds no store and is not empty",
            remedy="Name an empty or new directory for the store.",
        )
    text = b"tcfs store, layout 1, %s\n" % os.urandom(16).hex().encode()
    temp = root + b"/" + _MARKER + b"-" + os.urandom(8).hex().encode()
    files.write_new(temp, [text], 0o600, time.time_ns())
    try:
        files.fsync(temp)
        files.rename_new(temp, root + b"/" + _MARKER)
    except BaseException as error:
        with suppress(OSError):
            files.unlink(temp)
        if not isinstance(error, FileExistsError):  # another process was faster
            raise
    files.fsync(root)


def _make_root(root: bytes, files: FileSystem) -> None:
    with suppress(FileExistsError):
        try:
            files.mkdir(root, 0o700)
        except FileNotFoundError:
            _make_root(os.path.dirname(root), files)
            files.mkdir(root, 0o700)
        files.fsync(os.path.dirname(root))


def _etag(status: Stat) -> ETag:
    return ETag(f"{status.size:x}-{status.mtime_ns:x}-{status.inode:x}")


def _check(condition: Condition, current: Stat | None, key: StoreKey) -> None:
    check_condition(condition, None if current is None else _etag(current), key)


def _read_exactly(reader: Reader, size: int, key: StoreKey) -> bytes:
    data = reader.read(size)
    if len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing:
        part = reader.read(missing)
        if not part:
            raise too_short(key)
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _foreign(path: bytes, status: Stat) -> StoreRefused:
    kind = "symlink" if status.kind == "symlink" else "special file"
    return StoreRefused(
        f"{show(path)} in the store is a {kind}",
        remedy="Put the file or directory itself in its place.",
    )


def _no_store(root: bytes) -> StoreRefused:
    return StoreRefused(
        f"there is no store in {show(root)}",
        remedy="Mount the disk it is on, or check the endpoint with: tcfs config show",
    )


@contextmanager
def _failures(root: bytes, doing: str) -> Iterator[None]:
    """Turn what the system raises into StoreError: what may pass is retryable, the rest not."""
    try:
        yield
    except OSError as error:
        message = f"{doing} in {show(root)} failed: {error.strerror or error}"
        details = {"errno": errno.errorcode.get(error.errno or 0, "")}
        if error.errno in _PASSING:
            raise StoreError(message, details=details) from error
        remedy = _REMEDIES.get(error.errno or 0)
        raise StoreRefused(message, remedy=remedy, details=details) from error
