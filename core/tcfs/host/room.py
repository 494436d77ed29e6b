"""Memory for what an item of work is about, filled here and read where the work is done.

Pickling bytes for a worker process copies them five times on their way. A room of an ``Arena`` is
memory that the workers have as well, and travels as a place in it. Where the system has no memory
without a name (macOS), or the arena is full, a room is ordinary memory, and travels by value.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import Any, Final

_NEVER_RUN: Final = 8
"""MFD_NOEXEC_SEAL: some systems give no other."""
GRAIN: Final = mmap.ALLOCATIONGRANULARITY


class Room:
    """Some memory. ``release`` it when the result of the work that it was for is here."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view
        """The bytes; more than were asked for, maybe."""

    @classmethod
    def private(cls, size: int) -> Room:
        """Memory of this process alone."""
        return cls(memoryview(bytearray(size)))

    def release(self) -> None:
        """Nobody needs it any more."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_value, (bytes(self.view),)


class Arena:
    """Memory without a name, for the processes that are started with ``fd``.

    Rooms are given and taken back in one thread.

    Args:
        size: bytes; those that were never used cost nothing.

    Raises:
        OSError: the system has no such memory, or gives none.
    """

    def __init__(self, size: int) -> None:
        self.fd = _without_a_name()
        self._size = _whole(size)
        os.ftruncate(self.fd, self._size)
        self._memory = memoryview(mmap.mmap(self.fd, self._size))
        # Where each room that is in use begins and ends, in order.
        self._used: list[tuple[int, int]] = []

    @classmethod
    def of(cls, size: int) -> Arena | None:
        """An arena, if there can be one."""
        try:
            return cls(size)
        except OSError:
            return None

    def room(self, size: int) -> Room | None:
        """The first room of that many bytes, or None if there is none."""
        start = 0
        needed = _whole(max(size, 1))
        for number, (begin, end) in enumerate([*self._used, (self._size, self._size)]):
            if begin - start >= needed:
                self._used.insert(number, (start, start + needed))
                return _SharedRoom(self, start, self._memory[start : start + needed])
            start = end
        return None

    def release(self, start: int) -> None:
        """The room that begins there is free again."""
        self._used = [place for place in self._used if place[0] != start]

    def close(self) -> None:
        """Give the memory back, once nobody holds a room of it."""
        os.close(self.fd)
        self._memory = memoryview(b"")


class _SharedRoom(Room):
    __slots__ = ("_arena", "_start")

    def __init__(self, arena: Arena, start: int, view: memoryview) -> None:
        super().__init__(view)
        self._arena = arena
        self._start = start

    def release(self) -> None:
        self._arena.release(self._start)

    def __reduce__(self) -> tuple[Any, ...]:
        return _mapped, (self._start, len(self.view))


_arena_fd = -1


def attach(fd: int) -> None:
    """In a worker: rooms that come from now on are of the arena with this descriptor."""
    global _arena_fd
    _arena_fd = fd


def _without_a_name() -> int:
    create = getattr(os, "memfd_create", None)
    if create is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        fd: int = create("tcfs-arena", os.MFD_CLOEXEC | _NEVER_RUN)
    except OSError:  # Linux before 6.3 does not know that flag
        fd = create("tcfs-arena")
    return fd


def _by_value(data: bytes) -> Room:
    return Room(memoryview(data))


def _mapped(start: int, size: int) -> Room:
    # Mapped for as long as somebody holds it: what is shared counts for every process that has it.
    # At once and not page by page: the system writes to a file from pages that are there, and
    # otherwise begins, sees that one is not, clears what it had prepared, and begins again.
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    return Room(memoryview(mmap.mmap(_arena_fd, size, flags, mmap.PROT_READ, offset=start)))


def _whole(size: int) -> int:
    return -(-size // GRAIN) * GRAIN
