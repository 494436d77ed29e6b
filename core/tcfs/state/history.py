"""The fold, stored: chains, versions, and which versions of each path are live.

Kept equal to ``tcfs.model.tree.Fold`` by test: any order of acceptance gives the same heads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from sys import intern
from typing import Any, Final, NamedTuple

import orjson
from msgspec.structs import replace as with_fields

from tcfs.model.clock import VectorClock
from tcfs.model.event import ContentEvent, SegmentHeader, Version
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    NamespaceId,
    RelPath,
    VersionId,
)
from tcfs.model.manifest import HASH_SIZE, SyncManifest
from tcfs.model.tree import Head, settle
from tcfs.state.chains import Chains
from tcfs.state.columns import (
    ABOVE_ALL,
    at_and_below,
    below,
    dump_clock,
    dump_extra,
    dump_ids,
    parse_ids,
    parted,
    touched_query,
)
from tcfs.state.database import insert_rows

_COLUMNS: Final = (
    "path, device, counter, live, lamport, seq, op, kind, file_hash, file_size, mode, mtime_ns,"
    " target, size_class, written_at, written_by, actor, moved_from, parents, clock, chunks, extra"
)
_AT_ONCE: Final = 500
"""Paths that are asked for in one statement."""


def forget_last_rows(run: sqlite3.Connection) -> None:
    """After versions were deleted: the numbers of the last rows will be given again.

    What was taken up of them ends with the last row that is left, or the next versions would never
    be pulled. Part of the caller's transaction.
    """
    run.execute("UPDATE root SET pulled = min(pulled, (SELECT coalesce(max(row), 0) FROM version))")


class Amount(NamedTuple):
    """What stands somewhere: paths, bytes, paths with several versions."""

    paths: int
    size: int
    several: int


class History(Chains):
    """Chains and versions of every namespace."""

    def retract(self, namespace: NamespaceId, device: DeviceId, seq: int) -> list[RelPath]:
        """Take back what a device wrote after a segment: its revocation came to be known.

        Returns the paths this concerns. The segments stay known, in quarantine.
        """
        number = self._db.device_no(device)
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
            "SELECT path, parents FROM version WHERE ns = ? AND parents LIKE ?",
            (namespace, f'%"{device}"%'),
        )
        parents = {(path, parent) for path, text in rows for parent in parse_ids(text)}
        run.executemany(
            "INSERT OR IGNORE INTO superseded VALUES (?, ?, ?, ?)",
            [
                (namespace, self._db.device_no(device), parent.counter, path)
                for path, parent in parents
                if parent.device == device and parent.counter in gone
            ],
        )

    def add_versions(
        self, namespace: NamespaceId, header: SegmentHeader, events: Sequence[ContentEvent]
    ) -> None:
        """Accept the events of one segment. Again is harmless."""
        author = self._db.device_no(header.device)
        with self._db.transaction() as run:
            superseded = [
                (
                    *(namespace, self._db.device_no(parent.device), parent.counter),
                    event.manifest.rel_path,
                )
                for event in events
                for parent in event.manifest.parents
            ]
            insert_rows(
                run,
                f"INSERT OR IGNORE INTO version (ns, {_COLUMNS})",
                [self._row(namespace, author, header, event) for event in events],
            )
            if superseded:
                self._supersede(run, superseded)
            self._apply_waiting(run, namespace, author, header)

    def _supersede(
        self, run: sqlite3.Connection, superseded: list[tuple[NamespaceId, int, int, RelPath]]
    ) -> None:
        where = "ns = ? AND device = ? AND counter = ? AND path = ?"
        before = run.total_changes
        run.executemany(f"UPDATE version SET live = 0 WHERE {where}", superseded)
        if run.total_changes - before == len(superseded):
            return
        for row in set(superseded):
            known = run.execute(f"SELECT 1 FROM version WHERE {where}", row).fetchone()
            if not known:
                run.execute("INSERT OR IGNORE INTO superseded VALUES (?, ?, ?, ?)", row)

    def _apply_waiting(
        self, run: sqlite3.Connection, namespace: NamespaceId, author: int, header: SegmentHeader
    ) -> None:
        run.execute(
            "UPDATE version SET live = 0 WHERE ns = ?1 AND device = ?2"
            " AND counter BETWEEN ?3 AND ?4 AND (counter, path) IN"
            " (SELECT counter, path FROM superseded WHERE ns = ?1 AND device = ?2"
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
        (path, device, counter, _, lamport, seq, op, kind, file_hash, file_size, mode, mtime_ns,
         target, size_class, written_at, written_by, actor, moved_from, parents, clock, chunks,
         extra) = row  # fmt: skip
        manifest = SyncManifest(
            path,
            # One text for all that have the same: a pull holds thousands of versions.
            intern(kind),  # type: ignore[arg-type]
            VectorClock.of(orjson.loads(clock)),
            parse_ids(parents),
            intern(written_by),
            written_at,
            file_hash,
            file_size,
            (chunks,) if len(chunks) == HASH_SIZE else parted(chunks),
            mode,
            mtime_ns,
            target,
            intern(actor),
            size_class,
        )
        if extra:
            others: dict[str, Any] = orjson.loads(extra)
            key = others.pop("encrypted_file_key", "")
            manifest = with_fields(manifest, encrypted_file_key=key, extra=others)
        moved = None if moved_from is None else RelPath(moved_from)
        made = VersionId(self._db.device_id(device), counter)
        return Version(made, lamport, seq, intern(op), manifest, moved)  # type: ignore[arg-type]

    def head(self, namespace: NamespaceId, path: RelPath) -> Head:
        """What a path is now; an absent head without ids if it was never written."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND path = ? AND live = 1",
            (namespace, path),
        ).fetchall()
        return _settle(path, [self._version(row) for row in rows])

    def heads_of(self, namespace: NamespaceId, paths: Sequence[RelPath]) -> Iterator[Head]:
        """The heads of paths that are in order; absent ones have no ids."""
        for start in range(0, len(paths), _AT_ONCE):
            asked = paths[start : start + _AT_ONCE]
            live = self._live_at(namespace, asked)
            for path in asked:
                yield _settle(path, live.get(path, []))

    def _live_at(
        self, namespace: NamespaceId, paths: Sequence[RelPath]
    ) -> dict[RelPath, list[Version]]:
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND live = 1"
            f" AND path IN ({','.join('?' * len(paths))}) ORDER BY path",
            (namespace, *paths),
        )
        found: dict[RelPath, list[Version]] = {}
        for row in rows.fetchall():
            found.setdefault(row[0], []).append(self._version(row))
        return found

    def tree(self, namespace: NamespaceId, prefix: RelPath) -> Iterator[Head]:
        """The heads at and below a prefix in path order, deleted paths included."""
        low, high = below(prefix)
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND live = 1"
            " AND (path = ? OR (path >= ? AND path < ?)) ORDER BY path",
            (namespace, prefix, low, high),
        )
        for path, group in groupby(rows, key=_path_of):
            yield _settle(path, [self._version(row) for row in group])

    def conflicted(self, namespace: NamespaceId, prefix: RelPath) -> list[RelPath]:
        """Paths at and below a prefix whose live versions differ, in path order."""
        low, high = below(prefix)
        # Most paths have one version only, and the index alone tells that: without the inner
        # selection every row of the tree would be read.
        several = "SELECT path FROM version WHERE ns = ? AND {} GROUP BY path HAVING count(*) > 1"
        rows = self._db.connection.execute(
            "SELECT path FROM version WHERE ns = ? AND live = 1 AND kind != 'tombstone' AND path IN"
            f" ({several.format('path = ?')} UNION ALL"
            f" {several.format('path >= ? AND path < ?')})"
            " GROUP BY path HAVING count(*) > 1 ORDER BY path",
            (namespace, namespace, prefix, namespace, low, high),
        ).fetchall()
        return [RelPath(path) for (path,) in rows if self.head(namespace, RelPath(path)).conflicted]

    def newest(self) -> int:
        """The row of the version that was accepted last, in any namespace; 0 for none."""
        (newest,) = self._db.connection.execute("SELECT max(row) FROM version").fetchone()
        return newest or 0

    def touched(
        self,
        namespace: NamespaceId,
        prefix: RelPath,
        rows: tuple[int, int],
        *,
        start: bytes = b"",
        limit: int = -1,
    ) -> list[RelPath]:
        """Paths at and below a prefix with versions in some rows, in order.

        Args:
            rows: those after the first, up to the second.
            start: where in the order of paths to begin.
            limit: how many there may be; any number if it is negative.
        """
        if rows[1] <= rows[0]:
            return []
        run, found = self._db.connection.execute, list[RelPath]()
        for low, high in at_and_below(prefix):
            if start < high:
                values = (namespace, max(low, start), high, *rows, limit)
                found += [RelPath(path) for (path,) in run(touched_query(rows), values).fetchall()]
        return found if limit < 0 else found[:limit]

    def amount(self, namespace: NamespaceId, prefix: RelPath) -> Amount:
        """How much stands at and below a prefix."""
        totals = [0, 0, 0]
        for low, high in at_and_below(prefix):
            row = self._db.connection.execute(
                "SELECT count(*), total(size), total(n > 1) FROM ("
                " SELECT count(*) n, total(file_size) size"
                " FROM version WHERE ns = ? AND path >= ? AND path < ? AND live = 1"
                " AND kind != 'tombstone' GROUP BY path)",
                (namespace, low, high),
            ).fetchone()
            totals = [total + int(value) for total, value in zip(totals, row, strict=True)]
        return Amount(*totals)

    def files_above_others(self, namespace: NamespaceId, prefix: RelPath) -> list[RelPath]:
        """Paths at and below a prefix where a file or symlink stands, and something below it too.

        One walk over all that stands there.
        """
        low, high = below(prefix)
        rows = self._db.connection.execute(
            "SELECT path, kind FROM version WHERE ns = ? AND live = 1 AND kind != 'tombstone'"
            " AND (path = ? OR (path >= ? AND path < ?)) ORDER BY path",
            (namespace, prefix, low, high),
        )
        found: dict[RelPath, None] = {}
        # Those whose name the next one's begins with: what is below comes after other such names.
        above: list[bytes] = []
        for path, kind in rows:
            while above and not path.startswith(above[-1]):
                above.pop()
            for other in above:
                if path[len(other) : len(other) + 1] == b"/":
                    found[RelPath(other)] = None
            if kind != "dir" and (not above or above[-1] != path):
                above.append(path)
        return sorted(found)

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

    def last_of(self, namespace: NamespaceId, device: DeviceId, path: RelPath) -> Version | None:
        """A device's newest version of a path, live or not."""
        row = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM version WHERE ns = ? AND path = ? AND device = ?"
            " ORDER BY counter DESC LIMIT 1",
            (namespace, path, self._db.device_no(device)),
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
            if not chunks.isdisjoint(parted(joined)):
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
