"""What the engine asks of the machine. Everything here can be replaced by a simulation.

Paths are absolute ``bytes``. Failures are ``OSError`` as the system raises them; the engine
turns them into ``LocalFileError`` with a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from tcfs.host.room import Room

if TYPE_CHECKING:
    from tcfs.host.listing import Seen

T = TypeVar("T")
R = TypeVar("R")

FileKind = Literal["file", "dir", "symlink", "other"]


class Stat(NamedTuple):
    """What ``lstat`` says, as far as the engine cares.

    ``size`` in bytes; times in nanoseconds; ``mode`` is the permission bits (0-4095) alone.
    Renaming changes ``ctime_ns`` on most file systems. A tuple because a scan makes one for every
    entry: a frozen dataclass takes a third longer.
    """

    kind: FileKind
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Reader(Protocol):
    """An open file, read from the start. ``fstat`` tells of the open file, not of its name."""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; fewer at the end, none past it."""
        ...

    def readinto(self, buffer: memoryview) -> int: ...
    def seek(self, offset: int) -> None:
        """Go on reading ``offset`` bytes from the start of the file."""
        ...

    def fstat(self) -> Stat: ...
    def close(self) -> None: ...
    def __enter__(self) -> Reader: ...
    def __exit__(self, *exc: object) -> None: ...


class FileSystem(Protocol):
    """A file system as the engine sees it. Never follows a symlink in the last component."""

    @property
    def ignores_case(self) -> bool:
        """Whether names that differ in case alone are one file here (the default of macOS)."""
        ...

    @property
    def normalises_unicode(self) -> bool:
        """Whether names that differ in Unicode normalisation alone are one file here."""
        ...

    def spelling(self, path: bytes) -> bytes:
        """The last name of a path as the disk has it: what ``scan`` lists. Raises as ``lstat``."""
        ...

    def lstat(self, path: bytes) -> Stat: ...
    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        """Names and stats of a directory's entries, in any order.

        An entry that vanished meanwhile is left out; any other failure is raised.
        """
        ...

    def open(self, path: bytes) -> Reader:
        """Open a regular file for reading, without following a symlink (``ELOOP``).

        Never waits; ``OSError(EISDIR)`` for a directory, ``EINVAL`` for anything else.
        """
        ...

    def readlink(self, path: bytes) -> bytes: ...

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        """Create ``path`` (it must not exist) with these bytes, mode and mtime.

        Not durable before ``barrier``. On failure nothing is left behind.
        """
        ...

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        """Write these bytes into a regular file, from ``offset`` bytes after its start on.

        It grows as it has to, with zeros before ``offset``. Not durable before ``barrier``. A
        failure may leave some of the bytes.
        """
        ...

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat: ...
    def mkdir(self, path: bytes, mode: int = 0o777) -> None: ...
    def rename_new(self, source: bytes, target: bytes) -> None:
        """Rename, atomically, only if ``target`` does not exist (``FileExistsError``).

        ``OSError(ENOTSUP)`` where a file cannot be renamed in that way. Where case is ignored, a
        name that differs from ``source`` in case alone exists: use ``rename``.
        """
        ...

    def exchange(self, one: bytes, other: bytes) -> None:
        """Swap two names, atomically. ``OSError(ENOTSUP)`` where the system has no such call."""
        ...

    def rename(self, source: bytes, target: bytes) -> None:
        """Rename, atomically, replacing ``target``."""
        ...

    def unlink(self, path: bytes) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        """Set permission bits and mtime; not through symlinks (their mode is left alone)."""
        ...

    def barrier(self, directory: bytes) -> None:
        """Return when everything written so far to the file system of ``directory`` is durable."""
        ...

    def fsync(self, path: bytes) -> None:
        """Return when this one file's bytes, or this directory's entries, are durable."""
        ...

    def free_space(self, path: bytes) -> int:
        """Bytes an ordinary user may still write to the file system of ``path``."""
        ...


class Clock(Protocol):
    """Wall time for people (never for deciding what wins) and monotonic time for waiting."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float) -> None: ...


class Entropy(Protocol):
    """Random bytes from the system."""

    def token(self, size: int) -> bytes: ...


class Executor(Protocol):
    """Runs the CPU stage of a push or pull."""

    @property
    def workers(self) -> int: ...
    def start(self) -> None:
        """Get ready: there will be work soon."""
        ...

    def room(self, size: int) -> Room:
        """Memory for an item: where the workers have it too, it is not copied to them."""
        ...

    def map(
        self, function: Callable[[T], R], items: Iterable[T], *, ahead: int = ...
    ) -> Iterator[R]:
        """Results as they come, in any order; ``ahead`` items for each worker are in flight.

        ``function`` and the items can be pickled. The first failure is raised and the rest dropped.
        """
        ...

    def close(self) -> None: ...


class Ahead(Protocol):
    """Listings of a tree's directories, made by somebody else. ``close`` it."""

    def entries(self, directory: bytes) -> list[Seen] | None:
        """What a directory holds, sorted, by its path below the top; None to look there oneself.

        To be asked in the order of paths, directories ending in a slash. The answer may be some
        time old: it was listed after the look ahead was begun.

        Raises:
            OSError: it could not be listed.
        """
        ...

    def close(self) -> None: ...


class Host(Struct, frozen=True):
    """The machine the engine runs on."""

    files: FileSystem
    clock: Clock
    entropy: Entropy
    executor: Callable[[int], Executor]
    """Makes an executor for this number of workers."""
    lock: Callable[[bytes, bool], AbstractContextManager[Any]]
    """Takes the exclusive lock on a path (``wait`` or raise BusyError) while the context lasts."""
    ahead: Callable[[bytes, Sequence[bytes]], Ahead | None] | None = None
    """Begins to look at the tree below a directory, leaving out directories whose path holds any of
    these bytes; None where that cannot be, or nothing is gained."""
