"""A file system whose unsynced changes a power loss takes back.

``LossyFileSystem`` passes everything on and remembers how to undo what no barrier has covered yet.
``lose`` then leaves the disk as one of many that a power loss may leave:

* ``"names"``: every unsynced change is undone, newest first;
* ``"content"``: names are as they were given, and files written since the last barrier are empty;
* ``"half"``: the same, and the files have their size and half their bytes, the rest zeros.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal

from tcfs.host.base import FileSystem, Stat

Loss = Literal["names", "content", "half"]
LOSSES: tuple[Loss, ...] = ("names", "content", "half")


class LossyFileSystem:
    """Passes on to ``inner``; removed files are kept in ``graveyard``, on the same file system."""

    def __init__(self, inner: FileSystem, graveyard: bytes) -> None:
        self._inner = inner
        self._graveyard = graveyard
        self._serial = 0
        self._undo: list[Callable[[], object]] = []
        # What was written, by its second name, and how many bytes.
        self._written: dict[bytes, int] = {}
        os.makedirs(graveyard, exist_ok=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _bury(self, path: bytes) -> bytes:
        self._serial += 1
        name = b"%s/%d" % (self._graveyard, self._serial)
        os.link(path, name, follow_symlinks=False)
        return name

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        stat = self._inner.write_new(path, parts, mode, mtime_ns)
        # The second name changed the ctime.
        self._written[self._bury(path)] = stat.size
        self._undo.append(lambda: os.unlink(path))
        return self._inner.lstat(path)

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        self._inner.write_at(path, offset, parts)
        stat = self._inner.lstat(path)
        for name in self._written:
            if self._inner.lstat(name).inode == stat.inode:
                self._written[name] = stat.size
                return
        self._written[self._bury(path)] = stat.size

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        stat = self._inner.symlink(target, path, mtime_ns)
        self._undo.append(lambda: os.unlink(path))
        return stat

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._inner.mkdir(path, mode)
        self._undo.append(lambda: os.rmdir(path))

    def rename_new(self, source: bytes, target: bytes) -> None:
        self._inner.rename_new(source, target)
        self._undo.append(lambda: os.rename(target, source))

    def exchange(self, one: bytes, other: bytes) -> None:
        self._inner.exchange(one, other)
        self._undo.append(lambda: self._inner.exchange(one, other))

    def rename(self, source: bytes, target: bytes) -> None:
        replaced = self._bury(target) if os.path.lexists(target) else None
        self._inner.rename(source, target)

        def undo() -> None:
            os.rename(target, source)
            if replaced is not None:
                os.rename(replaced, target)

        self._undo.append(undo)

    def unlink(self, path: bytes) -> None:
        buried = self._bury(path)
        self._inner.unlink(path)
        self._undo.append(lambda: os.rename(buried, path))

    def rmdir(self, path: bytes) -> None:
        mode = self._inner.lstat(path).mode
        self._inner.rmdir(path)

        def undo() -> None:
            os.mkdir(path)
            os.chmod(path, mode)

        self._undo.append(undo)

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        before = self._inner.lstat(path)
        self._inner.set_attributes(path, mode=mode, mtime_ns=mtime_ns)
        old = None if before.kind == "symlink" else before.mode
        self._undo.append(
            lambda: self._inner.set_attributes(path, mode=old, mtime_ns=before.mtime_ns)
        )

    def barrier(self, directory: bytes) -> None:
        self._inner.barrier(directory)
        self._undo.clear()
        self._written.clear()

    def fsync(self, path: bytes) -> None:
        # Of a single file it says too little for us to know which names are safe.
        self._inner.fsync(path)

    def exposed(self, loss: Loss) -> bool:
        """Whether there is something that this loss would take."""
        return bool(self._undo if loss == "names" else self._written)

    def lose(self, loss: Loss) -> None:
        """The power is gone; this is what the disk holds afterwards."""
        if loss == "names":
            for undo in reversed(self._undo):
                undo()
            return
        for name, size in self._written.items():
            times = os.stat(name)
            os.chmod(name, 0o600)
            keep = size // 2 if loss == "half" else 0
            os.truncate(name, keep)
            if loss == "half":
                os.truncate(name, size)
            os.chmod(name, times.st_mode & 0o7777)
            with suppress(OSError):
                os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))
