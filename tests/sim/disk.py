"""A disk in memory that forgets what was not synced, by the rules of a journalling file system.

``Disk`` is what survives a process: inodes, names, and a journal of everything that no barrier has
covered yet. ``SimulatedFiles`` is the ``FileSystem`` that an engine gets; it passes through a gate
before each operation, where the scheduler may let others run, fail the operation, or end the run.

A power loss (``Disk.lose_power``) takes the journal back and then applies part of it again:

* ``ordered``: changes of names and attributes up to some point, as a journal is replayed (ext4,
  xfs);
* ``scattered``: any subset of the changes of names that still makes sense, since POSIX promises no
  order between them; a rename is one change;
* ``all`` and ``none``: everything, nothing.

Bytes of files written since the last barrier are, each for itself, whole, as they were before,
missing, zeros, or cut off with zeros behind: no journal protects those. Where bytes changed and the
size did not, the times of the write survive with them: under those of before, no scan of anybody
could see it (README, *What it does not cover*).
"""

from __future__ import annotations

import errno
import os
import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from tcfs.host.base import FileKind, Stat

Loss = Literal["ordered", "scattered", "all", "none"]
LOSSES: Final[tuple[Loss, ...]] = ("ordered", "scattered", "all", "none")
DEVICE: Final = 7
"""``st_dev`` of every simulated disk."""


class Inode:
    """A file, directory or symlink. ``entries`` maps a name as it is compared to (name, inode).

    ``made_at`` is where the engine made a file; nothing for a user's.
    """

    __slots__ = ("ctime_ns", "data", "entries", "kind", "made_at", "mode", "mtime_ns", "number")

    def __init__(self, number: int, kind: FileKind, mode: int, time_ns: int) -> None:
        self.number = number
        self.kind = kind
        self.mode = mode
        self.mtime_ns = time_ns
        self.ctime_ns = time_ns
        self.data = b""
        self.entries: dict[bytes, tuple[bytes, Inode]] = {}
        self.made_at = b""


class NameChange(NamedTuple):
    """One name of a directory: what it led to before and after."""

    directory: Inode
    key: bytes
    old: tuple[bytes, Inode] | None
    new: tuple[bytes, Inode] | None


class Names(NamedTuple):
    """Names that changed as one, by a rename or exchange, say."""

    changes: tuple[NameChange, ...]


class Attributes(NamedTuple):
    """Mode and times of an inode: (mode, mtime, ctime) before and after."""

    inode: Inode
    old: tuple[int, int, int]
    new: tuple[int, int, int]


class Content(NamedTuple):
    """Bytes of a file before and after."""

    inode: Inode
    old: bytes
    new: bytes


Record = Names | Attributes | Content


class Naming(NamedTuple):
    """How names are compared: exactly, without case, or without Unicode normalisation."""

    ignores_case: bool = False
    normalises_unicode: bool = False

    def key(self, name: bytes) -> bytes:
        """What two names share if they are one. Raises OSError for a name that cannot be."""
        if not (self.ignores_case or self.normalises_unicode):
            return name
        try:
            text = name.decode()
        except UnicodeDecodeError:
            raise OSError(errno.EILSEQ, os.strerror(errno.EILSEQ), name) from None
        if self.normalises_unicode:
            text = unicodedata.normalize("NFD", text)
        if self.ignores_case:
            text = text.casefold()
        return text.encode()


EXACT: Final = Naming()


