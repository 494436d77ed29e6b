"""Roots and their base: which local directories belong where, and what they last had on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson
from msgspec import Struct, msgpack
from msgspec.structs import replace

from tcfs.model.clock import VectorClock
from tcfs.model.ids import DeviceId, NamespaceId, RelPath, VersionId
from tcfs.model.manifest import Kind
from tcfs.model.paths import ROOT
from tcfs.model.plan import BaseEntry, LocalEntry
from tcfs.state.columns import (
    at_and_below,
    below,
    dump_clock,
    dump_ids,
    parse_ids,
    touched_query,
)
from tcfs.state.database import Database, delete_rows, insert_rows

_COLUMNS: Final = (
    "path, ids, clock, kind, size, mode, mtime_ns, ctime_ns, inode, file_hash, target, size_class"
)


_STAT: Final = "path, kind, size, mode, mtime_ns, ctime_ns, inode"

StoredStat = tuple[Any, ...]
"""The stat of a base row, its columns in the order of ``_STAT``."""
_AT_ONCE: Final = 500
"""Rows that are read, or paths that are asked for, at a time."""


def is_unchanged(row: StoredStat, entry: LocalEntry) -> bool:
    """Whether ``tcfs.model.plan.local_change`` says NONE of a stored stat and an entry on disk.

    False may also be said of a directory that stands on this disk alone.
    """
    _, kind, size, mode, mtime_ns, ctime_ns, inode = row
    if kind != entry.kind or not ctime_ns:
        return False
    if kind == "dir":
        return bool(mode == entry.mode)
    return bool(
        ctime_ns == entry.ctime_ns
        and mtime_ns == entry.mtime_ns
        and size == entry.size
        and inode == _signed(entry.inode)
        and (mode == entry.mode or kind == "symlink")
    )


class Root(Struct, frozen=True):
    """A local directory or file and its place in a namespace.

    Attributes:
        local: absolute path.
        marker: what the directory's identity marker says; empty for a single file, or where none
            could be written, when ``device`` and ``inode`` tell the directory instead.
        pulled: the history row up to which remote changes were taken up when this was read.
    """

    id: int
    local: bytes
    namespace: NamespaceId
    remote: RelPath
    marker: str
    device: int
    inode: int
    pulled: int


class Intent(Struct, frozen=True, array_like=True, gc=False):
    """What a pull is about to put at a path; kind ``tombstone`` and no version for a removal.

    Attributes:
        ids, clock: what the base will record, where it is not that version alone.
        mode: permission bits, where they are not the version's.
        displaces: the mtime (ns) of the file or link that gives way to it; None for none.
    """

    path: RelPath
    kind: Kind
    version: VersionId | None = None
    ids: tuple[VersionId, ...] | None = None
    clock: dict[DeviceId, int] | None = None
    mode: int | None = None
    displaces: int | None = None


_pack = msgpack.Encoder().encode
_unpack_intents: Final = msgpack.Decoder(list[Intent]).decode


def _pack_intents(intents: Iterable[Intent]) -> bytes:
    return _pack(list(intents))


class Intended(Struct, frozen=True, gc=False):
    """An intent that is still there, with the base that holds if it was done.

    Without a base it was a removal, or its version is not accepted any more. ``number`` is that of
    its list.
    """

    path: RelPath
    kind: Kind
    entry: BaseEntry | None
    number: int
    displaces: int | None = None


class Roots:
    """Roots, their base rows, and what a pull has yet to do in them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._clocks: dict[str, VectorClock] = {}

    # Roots

    def all(self) -> list[Root]:
        """Every root, by local path."""
        rows = self._db.connection.execute("SELECT * FROM root ORDER BY local").fetchall()
        return [_root(row) for row in rows]

    def add(
        self,
        local: bytes,
        namespace: NamespaceId,
        remote: RelPath,
        *,
        marker: str = "",
        device: int = 0,
        inode: int = 0,
    ) -> Root:
        """Record a root; the same again gives the one there is."""
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR IGNORE INTO root (local, ns, remote, marker, device, inode, pulled)"
                " VALUES (?, ?, ?, ?, ?, ?, 0)",
                (local, namespace, remote, marker, _signed(device), _signed(inode)),
            )
            row = run.execute(
                "SELECT * FROM root WHERE local = ? AND ns = ? AND remote = ?",
                (local, namespace, remote),
            ).fetchone()
        return _root(row)

    def remove(self, root: Root) -> None:
        """Forget a root and its base; nothing on disk or in the store changes."""
        with self._db.transaction() as run:
            run.execute("DELETE FROM root WHERE id = ?", (root.id,))

    # Base

    def base(self, root: Root, prefix: RelPath = ROOT) -> dict[RelPath, BaseEntry]:
        """The base at and below a path of the root."""
        low, high = below(prefix)
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM base WHERE root = ?"
            " AND (path = ? OR (path >= ? AND path < ?))",
            (root.id, prefix, low, high),
        )
        return {RelPath(row[0]): self._entry(row) for row in rows}

    def stats(self, root: Root, prefix: RelPath = ROOT) -> Iterator[StoredStat]:
        """The stats of the base at and below a path, in the order of paths.

        For a scan that finds hardly anything changed: making an entry costs more than a stat. Read
        a few at a time; nothing may change the base meanwhile.
        """
        low, high = below(prefix)
        run = self._db.connection.execute
        if prefix:
            yield from run(
                f"SELECT {_STAT} FROM base WHERE root = ? AND path = ?", (root.id, prefix)
            ).fetchall()
        rows = run(
            f"SELECT {_STAT} FROM base WHERE root = ? AND path >= ? AND path < ? ORDER BY path",
            (root.id, low, high),
        )
        while some := rows.fetchmany(_AT_ONCE):
            yield from some

    def stats_of(self, root: Root, paths: Sequence[RelPath]) -> list[StoredStat]:
        """The stats of the base at these paths, in order."""
        return sorted(self._at(_STAT, root, paths), key=itemgetter(0))

    def base_at(self, root: Root, paths: Sequence[RelPath]) -> dict[RelPath, BaseEntry]:
        """The base at these paths; those without one are left out."""
        return {RelPath(row[0]): self._entry(row) for row in self._at(_COLUMNS, root, paths)}

    def _at(self, columns: str, root: Root, paths: Sequence[RelPath]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(paths), _AT_ONCE):
            asked = paths[start : start + _AT_ONCE]
            yield from self._db.connection.execute(
                f"SELECT {columns} FROM base WHERE root = ? AND path IN"
                f" ({','.join('?' * len(asked))})",
                (root.id, *asked),
            ).fetchall()

    def base_of(self, root: Root, path: RelPath) -> BaseEntry | None:
        """The base of one path."""
        row = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM base WHERE root = ? AND path = ?", (root.id, path)
        ).fetchone()
        return self._entry(row) if row else None

    def base_count(self, root: Root) -> int:
        """How many paths of a root are tracked."""
        (count,) = self._db.connection.execute(
            "SELECT count(*) FROM base WHERE root = ?", (root.id,)
        ).fetchone()
        return int(count)

    def tracks(self, root: Root, count: int) -> bool:
        """Whether at least so many paths of a root are tracked; counts no further."""
        found = self._db.connection.execute(
            "SELECT 1 FROM base WHERE root = ? LIMIT 1 OFFSET ?", (root.id, count - 1)
        )
        return found.fetchone() is not None

    def set_base(self, root: Root, entries: Iterable[tuple[RelPath, BaseEntry]]) -> None:
        """Record what a pull put on disk, durably; there is nothing to do there any more."""
        entries = list(entries)
        with self._db.transaction() as run:
            self.refresh_base(root, entries)
            _delete(run, "todo", root, [path for path, _ in entries])

    def refresh_base(self, root: Root, entries: Iterable[tuple[RelPath, BaseEntry]]) -> None:
        """Record what a push found on disk, durably. What a pull has to do there stays to do."""
        rows = [(root.id, path, *_row(entry)) for path, entry in entries]
        with self._db.transaction() as run:
            insert_rows(run, "INSERT OR REPLACE INTO base", rows)

    def drop_base(self, root: Root, paths: Iterable[RelPath]) -> None:
        """Record that a pull left nothing on disk at these paths: nothing is to do there."""
        paths = list(paths)
        with self._db.transaction() as run:
            self.forget_base(root, paths)
            _delete(run, "todo", root, paths)

    def forget_base(self, root: Root, paths: Iterable[RelPath]) -> None:
        """Record that nothing is on disk at these paths. What a pull has to do there stays."""
        with self._db.transaction() as run:
            _delete(run, "base", root, list(paths))

    def forget_versions(self, root: Root, device: DeviceId, counter: int) -> None:
        """Forget the base of paths that rest on what a device wrote after a counter."""
        stale = [
            path for path, entry in self.base(root).items() if entry.clock.get(device) > counter
        ]
        with self._db.transaction() as run:
            _delete(run, "base", root, stale)

    def _entry(self, row: tuple[Any, ...]) -> BaseEntry:
        # A tree pushed in one go has a clock per file; a tree pulled twice shares most of them.
        clock = self._clocks.get(row[2])
        if clock is None:
            clock = VectorClock(orjson.loads(row[2]))
            if len(self._clocks) < 10_000:
                self._clocks[row[2]] = clock
        return BaseEntry(
            ids=parse_ids(row[1]),
            clock=clock,
            kind=row[3],
            size=row[4],
            mode=row[5],
            mtime_ns=row[6],
            ctime_ns=row[7],
            inode=_unsigned(row[8]),
            file_hash=row[9],
            target=row[10],
            size_class=row[11],
        )

    # What a pull has yet to do

    def take_up(self, root: Root, newest: int) -> None:
        """Record that remote changes up to a history row are to be put on disk."""
        pulled = self.pulled(root)
        if newest == pulled:
            return
        rows = (pulled, newest)
        skipped = len(root.remote) + 1 if root.remote else 0
        with self._db.transaction() as run:
            for low, high in at_and_below(root.remote):
                run.execute(
                    f"INSERT OR IGNORE INTO todo SELECT ?, substr(path, ?)"
                    f" FROM ({touched_query(rows)})",
                    (root.id, skipped + 1, root.namespace, low, high, *rows, -1),
                )
            run.execute("UPDATE root SET pulled = ? WHERE id = ?", (newest, root.id))

    def pulled(self, root: Root) -> int:
        """The history row up to which remote changes were taken up, as it is now."""
        row = self._db.connection.execute(
            "SELECT pulled FROM root WHERE id = ?", (root.id,)
        ).fetchone()
        return int(row[0]) if row else 0

    def wait(self, root: Root, paths: Iterable[RelPath]) -> None:
        """Record that there is still something to do at these paths."""
        with self._db.transaction() as run:
            insert_rows(run, "INSERT OR IGNORE INTO todo", [(root.id, path) for path in paths])

    def todo(
        self, root: Root, prefix: RelPath = ROOT, *, start: bytes = b"", limit: int = -1
    ) -> list[RelPath]:
        """Paths at and below one with remote changes not yet on disk, in order.

        Args:
            start: where in that order to begin.
            limit: how many there may be; any number if it is negative.
        """
        run, found = self._db.connection.execute, list[RelPath]()
        for low, high in at_and_below(prefix):
            rows = run(
                "SELECT path FROM todo WHERE root = ? AND path >= ? AND path < ?"
                " ORDER BY path LIMIT ?",
                (root.id, max(low, start), high, limit),
            ).fetchall()
            found += [RelPath(path) for (path,) in rows]
        return found if limit < 0 else found[:limit]

    def todo_on_disk(
        self, root: Root, prefix: RelPath, *, end: bytes | None = None, limit: int = -1
    ) -> list[RelPath]:
        """Those of them that have a base, deepest first: what a pull may have to remove.

        Args:
            end: before which path in the order of paths to begin.
        """
        run, found = self._db.connection.execute, list[RelPath]()
        for low, high in reversed(at_and_below(prefix)):
            rows = run(
                "SELECT todo.path FROM todo JOIN base ON base.root = todo.root"
                " AND base.path = todo.path WHERE todo.root = ?"
                " AND todo.path >= ? AND todo.path < ? ORDER BY todo.path DESC LIMIT ?",
                (root.id, low, high if end is None else min(high, end), limit),
            ).fetchall()
            found += [RelPath(path) for (path,) in rows]
        return found if limit < 0 else found[:limit]

    def done(self, root: Root, paths: Iterable[RelPath]) -> None:
        """Record that nothing is to do at these paths."""
        with self._db.transaction() as run:
            _delete(run, "todo", root, list(paths))

    def waiting(self, root: Root) -> int:
        """How many paths have remote changes not yet on disk."""
        (count,) = self._db.connection.execute(
            "SELECT count(*) FROM todo WHERE root = ?", (root.id,)
        ).fetchone()
        return int(count)

    # Intents

    def intend(self, root: Root, intents: Iterable[Intent]) -> int:
        """Record, durably, what is about to be put on disk. Returns the number of this list."""
        with self._db.transaction() as run:
            done = run.execute(
                "INSERT INTO intent_list (root, listed) VALUES (?, ?)",
                (root.id, _pack_intents(intents)),
            )
        assert done.lastrowid is not None
        return done.lastrowid

    def settle_intents(self, number: int | None, left: Iterable[Intent] = ()) -> None:
        """Forget a list of intents, but for those that are ``left``."""
        left = list(left)
        with self._db.transaction() as run:
            if left:
                run.execute(
                    "UPDATE intent_list SET listed = ? WHERE id = ?", (_pack_intents(left), number)
                )
            else:
                run.execute("DELETE FROM intent_list WHERE id = ?", (number,))

    def intents(self, root: Root) -> list[Intended]:
        """What a pull that was cut off was about to put on disk, in path order."""
        lists = self._db.connection.execute(
            "SELECT id, listed FROM intent_list WHERE root = ? ORDER BY id", (root.id,)
        ).fetchall()
        latest = {i.path: (i, number) for number, listed in lists for i in _unpack_intents(listed)}
        return [
            Intended(path, intent.kind, self._intended(root, intent), number, intent.displaces)
            for path, (intent, number) in sorted(latest.items())
        ]

    def _intended(self, root: Root, intent: Intent) -> BaseEntry | None:
        version = intent.version
        if version is None:
            return None
        row = self._db.connection.execute(
            "SELECT path, NULL, clock, NULL, file_size, mode, mtime_ns, 0, 0, file_hash, target,"
            " size_class FROM version WHERE ns = ? AND device = ? AND counter = ?",
            (root.namespace, self._db.device_no(version.device), version.counter),
        ).fetchone()
        if row is None:
            return None
        ids = dump_ids(intent.ids or [version])
        entry = self._entry((row[0], ids, row[2], intent.kind, *row[4:]))
        return replace(
            entry,
            clock=entry.clock if intent.clock is None else VectorClock.of(intent.clock),
            mode=entry.mode if intent.mode is None else intent.mode,
        )

    def clear_intents(self, root: Root) -> None:
        """Forget the intents of a root."""
        with self._db.transaction() as run:
            run.execute("DELETE FROM intent_list WHERE root = ?", (root.id,))


def _delete(run: sqlite3.Connection, table: str, root: Root, paths: Sequence[RelPath]) -> None:
    delete_rows(run, table, "path", paths, root.id)


def _root(row: tuple[Any, ...]) -> Root:
    return Root(
        id=row[0],
        local=row[1],
        namespace=NamespaceId(row[2]),
        remote=RelPath(row[3]),
        marker=row[4],
        device=_unsigned(row[5]),
        inode=_unsigned(row[6]),
        pulled=row[7],
    )


def _row(entry: BaseEntry) -> tuple[Any, ...]:
    return (
        *(dump_ids(entry.ids), dump_clock(entry.clock.clocks), entry.kind, entry.size),
        *(entry.mode, entry.mtime_ns, entry.ctime_ns, _signed(entry.inode)),
        *(entry.file_hash, entry.target, entry.size_class),
    )


def _signed(value: int) -> int:
    """SQLite's integers have a sign; some file systems use all 64 bits of an inode."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsigned(value: int) -> int:
    return value + (1 << 64) if value < 0 else value
