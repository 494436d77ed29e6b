"""A file system that fails where a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from tcfs.host.base import FileSystem, Reader, Stat
from tcfs.host.faults import FaultPlan, SimulatedCrash

T = TypeVar("T")


class FaultyFileSystem:
    """Passes everything on to ``inner`` and asks ``plan`` before and after.

    What changes or secures something is numbered: write_new, write_at, symlink, mkdir, rename_new,
    exchange, rename, unlink, rmdir, set_attributes, barrier, fsync. spelling, lstat, scan, open,
    readlink and free_space pass the plan uncounted, at the moment ``before`` alone. ``write_new``
    and ``write_at`` have a ``middle``: a crash there leaves half the bytes. An error there leaves
    nothing of a new file, as the protocol says.
    """

    def __init__(self, inner: FileSystem, plan: FaultPlan) -> None:
        self._inner = inner
        self.plan = plan

    @property
    def ignores_case(self) -> bool:
        return self._inner.ignores_case

    @property
    def normalises_unicode(self) -> bool:
        return self._inner.normalises_unicode

    def spelling(self, path: bytes) -> bytes:
        self._read("spelling", path)
        return self._inner.spelling(path)

    def lstat(self, path: bytes) -> Stat:
        self._read("lstat", path)
        return self._inner.lstat(path)

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        self._read("scan", directory)
        return self._inner.scan(directory)

    def open(self, path: bytes) -> Reader:
        self._read("open", path)
        return self._inner.open(path)

    def readlink(self, path: bytes) -> bytes:
        self._read("readlink", path)
        return self._inner.readlink(path)

    def free_space(self, path: bytes) -> int:
        self._read("free_space", path)
        return self._inner.free_space(path)

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        operation = self.plan.begin("write_new", path)
        whole = b"".join(parts)
        try:
            self.plan.reach(operation, "middle")
        except SimulatedCrash:
            self._inner.write_new(path, [whole[: len(whole) // 2]], mode, mtime_ns)
            raise
        status = self._inner.write_new(path, [whole], mode, mtime_ns)
        self.plan.reach(operation, "after")
        return status

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        operation = self.plan.begin("write_at", path)
        whole = b"".join(parts)
        try:
            self.plan.reach(operation, "middle")
        except SimulatedCrash:
            self._inner.write_at(path, offset, [whole[: len(whole) // 2]])
            raise
        self._inner.write_at(path, offset, [whole])
        self.plan.reach(operation, "after")

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        return self._change("symlink", path, lambda: self._inner.symlink(target, path, mtime_ns))

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._change("mkdir", path, lambda: self._inner.mkdir(path, mode))

    def rename_new(self, source: bytes, target: bytes) -> None:
        self._change("rename_new", target, lambda: self._inner.rename_new(source, target))

    def exchange(self, one: bytes, other: bytes) -> None:
        self._change("exchange", other, lambda: self._inner.exchange(one, other))

    def rename(self, source: bytes, target: bytes) -> None:
        self._change("rename", target, lambda: self._inner.rename(source, target))

    def unlink(self, path: bytes) -> None:
        self._change("unlink", path, lambda: self._inner.unlink(path))

    def rmdir(self, path: bytes) -> None:
        self._change("rmdir", path, lambda: self._inner.rmdir(path))

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        self._change(
            "set_attributes",
            path,
            lambda: self._inner.set_attributes(path, mode=mode, mtime_ns=mtime_ns),
        )

    def barrier(self, directory: bytes) -> None:
        self._change("barrier", directory, lambda: self._inner.barrier(directory))

    def fsync(self, path: bytes) -> None:
        self._change("fsync", path, lambda: self._inner.fsync(path))

    def _read(self, name: str, path: bytes) -> None:
        self.plan.begin(name, path, counted=False)

    def _change(self, name: str, path: bytes, change: Callable[[], T]) -> T:
        operation = self.plan.begin(name, path)
        result = change()
        self.plan.reach(operation, "after")
        return result