class Disk:
    """A file system without its operating system.

    Args:
        now_ns: the time that files get.
        names: how names are compared.
        capacity: bytes of file content that fit.
    """

    def __init__(
        self, now_ns: Callable[[], int], names: Naming = EXACT, capacity: int = 1 << 40
    ) -> None:
        self.now_ns = now_ns
        self.names = names
        self.capacity = capacity
        self.used = 0
        self._numbers = 100
        self.root = self._inode("dir", 0o755)
        self._journal: list[Record] = []
        self.unsynced_saves: set[tuple[int, bytes]] = set()
        """What users saved in which inode, and nobody has synced."""

    # Looking

    def find(self, path: bytes) -> Inode:
        """The inode at a path. Raises OSError."""
        inode = self.root
        key = self.names.key
        for name in path.split(b"/"):
            if not name:
                continue
            if inode.kind != "dir":
                raise _error(errno.ENOTDIR, path)
            entry = inode.entries.get(key(name))
            if entry is None:
                raise _error(errno.ENOENT, path)
            inode = entry[1]
        return inode

    def get(self, path: bytes) -> Inode | None:
        """The inode at a path, or None."""
        try:
            return self.find(path)
        except OSError:
            return None

    def parent(self, path: bytes) -> tuple[Inode, bytes]:
        """The directory of a path, and the last name."""
        directory, _, name = path.rstrip(b"/").rpartition(b"/")
        inode = self.find(directory)
        if inode.kind != "dir":
            raise _error(errno.ENOTDIR, path)
        return inode, name

    def walk(self, top: Inode, prefix: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
        """Everything below a directory."""
        for name, inode in list(top.entries.values()):
            path = prefix + name
            yield path, inode
            if inode.kind == "dir":
                yield from self.walk(inode, path + b"/")

    # Changing

    def _inode(self, kind: FileKind, mode: int) -> Inode:
        self._numbers += 1
        return Inode(self._numbers, kind, mode, self.now_ns())

    def create(self, path: bytes, kind: FileKind, mode: int) -> Inode:
        """Something new and empty. Raises OSError."""
        directory, name = self.parent(path)
        key = self.names.key(name)
        if key in directory.entries:
            raise _error(errno.EEXIST, path)
        self._writable(directory, path)
        inode = self._inode(kind, mode)
        self._names(NameChange(directory, key, None, (name, inode)))
        return inode

    def write(self, inode: Inode, data: bytes) -> None:
        """Replace a file's bytes. Raises OSError(ENOSPC)."""
        grown = len(data) - len(inode.data)
        if grown > 0 and self.used + grown > self.capacity:
            raise _error(errno.ENOSPC, b"")
        self.used += grown
        self._journal.append(Content(inode, inode.data, data))
        inode.data = data
        now = self.now_ns()
        self.attributes(inode, inode.mode, now)

    def attributes(self, inode: Inode, mode: int, mtime_ns: int) -> None:
        """Set mode and mtime."""
        old = (inode.mode, inode.mtime_ns, inode.ctime_ns)
        inode.mode, inode.mtime_ns, inode.ctime_ns = mode, mtime_ns, self.now_ns()
        self._journal.append(Attributes(inode, old, (mode, mtime_ns, inode.ctime_ns)))

    def remove(self, path: bytes) -> Inode:
        """Take a name away. Raises OSError."""
        directory, name = self.parent(path)
        key = self.names.key(name)
        entry = directory.entries.get(key)
        if entry is None:
            raise _error(errno.ENOENT, path)
        self._writable(directory, path)
        self._names(NameChange(directory, key, entry, None))
        self.used -= len(entry[1].data)
        return entry[1]

    def rename(self, source: bytes, target: bytes, *, replace: bool) -> Inode | None:
        """Rename; returns what was replaced. Raises OSError."""
        one, old_name = self.parent(source)
        other, new_name = self.parent(target)
        old_key, new_key = self.names.key(old_name), self.names.key(new_name)
        entry = one.entries.get(old_key)
        if entry is None:
            raise _error(errno.ENOENT, source)
        there = other.entries.get(new_key)
        moving = entry[1]
        if there is not None and there[1] is moving:
            if not replace:
                raise _error(errno.EEXIST, target)
            there = None
            if (one, old_key) == (other, new_key):
                self._writable(one, source)
                self._names(NameChange(one, old_key, entry, (new_name, moving)))
                return None
        if moving.kind == "dir" and (target + b"/").startswith(source + b"/"):
            raise _error(errno.EINVAL, target)
        if there is not None:
            if not replace:
                raise _error(errno.EEXIST, target)
            if there[1].kind == "dir":
                if moving.kind != "dir":
                    raise _error(errno.EISDIR, target)
                if there[1].entries:
                    raise _error(errno.ENOTEMPTY, target)
            elif moving.kind == "dir":
                raise _error(errno.ENOTDIR, target)
        self._writable(one, source)
        self._writable(other, target)
        self._names(
            NameChange(one, old_key, entry, None),
            NameChange(other, new_key, there, (new_name, moving)),
        )
        self._touch(moving)
        if there is not None:
            self.used -= len(there[1].data)
        return there[1] if there else None

    def exchange(self, one: bytes, other: bytes) -> None:
        """Swap two names. Raises OSError."""
        first, name = self.parent(one)
        second, other_name = self.parent(other)
        key, other_key = self.names.key(name), self.names.key(other_name)
        a, b = first.entries.get(key), second.entries.get(other_key)
        if a is None or b is None:
            raise _error(errno.ENOENT, one if a is None else other)
        self._writable(first, one)
        self._writable(second, other)
        self._names(
            NameChange(first, key, a, (a[0], b[1])),
            NameChange(second, other_key, b, (b[0], a[1])),
        )
        self._touch(a[1])
        self._touch(b[1])

    def _touch(self, inode: Inode) -> None:
        self.attributes(inode, inode.mode, inode.mtime_ns)

    def _names(self, *changes: NameChange) -> None:
        for change in changes:
            _apply(change.directory, change.key, change.new)
            change.directory.mtime_ns = change.directory.ctime_ns = self.now_ns()
        self._journal.append(Names(changes))

    def _writable(self, directory: Inode, path: bytes) -> None:
        if directory.mode & 0o300 != 0o300:
            raise _error(errno.EACCES, path)

    def copy_of(self, other: Disk) -> None:
        """Hold what another disk holds, all of it durable."""
        self._numbers = other._numbers
        self.root = _copy(other.root)
        self.used = other.used
        self.barrier()

    # Durability

    def barrier(self) -> None:
        """Everything so far is durable."""
        self._journal.clear()
        self.unsynced_saves.clear()

    def fsync(self, inode: Inode) -> None:
        """This file's bytes are durable, and with them every name and attribute so far.

        That is what a journal gives (ext4, xfs); bytes of other files stay as they are.
        """
        self.sync_names()
        self._journal = [
            record
            for record in self._journal
            if isinstance(record, Content) and record.inode is not inode
        ]
        self.unsynced_saves = {save for save in self.unsynced_saves if save[0] != inode.number}

    def place(self) -> int:
        """Where the journal ends now."""
        return len(self._journal)

    def written_since(self, place: int) -> set[Inode]:
        """The files whose bytes were written after that, be it with the same bytes."""
        return {record.inode for record in self._journal[place:] if isinstance(record, Content)}

    def sync_names(self) -> None:
        """Every name and attribute so far is durable, as after the fsync of a directory."""
        self._journal = [record for record in self._journal if isinstance(record, Content)]

    def lose_power(self, loss: Loss, rng: random.Random) -> None:
        """What the disk holds when power comes back."""
        journal, self._journal = self._journal, []
        before = {inode.number for _, inode in self.walk(self.root)}
        self._undo(journal)
        kept = self._choose(journal, loss, rng)
        self._redo(journal, kept, rng)
        if loss == "scattered":
            after = {inode.number for _, inode in self.walk(self.root)}
            moved = {
                change.new[1].number
                for record in journal
                if isinstance(record, Names) and len(record.changes) > 1
                for change in record.changes
                if change.new
            }
            if not (before & moved) <= after:  # a file system has no cycles and loses no inode
                self._undo(journal)
                self._redo(journal, self._choose(journal, "ordered", rng), rng)
        self.used = sum(len(inode.data) for _, inode in self.walk(self.root))
        self.unsynced_saves.clear()

    def _undo(self, journal: list[Record]) -> None:
        for record in reversed(journal):
            if isinstance(record, Names):
                for change in reversed(record.changes):
                    _apply(change.directory, change.key, change.old)
            elif isinstance(record, Attributes):
                inode = record.inode
                inode.mode, inode.mtime_ns, inode.ctime_ns = record.old
            else:
                record.inode.data = record.old

    def _choose(self, journal: list[Record], loss: Loss, rng: random.Random) -> list[bool]:
        if loss == "ordered":
            cut = rng.randint(0, len(journal))
            return [index < cut for index in range(len(journal))]
        if loss == "scattered":
            share = rng.random()
            return [rng.random() < share for _ in journal]
        return [loss == "all"] * len(journal)

    def _redo(self, journal: list[Record], kept: list[bool], rng: random.Random) -> None:
        for record, keep in zip(journal, kept, strict=True):
            if isinstance(record, Names):
                if keep and all(
                    change.directory.entries.get(change.key) == change.old
                    for change in record.changes
                ):
                    for change in record.changes:
                        _apply(change.directory, change.key, change.new)
            elif isinstance(record, Attributes):
                if keep:
                    inode = record.inode
                    inode.mode, inode.mtime_ns, inode.ctime_ns = record.new
            else:
                record.inode.data = _torn(record, rng)
        _give_times(journal)


def _give_times(journal: list[Record]) -> None:
    """Let the stat tell of bytes that changed in place: journals write times before bytes."""
    bytes_before: dict[Inode, bytes] = {}
    times_before: dict[Inode, tuple[int, int]] = {}
    times_after: dict[Inode, tuple[int, int]] = {}
    for record in journal:
        if isinstance(record, Content):
            bytes_before.setdefault(record.inode, record.old)
        elif isinstance(record, Attributes):
            times_before.setdefault(record.inode, record.old[1:])
            times_after[record.inode] = record.new[1:]
    for inode, data in bytes_before.items():
        now = (inode.mtime_ns, inode.ctime_ns)
        if inode.data != data and len(inode.data) == len(data) and now == times_before.get(inode):
            inode.mtime_ns, inode.ctime_ns = times_after[inode]


def _torn(record: Content, rng: random.Random) -> bytes:
    new, half = record.new, len(record.new) // 2
    return rng.choice(
        [new, new, record.inode.data, b"", bytes(len(new)), new[:half] + bytes(len(new) - half)]
    )


def _copy(inode: Inode) -> Inode:
    made = Inode(inode.number, inode.kind, inode.mode, inode.mtime_ns)
    made.ctime_ns, made.data, made.made_at = inode.ctime_ns, inode.data, inode.made_at
    made.entries = {key: (name, _copy(child)) for key, (name, child) in inode.entries.items()}
    return made


def _apply(directory: Inode, key: bytes, entry: tuple[bytes, Inode] | None) -> None:
    if entry is None:
        directory.entries.pop(key, None)
    else:
        directory.entries[key] = entry


def _error(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), path)


