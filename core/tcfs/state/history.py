"""The fold, stored: chains, versions, and which versions of each path are live.

Kept equal to ``tcfs.model.tree.Fold`` by test: any order of acceptance gives the same heads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import orjson

from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, ContentEvent, SegmentHeader, Version
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    NamespaceId,
    RelPath,
    SegmentHash,
    VersionId,
)
from tcfs.model.manifest import HASH_SIZE, SyncManifest
from tcfs.model.tree import Head, settle
from tcfs.state.columns import ABOVE_ALL, below, dump_clock, dump_extra, dump_ids, parse_ids
from tcfs.state.database import Database, insert_rows
from tcfs.state.fresh import Fresh

_COLUMNS: Final = (
    "path, device, counter, live, lamport, seq, op, kind, file_hash, file_size, mode, mtime_ns,"
    " target, size_class, written_at, written_by, actor, moved_from, parents, clock, chunks, extra"
)
_ID: Final = "path, device, counter"
_MANY: Final = 500
"""Paths from which one walk over the tree is cheaper than a question for each."""


def forget_last_rows(run: sqlite3.Connection) -> None:
    """After versions were deleted: the numbers of the last rows will be given again.

    What was taken up of them ends with the last row that is left, or the next versions would never
    be pulled. Part of the caller's transaction.
    """
    run.execute("UPDATE root SET pulled = min(pulled, (SELECT coalesce(max(row), 0) FROM version))")


class History:
    """Chains and versions of every namespace."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.fresh = Fresh()

    # Chains

    def heads(self, namespace: NamespaceId) -> dict[DeviceId, ChainHead]:
        """The last verified segment of each chain."""
        rows = self._db.connection.execute(
            "SELECT device, seq, hash FROM chain WHERE ns = ?", (namespace,)
        ).fetchall()
        return {self._db.device_id(d): ChainHead(s, SegmentHash(h)) for d, s, h in rows}

    def lamport(self, namespace: NamespaceId) -> int:
        """The highest Lamport time seen in a namespace."""
        (value,) = self._db.connection.execute(
            "SELECT max(lamport) FROM segment WHERE ns = ?", (namespace,)
        ).fetchone()
        return value or 0

    def counter(self, namespace: NamespaceId, device: DeviceId) -> int:
        """The highest version counter of a device."""
        row = self._db.connection.execute(
            "SELECT counter FROM chain WHERE ns = ? AND device = ?",
            (namespace, self._db.device_no(device)),
        ).fetchone()
        return row[0] if row else 0

    def known(
        self, namespace: NamespaceId, device: DeviceId, head: ChainHead
    ) -> tuple[int, int, bool] | None:
        """Lamport time and highest counter at a verified segment, and whether it is accepted."""
        row = self._db.connection.execute(
            "SELECT lamport, counter, accepted FROM segment"
            " WHERE ns = ? AND device = ? AND seq = ? AND hash = ?",
            (namespace, self._db.device_no(device), head.seq, head.hash),
        ).fetchone()
        return (row[0], row[1], bool(row[2])) if row else None

    def seen(self, namespace: NamespaceId) -> dict[DeviceId, ChainHead]:
        """The furthest verified segment of each chain, quarantined ones included.

        What this device writes may rest on versions past a cut that others accepted before it was
        known; its readers must be told that it had seen them.
        """
        rows = self._db.connection.execute(
            "SELECT device, seq, hash FROM segment WHERE ns = ? ORDER BY counter, accepted, seq",
            (namespace,),
        ).fetchall()
        return {self._db.device_id(d): ChainHead(s, SegmentHash(h)) for d, s, h in rows}

    def retract(self, namespace: NamespaceId, device: DeviceId, seq: int) -> list[RelPath]:
        """Take back what a device wrote after a segment: its revocation came to be known.

        Returns the paths this concerns. The segments stay known, in quarantine.
        """
        number = self._db.device_no(device)
        self.fresh.forget()
        with self._db.transaction() as run:
            rows = run.execute(
                "SELECT DISTINCT path FROM version WHERE ns = ? AND device = ? AND seq > ?",
                (namespace, number, seq),
            ).fetchall()
            paths = [RelPath(path) for (path,) in rows]
            where = (namespace, number, seq)
            gone = {
                counter
                for (counter,) in run.execute(
                    "SELECT counter FROM version WHERE ns = ? AND device = ? AND seq > ?", where
                )
            }
            run.execute("DELETE FROM version WHERE ns = ? AND device = ? AND seq > ?", where)
            forget_last_rows(run)
            run.execute(
                "UPDATE segment SET accepted = 0 WHERE ns = ? AND device = ? AND seq > ?", where
            )
            run.execute("DELETE FROM chain WHERE ns = ? AND device = ?", where[:2])
            run.execute(
                "INSERT INTO chain SELECT ns, device, seq, hash, lamport, counter FROM segment"
                " WHERE ns = ? AND device = ? AND accepted ORDER BY seq DESC LIMIT 1",
                where[:2],
            )
            for path in paths:
                versions = self.of_path(namespace, path)
                replaced = {parent for v in versions for parent in v.manifest.parents}
                run.executemany(
                    "UPDATE version SET live = ? WHERE ns = ? AND device = ? AND counter = ?",
                    [
                        (
                            int(v.id not in replaced),
                            namespace,
                            self._db.device_no(v.id.device),
                            v.id.counter,
                        )
                        for v in versions
                    ],
                )
            if gone:
                self._supersede_again(run, namespace, device, gone)
        return paths

    def _supersede_again(
        self, run: sqlite3.Connection, namespace: NamespaceId, device: DeviceId, gone: set[int]
    ) -> None:
        """Another branch of that chain may bring versions with these counters."""
        rows = run.execute(
            "SELECT parents FROM version WHERE ns = ? AND parents LIKE ?",
            (namespace, f'%"{device}"%'),
        )
        parents = {parent for (text,) in rows for parent in parse_ids(text)}
        run.executemany(
            "INSERT OR IGNORE INTO superseded VALUES (?, ?, ?)",
            [
                (namespace, self._db.device_no(device), parent.counter)
                for parent in parents
                if parent.device == device and parent.counter in gone
            ],
        )

    def segments(self, namespace: NamespaceId) -> list[tuple[DeviceId, int, SegmentHash]]:
        """Every accepted segment."""
        rows = self._db.connection.execute(
            "SELECT device, seq, hash FROM segment WHERE ns = ? AND accepted ORDER BY device, seq",
            (namespace,),
        )
        return [(self._db.device_id(d), s, SegmentHash(h)) for d, s, h in rows.fetchall()]

    def add_head(self, header: SegmentHeader, segment_hash: SegmentHash) -> None:
        """Record a verified segment as the head of its chain."""
        device = self._db.device_no(header.device)
        counter = max(header.last, self.counter(header.namespace, header.device))
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR REPLACE INTO chain VALUES (?, ?, ?, ?, ?, ?)",
                (header.namespace, device, header.seq, segment_hash, header.lamport, counter),
            )
        self._add_segment(header, segment_hash, counter, accepted=True)

    def add_quarantined(
        self, header: SegmentHeader, segment_hash: SegmentHash, counter: int
    ) -> None:
        """Record a verified segment that is no part of its chain."""
        self._add_segment(header, segment_hash, counter, accepted=False)

    def _add_segment(
        self, header: SegmentHeader, segment_hash: SegmentHash, counter: int, *, accepted: bool
    ) -> None:
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(header.namespace, self._db.device_no(header.device), header.seq),
                    *(segment_hash, header.lamport, counter, header.written_at, int(accepted)),
                ),
            )

    # Versions

    def add_versions(
        self, namespace: NamespaceId, header: SegmentHeader, events: Sequence[ContentEvent]
    ) -> None:
        """Accept the events of one segment. Again is harmless."""
        author = self._db.device_no(header.device)
        with self._db.transaction() as run:
            superseded = [
                (namespace, self._db.device_no(parent.device), parent.counter)
                for event in events
                for parent in event.manifest.parents
            ]
            before = run.total_changes
            insert_rows(
                run,
                f"INSERT OR IGNORE INTO version (ns, {_COLUMNS})",
                [self._row(namespace, author, header, event) for event in events],
            )
            if run.total_changes - before == len(events):
                self.fresh.keep(namespace, header, events)
            else:
                self.fresh.forget()
            if superseded:
                self._supersede(run, superseded)
            self._apply_waiting(run, namespace, author, header)

    def _supersede(
        self, run: sqlite3.Connection, superseded: list[tuple[NamespaceId, int, int]]
    ) -> None:
        before = run.total_changes
        run.executemany(
            "UPDATE version SET live = 0 WHERE ns = ? AND device = ? AND counter = ?", superseded
        )
        if run.total_changes - before == len(superseded):
            return
        for row in set(superseded):
            known = run.execute(
                "SELECT 1 FROM version WHERE ns = ? AND device = ? AND counter = ?", row
            ).fetchone()
            if not known:
                run.execute("INSERT OR IGNORE INTO superseded VALUES (?, ?, ?)", row)

    def _apply_waiting(
        self, run: sqlite3.Connection, namespace: NamespaceId, author: int, header: SegmentHeader
    ) -> None:
        run.execute(
            "UPDATE version SET live = 0 WHERE ns = ?1 AND device = ?2"
            " AND counter BETWEEN ?3 AND ?4 AND counter IN"
            " (SELECT counter FROM superseded WHERE ns = ?1 AND device = ?2"
            "  AND counter BETWEEN ?3 AND ?4)",
            (namespace, author, header.first, header.last),
        )

    def _row(
        self, namespace: NamespaceId, author: int, header: SegmentHeader, event: ContentEvent
    ) -> tuple[Any, ...]:
        m = event.manifest
        return (
            *(namespace, m.rel_path, author, event.counter, 1, header.lamport, header.seq),
            *(event.op, m.kind, m.file_hash, m.file_size, m.mode, m.mtime_ns, m.target),
            *(m.size_class, m.written_at, m.written_by, m.actor, event.moved_from),
            dump_ids(m.parents),
            dump_clock(m.vclock.clocks),
            b"".join(m.chunks),
            dump_extra(m),
        )

    def _version(self, row: tuple[Any, ...]) -> Version:
        chunks: bytes = row[20]
        extra: dict[str, Any] = orjson.loads(row[21]) if row[21] else {}
        manifest = SyncManifest(
            rel_path=RelPath(row[0]),
            kind=row[7],
            vclock=VectorClock(orjson.loads(row[19])),
            parents=parse_ids(row[18]),
            written_by=row[15],
            written_at=row[14],
            file_hash=row[8],
            file_size=row[9],
            chunks=tuple(
                ChunkId(chunks[i : i + HASH_SIZE]) for i in range(0, len(chunks), HASH_SIZE)
            ),
            mode=row[10],
            mtime_ns=row[11],
            target=row[12],
            actor=row[16],
            size_class=row[13],
            encrypted_file_key=extra.pop("encrypted_file_key", ""),
            extra=extra,
        )
        return Version(
            id=VersionId(self._db.device_id(row[1]), row[2]),
            lamport=row[4],
            seq=row[5],
            op=row[6],
            manifest=manifest,
            moved_from=None if row[17] is None else RelPath(row[17]),
        )

    def head(self, namespace: NamespaceId, path: RelPath) -> Head:
        """What a path is now; an absent head without ids if it was never written."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND path = ? AND live = 1",
            (namespace, path),
        ).fetchall()
        return _settle(path, [self._version(row) for row in rows])

    def heads_of(
        self, namespace: NamespaceId, prefix: RelPath, paths: Iterable[RelPath]
    ) -> Iterator[Head]:
        """The heads of paths at and below a prefix, in path order; absent ones have no ids."""
        wanted = sorted(paths)
        if len(wanted) < _MANY:
            for path in wanted:
                yield self.head(namespace, path)
            return
        at = 0
        for head in self.tree(namespace, prefix):
            while at < len(wanted) and wanted[at] < head.path:
                yield Head(wanted[at], (), (), VectorClock())
                at += 1
            if at < len(wanted) and wanted[at] == head.path:
                yield head
                at += 1
        for path in wanted[at:]:
            yield Head(path, (), (), VectorClock())

    def tree(self, namespace: NamespaceId, prefix: RelPath) -> Iterator[Head]:
        """The heads at and below a prefix in path order, deleted paths included."""
        low, high = below(prefix)
        where = (
            "FROM version WHERE ns = ? AND live = 1"
            " AND (path = ? OR (path >= ? AND path < ?)) ORDER BY path"
        )
        run, values = self._db.connection.execute, (namespace, prefix, low, high)
        fresh = self.fresh.of(namespace)
        if fresh:
            (count,) = run(f"SELECT count(*) {where}", values).fetchone()
            if count <= 2 * len(fresh):
                yield from self._fresh_tree(namespace, run(f"SELECT {_ID} {where}", values), fresh)
                return
        for path, group in groupby(run(f"SELECT {_COLUMNS} {where}", values), key=_path_of):
            yield _settle(path, [self._version(row) for row in group])

    def _fresh_tree(
        self,
        namespace: NamespaceId,
        rows: Iterable[tuple[RelPath, int, int]],
        fresh: Mapping[VersionId, Version],
    ) -> Iterator[Head]:
        device_id = self._db.device_id
        for path, group in groupby(rows, key=_path_of):
            live = []
            for _, device, counter in group:
                wanted = VersionId(device_id(device), counter)
                version = fresh.get(wanted) or self.version(namespace, wanted)
                assert version is not None
                live.append(version)
            yield _settle(path, live)

    def conflicted(self, namespace: NamespaceId, prefix: RelPath) -> list[RelPath]:
        """Paths at and below a prefix whose live versions differ, in path order."""
        low, high = below(prefix)
        rows = self._db.connection.execute(
            "SELECT path FROM version WHERE ns = ? AND live = 1 AND kind != 'tombstone'"
            " AND (path = ? OR (path >= ? AND path < ?)) GROUP BY path HAVING count(*) > 1"
            " ORDER BY path",
            (namespace, prefix, low, high),
        ).fetchall()
        return [RelPath(path) for (path,) in rows if self.head(namespace, RelPath(path)).conflicted]

    def touched(
        self, namespace: NamespaceId, prefix: RelPath, after: int
    ) -> tuple[list[RelPath], int]:
        """Paths at and below a prefix with versions accepted after a row, and the newest row."""
        (newest,) = self._db.connection.execute("SELECT max(row) FROM version").fetchone()
        newest = newest or 0
        if newest <= after:
            return [], after
        low, high = below(prefix)
        rows = self._db.connection.execute(
            "SELECT DISTINCT path FROM version WHERE row > ? AND ns = ?"
            " AND (path = ? OR (path >= ? AND path < ?))",
            (after, namespace, prefix, low, high),
        ).fetchall()
        return sorted(RelPath(path) for (path,) in rows), newest

    def has_live_below(self, namespace: NamespaceId, path: RelPath) -> bool:
        """Whether anything stands below a path."""
        low, high = below(path)
        row = self._db.connection.execute(
            "SELECT 1 FROM version WHERE ns = ? AND path >= ? AND path < ? AND live = 1"
            " AND kind != 'tombstone' LIMIT 1",
            (namespace, low, high),
        ).fetchone()
        return row is not None

    def version(self, namespace: NamespaceId, version_id: VersionId) -> Version | None:
        """One version, live or not."""
        row = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND device = ? AND counter = ?",
            (namespace, self._db.device_no(version_id.device), version_id.counter),
        ).fetchone()
        return self._version(row) if row else None

    def is_live(self, namespace: NamespaceId, version_id: VersionId) -> bool:
        """Whether a version is live."""
        row = self._db.connection.execute(
            "SELECT live FROM version WHERE ns = ? AND device = ? AND counter = ?",
            (namespace, self._db.device_no(version_id.device), version_id.counter),
        ).fetchone()
        return bool(row and row[0])

    def log(
        self, namespace: NamespaceId, prefix: RelPath, *, before: int | None, limit: int
    ) -> list[tuple[int, Version]]:
        """Versions at and below a prefix with their rows, newest first.

        ``before`` is the row of the last version of the previous page.
        """
        low, high = below(prefix)
        where = ""
        values: list[Any] = [namespace, prefix, low, high]
        if before is not None:
            where = (
                " AND (lamport, device, counter) <"
                " (SELECT lamport, device, counter FROM version WHERE row = ?)"
            )
            values.append(before)
        rows = self._db.connection.execute(
            f"SELECT row, {_COLUMNS} FROM version WHERE ns = ?"
            f" AND (path = ? OR (path >= ? AND path < ?)){where}"
            " ORDER BY lamport DESC, device DESC, counter DESC LIMIT ?",
            (*values, limit),
        ).fetchall()
        return [(row[0], self._version(row[1:])) for row in rows]

    def of_path(self, namespace: NamespaceId, path: RelPath) -> list[Version]:
        """Every version of one path, newest first."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND path = ?"
            " ORDER BY lamport DESC, device DESC, counter DESC",
            (namespace, path),
        ).fetchall()
        return [self._version(row) for row in rows]

    def by_actor(self, namespace: NamespaceId, device: DeviceId, actor: str) -> list[Version]:
        """What an actor did on a device, newest first."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND device = ? AND actor = ?"
            " ORDER BY counter DESC",
            (namespace, self._db.device_no(device), actor),
        ).fetchall()
        return [self._version(row) for row in rows]

    def by_segment(self, namespace: NamespaceId, device: DeviceId, seq: int) -> list[Version]:
        """What one segment did, newest first."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND device = ? AND seq = ?"
            " ORDER BY counter DESC",
            (namespace, self._db.device_no(device), seq),
        ).fetchall()
        return [self._version(row) for row in rows]

    def knows_content(self, namespace: NamespaceId, file_hash: bytes) -> bool:
        """Whether any version ever had this content. Looks at all of history."""
        row = self._db.connection.execute(
            "SELECT 1 FROM version WHERE ns = ? AND file_hash = ? LIMIT 1", (namespace, file_hash)
        ).fetchone()
        return row is not None

    def knows_link(self, namespace: NamespaceId, target: bytes) -> bool:
        """Whether any version ever was a symlink to this. Looks at all of history."""
        row = self._db.connection.execute(
            "SELECT 1 FROM version WHERE ns = ? AND kind = 'symlink' AND target = ? LIMIT 1",
            (namespace, target),
        ).fetchone()
        return row is not None

    def inhabited(self, namespace: NamespaceId, paths: Sequence[RelPath]) -> set[RelPath]:
        """Those of some hundred paths that have a live version, tombstones included."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT path FROM version WHERE ns = ? AND live = 1"
            f" AND path IN ({','.join('?' * len(paths))})",
            (namespace, *paths),
        )
        return {RelPath(path) for (path,) in rows}

    def present_paths(self, namespace: NamespaceId, prefix: RelPath) -> list[RelPath]:
        """Paths at and below a prefix where something stands, in order."""
        low, high = below(prefix)
        rows = self._db.connection.execute(
            "SELECT DISTINCT path FROM version WHERE ns = ? AND live = 1 AND kind != 'tombstone'"
            " AND (path = ? OR (path >= ? AND path < ?)) ORDER BY path",
            (namespace, prefix, low, high),
        )
        return [RelPath(path) for (path,) in rows]

    def paths_using(
        self, namespace: NamespaceId, chunks: set[ChunkId], limit: int
    ) -> list[RelPath]:
        """Some live paths whose content needs any of these chunks. Looks at the whole tree."""
        found = []
        for path, joined in self._db.connection.execute(
            "SELECT path, chunks FROM version WHERE ns = ? AND live = 1 ORDER BY path",
            (namespace,),
        ):
            parts = range(0, len(joined), HASH_SIZE)
            if any(joined[i : i + HASH_SIZE] in chunks for i in parts):
                found.append(RelPath(path))
                if len(found) == limit:
                    break
        return found

    def names_below(self, namespace: NamespaceId, start: bytes, limit: int) -> list[RelPath]:
        """Live paths that begin with these bytes, in order."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT path FROM version WHERE ns = ? AND live = 1 AND kind != 'tombstone'"
            " AND path >= ? AND path < ? ORDER BY path LIMIT ?",
            (namespace, start, start + ABOVE_ALL, limit),
        ).fetchall()
        return [RelPath(path) for (path,) in rows]


def _path_of(row: tuple[Any, ...]) -> RelPath:
    return RelPath(row[0])


def _settle(path: RelPath, live: list[Version]) -> Head:
    return settle(path, live) if live else Head(path, (), (), VectorClock())
