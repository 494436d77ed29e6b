"""A real directory on a disk that ignores case or normalises Unicode, made of one that does not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from tcfs.host.base import Reader, Stat
from tcfs.host.posix import PosixFileSystem
from tests.sim.disk import Naming

POSIX = PosixFileSystem()
MAC = Naming(ignores_case=True, normalises_unicode=True)


@dataclass(frozen=True, slots=True)
class FoldingFiles:
    """``FileSystem``: below ``top``, names that are one by ``naming`` are one file.

    Names keep the spelling that they were given, as on APFS; ``decomposes`` lists them in normal
    form D, as HFS+ does.
    """

    top: bytes
    naming: Naming = MAC
    decomposes: bool = False
    inner: PosixFileSystem = POSIX

    @property
    def ignores_case(self) -> bool:
        return self.naming.ignores_case

    @property
    def normalises_unicode(self) -> bool:
        return self.naming.normalises_unicode

    def _real(self, path: bytes) -> bytes:
        if not path.startswith(self.top + b"/"):
            return path
        place = self.top
        for name in path[len(self.top) + 1 :].split(b"/"):
            place += b"/" + self._stored(place, name)
        return place

    def _stored(self, place: bytes, name: bytes) -> bytes:
        key = self.naming.key(name)
        try:
            listed = os.listdir(place)
        except OSError:
            return name
        return next((other for other in listed if self.naming.key(other) == key), name)

    def _listed(self, name: bytes) -> bytes:
        return Naming(normalises_unicode=True).key(name) if self.decomposes else name

    def spelling(self, path: bytes) -> bytes:
        real = self._real(path)
        os.lstat(real)
        return self._listed(os.path.basename(real))

    def lstat(self, path: bytes) -> Stat:
        return self.inner.lstat(self._real(path))

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        listing = self.inner.scan(self._real(directory))
        return [(self._listed(name), stat) for name, stat in listing]

    def open(self, path: bytes) -> Reader:
        return self.inner.open(self._real(path))

    def readlink(self, path: bytes) -> bytes:
        return self.inner.readlink(self._real(path))

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        return self.inner.write_new(self._real(path), parts, mode, mtime_ns)

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        self.inner.write_at(self._real(path), offset, parts)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        return self.inner.symlink(target, self._real(path), mtime_ns)

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self.inner.mkdir(self._real(path), mode)

    def _target(self, source: bytes, target: bytes) -> bytes:
        """The entry that a rename replaces, or, of one entry, its other spelling."""
        real = self._real(target)
        if real == source:
            return os.path.dirname(real) + b"/" + os.path.basename(target)
        return real

    def rename_new(self, source: bytes, target: bytes) -> None:
        self.inner.rename_new(self._real(source), self._real(target))

    def exchange(self, one: bytes, other: bytes) -> None:
        self.inner.exchange(self._real(one), self._real(other))

    def rename(self, source: bytes, target: bytes) -> None:
        real = self._real(source)
        self.inner.rename(real, self._target(real, target))

    def unlink(self, path: bytes) -> None:
        self.inner.unlink(self._real(path))

    def rmdir(self, path: bytes) -> None:
        self.inner.rmdir(self._real(path))

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        self.inner.set_attributes(self._real(path), mode=mode, mtime_ns=mtime_ns)

    def barrier(self, directory: bytes) -> None:
        self.inner.barrier(self._real(directory))

    def fsync(self, path: bytes) -> None:
        self.inner.fsync(self._real(path))

    def free_space(self, path: bytes) -> int:
        return self.inner.free_space(self._real(path))