class Gate:
    """What every operation of a simulated machine passes before it happens."""

    def pass_(self, kind: str, name: str, target: bytes | str) -> str:
        """Let others run; says how the operation is to fail, or nothing.

        Raises:
            SimulatedCrash: the process ends here.
        """
        return ""

    def dropped(self, path: bytes, inode: Inode) -> None:
        """An engine took the last name of a file away."""


class SimulatedFiles:
    """``tcfs.host.base.FileSystem`` on a ``Disk``."""

    def __init__(self, disk: Disk, gate: Gate) -> None:
        self.disk = disk
        self._gate = gate

    @property
    def ignores_case(self) -> bool:
        return self.disk.names.ignores_case

    @property
    def normalises_unicode(self) -> bool:
        return self.disk.names.normalises_unicode

    def _pass(self, name: str, path: bytes) -> None:
        fault = self._gate.pass_("file", name, path)
        if fault:
            raise _error(errno.ENOSPC if fault == "full" else errno.EIO, path)

    def spelling(self, path: bytes) -> bytes:
        self._pass("lstat", path)
        directory, name = self.disk.parent(path)
        entry = directory.entries.get(self.disk.names.key(name))
        if entry is None:
            raise _error(errno.ENOENT, path)
        return entry[0]

    def lstat(self, path: bytes) -> Stat:
        self._pass("lstat", path)
        return _stat(self.disk.find(path))

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        self._pass("scan", directory)
        inode = self.disk.find(directory)
        if inode.kind != "dir":
            raise _error(errno.ENOTDIR, directory)
        if not inode.mode & 0o400:
            raise _error(errno.EACCES, directory)
        return [(name, _stat(child)) for name, child in inode.entries.values()]

    def open(self, path: bytes) -> SimulatedReader:
        self._pass("open", path)
        inode = self.disk.find(path)
        if inode.kind == "symlink":
            raise _error(errno.ELOOP, path)
        if inode.kind != "file":
            raise _error(errno.EISDIR, path)
        if not inode.mode & 0o400:
            raise _error(errno.EACCES, path)
        return SimulatedReader(self, path, inode)

    def readlink(self, path: bytes) -> bytes:
        self._pass("readlink", path)
        inode = self.disk.find(path)
        if inode.kind != "symlink":
            raise _error(errno.EINVAL, path)
        return inode.data

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        self._pass("write_new", path)
        inode = self.disk.create(path, "file", mode)
        inode.made_at = path
        try:
            data = b""
            for part in parts:
                self._pass("write", path)
                data += part
                self.disk.write(inode, data)
            self.disk.attributes(inode, mode, mtime_ns)
        except Exception:
            self.disk.remove(path)
            raise
        return _stat(inode)

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        inode = self.disk.find(path)
        for part in parts:
            self._pass("write", path)
            data = inode.data.ljust(offset, b"\0")
            self.disk.write(inode, data[:offset] + part + data[offset + len(part) :])
            offset += len(part)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        self._pass("symlink", path)
        inode = self.disk.create(path, "symlink", 0o777)
        inode.data = target
        self.disk.attributes(inode, 0o777, mtime_ns)
        return _stat(inode)

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._pass("mkdir", path)
        self.disk.create(path, "dir", mode & 0o755)

    def rename_new(self, source: bytes, target: bytes) -> None:
        self._pass("rename_new", target)
        self.disk.rename(source, target, replace=False)

    def exchange(self, one: bytes, other: bytes) -> None:
        self._pass("exchange", other)
        self.disk.exchange(one, other)

    def rename(self, source: bytes, target: bytes) -> None:
        self._pass("rename", source)
        replaced = self.disk.rename(source, target, replace=True)
        if replaced is not None:
            self._gate.dropped(target, replaced)

    def unlink(self, path: bytes) -> None:
        self._pass("unlink", path)
        if self.disk.find(path).kind == "dir":
            raise _error(errno.EISDIR, path)
        inode = self.disk.remove(path)
        if inode.made_at != path:
            # Else it was nowhere else, and holds what the engine had written of it so far.
            self._gate.dropped(path, inode)

    def rmdir(self, path: bytes) -> None:
        self._pass("rmdir", path)
        inode = self.disk.find(path)
        if inode.kind != "dir":
            raise _error(errno.ENOTDIR, path)
        if inode.entries:
            raise _error(errno.ENOTEMPTY, path)
        self.disk.remove(path)

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        self._pass("set_attributes", path)
        inode = self.disk.find(path)
        if inode.kind == "symlink":
            mode = None
        self.disk.attributes(
            inode,
            inode.mode if mode is None else mode,
            inode.mtime_ns if mtime_ns is None else mtime_ns,
        )

    def barrier(self, directory: bytes) -> None:
        self._pass("barrier", directory)
        self.disk.find(directory)
        self.disk.barrier()

    def fsync(self, path: bytes) -> None:
        self._pass("fsync", path)
        self.disk.fsync(self.disk.find(path))

    def free_space(self, path: bytes) -> int:
        self._pass("free_space", path)
        return max(0, self.disk.capacity - self.disk.used)


class SimulatedReader:
    """An open file: the inode, whatever becomes of its name and bytes."""

    __slots__ = ("_files", "_inode", "_offset", "_path")

    def __init__(self, files: SimulatedFiles, path: bytes, inode: Inode) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._offset = 0

    def read(self, size: int) -> bytes:
        self._files._pass("read", self._path)
        end = self._offset + size
        data = self._inode.data[self._offset : end]
        if len(data) > 1 and b"/.tcfs/" not in self._path:
            # Somebody may write while it is read: the first half is of before then.
            self._files._pass("read", self._path)
            middle = self._offset + len(data) // 2
            data = data[: len(data) // 2] + self._inode.data[middle:end]
        self._offset += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int) -> None:
        self._offset = offset

    def fstat(self) -> Stat:
        return _stat(self._inode)

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> SimulatedReader:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _stat(inode: Inode) -> Stat:
    size = len(inode.data) if inode.kind != "dir" else 0
    return Stat(
        inode.kind,
        size,
        inode.mode,
        inode.mtime_ns,
        inode.ctime_ns,
        inode.number,
        DEVICE,
    )
