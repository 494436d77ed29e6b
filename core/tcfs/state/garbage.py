"""Which packs are marked, where else chunks are, and who had seen what: see ``schema.sql``.

A chunk in a marked pack is moved out of the table ``chunk``, which says what need not be stored
again; it can be read from where it was for as long as the pack is there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final, NamedTuple

import orjson

from tcfs.content.address import ChunkAddress
from tcfs.model.event import ChainHead, SegmentHeader
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    NamespaceId,
    PackId,
    SegmentHash,
    StoreKey,
    VersionId,
)
from tcfs.model.retention import Old, Rules, effective_times, is_exempt, let_go
from tcfs.model.upkeep import Progress
from tcfs.state.columns import parted
from tcfs.state.database import Database
from tcfs.state.index import PackLocation

TABLES: Final = ("chunk_copy", "marked_chunk", "marked_pack", "progress", "unread_pack")
"""What ``rebuild-index`` empties."""

_PLACE = "frame_offset, frame_length, offset, length"
_ROW = f"ns, id, pack, {_PLACE}, announced"


class PackUse(NamedTuple):
    """How much of a pack's known content is needed; sizes are bytes of plaintext."""

    location: PackLocation
    chunks: int
    size: int
    needed_chunks: int
    needed_size: int


class Garbage:
    """Marks and spare places of every namespace."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Marks

    def marked(self) -> set[PackId]:
        """Every pack that is known to be marked."""
        rows = self._db.connection.execute("SELECT id FROM marked_pack").fetchall()
        return {PackId(pack) for (pack,) in rows}

    def marked_among(self, packs: Iterable[PackId]) -> set[PackId]:
        """Those of the packs that are marked. For few of them."""
        run = self._db.connection.execute
        return {
            pack
            for pack in packs
            if run("SELECT 1 FROM marked_pack WHERE id = ?", (pack,)).fetchone()
        }

    def mark(self, namespace: NamespaceId, packs: Iterable[PackId]) -> None:
        """Count on these packs no longer; again is harmless.

        Chunks that have another place are found there from now on. What was pending in them is
        stored anew by whoever needs it.
        """
        with self._db.transaction() as run:
            before = run.total_changes
            run.executemany(
                "INSERT OR IGNORE INTO marked_pack VALUES (?, ?)",
                [(pack, namespace) for pack in packs],
            )
            if run.total_changes == before:
                return
            run.execute("DELETE FROM unread_pack WHERE id IN (SELECT id FROM marked_pack)")
            self._set_rows_aside(run)

    def any_marked(self) -> bool:
        """Whether there is a pack that nothing counts on."""
        run = self._db.connection.execute
        return run("SELECT 1 FROM marked_pack LIMIT 1").fetchone() is not None

    def _set_rows_aside(self, run: sqlite3.Connection) -> None:
        numbers = "(SELECT no FROM pack JOIN marked_pack ON marked_pack.id = pack.id)"
        for table in ("chunk", "chunk_copy"):
            run.execute(
                f"INSERT OR IGNORE INTO marked_chunk SELECT {_ROW} FROM {table}"
                f" WHERE pack IN {numbers}"
            )
            run.execute(f"DELETE FROM {table} WHERE pack IN {numbers}")
        run.execute(
            f"INSERT OR IGNORE INTO chunk SELECT {_ROW} FROM chunk_copy WHERE (ns, id) IN"
            " (SELECT ns, id FROM marked_chunk)"
        )
        run.execute(
            "DELETE FROM chunk_copy WHERE EXISTS (SELECT 1 FROM chunk WHERE chunk.ns ="
            " chunk_copy.ns AND chunk.id = chunk_copy.id AND chunk.pack = chunk_copy.pack)"
        )
        # No segment names it, and none is to: forgotten, it is nothing that a push counts on.
        run.execute(f"DELETE FROM pack WHERE pending AND no IN {numbers}")

    def set_aside(
        self, namespace: NamespaceId, chunks: list[tuple[ChunkId, ChunkAddress]]
    ) -> list[tuple[ChunkId, ChunkAddress]]:
        """Those of the places that may be counted on; of the others is kept where they are.

        Their packs must be known.
        """
        marked = self.marked_among({address.pack for _, address in chunks})
        if not marked:
            return chunks
        with self._db.transaction() as run:
            run.executemany(
                "INSERT OR IGNORE INTO marked_chunk SELECT ?, ?, no, ?, ?, ?, ?, 1 FROM pack"
                " WHERE id = ?",
                [(namespace, c, *a[1:], a.pack) for c, a in chunks if a.pack in marked],
            )
        return [(chunk, address) for chunk, address in chunks if address.pack not in marked]

    def prefer(
        self, namespace: NamespaceId, chunks: Iterable[tuple[ChunkId, ChunkAddress]]
    ) -> None:
        """Chunks were moved: find them here first. Their packs must be known and not marked."""
        with self._db.transaction() as run:
            for chunk, address in chunks:
                (number,) = run.execute(
                    "SELECT no FROM pack WHERE id = ?", (address.pack,)
                ).fetchone()
                where = (namespace, chunk, number)
                run.execute(
                    f"INSERT OR IGNORE INTO chunk_copy SELECT {_ROW} FROM chunk"
                    " WHERE ns = ? AND id = ? AND pack != ?",
                    where,
                )
                run.execute(
                    "INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
                    (*where, *address[1:]),
                )
                run.execute("DELETE FROM chunk_copy WHERE ns = ? AND id = ? AND pack = ?", where)

    def unread(self, namespace: NamespaceId) -> list[PackId]:
        """Packs to which chunks were moved, and whose trailers are still to be read."""
        rows = self._db.connection.execute(
            "SELECT id FROM unread_pack WHERE ns = ? ORDER BY id", (namespace,)
        ).fetchall()
        return [PackId(pack) for (pack,) in rows]

    def note_unread(self, namespace: NamespaceId, packs: Iterable[PackId]) -> None:
        """The trailers of these packs, which are not marked, could not be read yet."""
        with self._db.transaction() as run:
            run.executemany(
                "INSERT OR IGNORE INTO unread_pack VALUES (?, ?)",
                [(pack, namespace) for pack in packs],
            )

    def note_read(self, packs: Iterable[PackId]) -> None:
        """What these packs hold is known now."""
        with self._db.transaction() as run:
            run.executemany("DELETE FROM unread_pack WHERE id = ?", [(pack,) for pack in packs])

    def uncounted(self, namespace: NamespaceId, chunks: Iterable[ChunkId]) -> list[ChunkId]:
        """Those of the chunks that have no place that stays."""
        run = self._db.connection.execute
        return [
            chunk
            for chunk in chunks
            if run("SELECT 1 FROM chunk WHERE ns = ? AND id = ?", (namespace, chunk)).fetchone()
            is None
        ]

    def forget(self, packs: Iterable[PackId]) -> None:
        """These marked packs are gone from the store. That they were marked stays known."""
        with self._db.transaction() as run:
            run.executemany(
                "DELETE FROM marked_chunk WHERE pack = (SELECT no FROM pack WHERE id = ?)",
                [(pack,) for pack in packs],
            )

    # What is needed

    def find_needed(self, namespace: NamespaceId, rules: Rules) -> int:
        """Remember every chunk that the history needs by these rules, for the questions below.

        Returns how many versions' content is let go.
        """
        run = self._db.connection
        run.execute("CREATE TEMP TABLE IF NOT EXISTS needed (id BLOB PRIMARY KEY) WITHOUT ROWID")
        run.execute("DELETE FROM temp.needed")
        gone = 0
        dropped: set[VersionId] = set()
        if not rules.policy.keeps_everything:
            for versions in self._by_path(namespace):
                dropped.update(let_go(versions, rules))
            gone = len(dropped)
        with self._db.transaction() as write:
            rows = write.execute(
                "SELECT device, counter, chunks FROM version WHERE ns = ? AND chunks != x''",
                (namespace,),
            )
            for device, counter, chunks in rows:
                if dropped and VersionId(self._db.device_id(device), counter) in dropped:
                    continue
                write.executemany(
                    "INSERT OR IGNORE INTO temp.needed VALUES (?)",
                    [(chunk,) for chunk in parted(chunks)],
                )
            # What access rules refuse may be accepted when they change.
            refused = write.execute("SELECT event FROM refused WHERE ns = ?", (namespace,))
            for (text,) in refused.fetchall():
                write.executemany(
                    "INSERT OR IGNORE INTO temp.needed VALUES (?)",
                    [(bytes.fromhex(c),) for c in orjson.loads(text)["manifest"]["chunks"]],
                )
        return gone

    def replaced_with(self, namespace: NamespaceId, chunks: Set[ChunkId]) -> int:
        """How many replaced versions name any of these chunks. Reads the whole history."""
        rows = self._db.connection.execute(
            "SELECT chunks FROM version WHERE ns = ? AND NOT live AND chunks != x''", (namespace,)
        )
        return sum(not chunks.isdisjoint(parted(listed)) for (listed,) in rows)

    def kept_history(self, namespace: NamespaceId, rules: Rules) -> tuple[int, int]:
        """How many replaced versions with content there are, and how many the rules let go."""
        (old,) = self._db.connection.execute(
            "SELECT count(*) FROM version WHERE ns = ? AND NOT live AND kind != 'tombstone'",
            (namespace,),
        ).fetchone()
        gone = sum(len(let_go(versions, rules)) for versions in self._by_path(namespace))
        return int(old), gone

    def _by_path(self, namespace: NamespaceId) -> Iterator[list[Old]]:
        run = self._db.connection.execute
        times = effective_times(
            run("SELECT lamport, written_at FROM segment WHERE ns = ?", (namespace,)).fetchall()
        )
        rows = run(
            "SELECT path, device, counter, lamport, seq, live, kind, file_hash, target, parents"
            " FROM version WHERE ns = ? ORDER BY path",
            (namespace,),
        )
        path, group = b"", list[Old]()
        for row in rows:
            if is_exempt(row[0]):
                continue
            if row[0] != path and group:
                yield group
                group = []
            path = row[0]
            device = self._db.device_id(row[1])
            parents = tuple(VersionId(DeviceId(d), c) for d, c in orjson.loads(row[9]))
            group.append(
                Old(
                    id=VersionId(device, row[2]),
                    order=(row[3], device, row[2]),
                    seq=row[4],
                    live=bool(row[5]),
                    at=times[row[3]],
                    parents=parents,
                    content=None if row[6] == "tombstone" else (row[6], row[7], row[8]),
                )
            )
        if group:
            yield group

    def newest(self, namespace: NamespaceId) -> int:
        """Unix seconds of the newest segment, by whatever clock."""
        (at,) = self._db.connection.execute(
            "SELECT max(written_at) FROM segment WHERE ns = ?", (namespace,)
        ).fetchone()
        return at or 0

    def use(self, namespace: NamespaceId) -> list[PackUse]:
        """How each pack of a namespace that is an object of its own and not marked is used.

        By ``find_needed``'s last answer, and by the places that are found first.
        """
        rows = self._db.connection.execute(
            "SELECT pack.id, pack.key, pack.offset, count(chunk.id), total(chunk.length),"
            " count(needed.id), total(CASE WHEN needed.id IS NULL THEN 0 ELSE chunk.length END)"
            " FROM pack LEFT JOIN chunk ON chunk.pack = pack.no"
            " LEFT JOIN temp.needed ON needed.id = chunk.id"
            " WHERE pack.ns = ? AND NOT pack.pending AND pack.offset = 0"
            " AND pack.id NOT IN (SELECT id FROM marked_pack)"
            " GROUP BY pack.no ORDER BY pack.no",
            (namespace,),
        )
        return [
            PackUse(PackLocation(PackId(i), StoreKey(k), o), n, int(size), needed, int(live))
            for i, k, o, n, size, needed, live in rows
        ]

    def is_needed(self, chunk: ChunkId) -> bool:
        """Whether ``find_needed``'s last answer names a chunk."""
        row = self._db.connection.execute(
            "SELECT 1 FROM temp.needed WHERE id = ?", (chunk,)
        ).fetchone()
        return row is not None

    def homes(self, namespace: NamespaceId, chunk: ChunkId) -> list[PackLocation]:
        """Every place of a chunk that may be counted on, the first one first."""
        rows = self._db.connection.execute(
            "SELECT pack.id, pack.key, pack.offset FROM chunk JOIN pack ON pack.no = chunk.pack"
            " WHERE chunk.ns = ?1 AND chunk.id = ?2 UNION ALL"
            " SELECT pack.id, pack.key, pack.offset FROM chunk_copy"
            " JOIN pack ON pack.no = chunk_copy.pack"
            " WHERE chunk_copy.ns = ?1 AND chunk_copy.id = ?2",
            (namespace, chunk),
        ).fetchall()
        return [PackLocation(PackId(i), StoreKey(k), o) for i, k, o in rows]

    def addresses(self, namespace: NamespaceId, chunk: ChunkId) -> list[ChunkAddress]:
        """Every place of a chunk that may be counted on, as addresses."""
        places = "pack.id, frame_offset, frame_length, {0}.offset, length FROM {0}"
        parts = (
            f"SELECT {places.format(table)} JOIN pack ON pack.no = {table}.pack"
            f" WHERE {table}.ns = ?1 AND {table}.id = ?2"
            for table in ("chunk", "chunk_copy")
        )
        rows = self._db.connection.execute(" UNION ALL ".join(parts), (namespace, chunk))
        return [ChunkAddress(PackId(row[0]), *row[1:]) for row in rows.fetchall()]

    def needed_in(self, namespace: NamespaceId, pack: PackId) -> list[ChunkId]:
        """The needed chunks that are found in a pack first."""
        rows = self._db.connection.execute(
            "SELECT chunk.id FROM chunk JOIN pack ON pack.no = chunk.pack"
            " JOIN temp.needed ON needed.id = chunk.id WHERE pack.id = ? AND chunk.ns = ?"
            " ORDER BY frame_offset, chunk.offset",
            (pack, namespace),
        )
        return [ChunkId(chunk) for (chunk,) in rows.fetchall()]

    def inline_packs(self, namespace: NamespaceId) -> list[PackLocation]:
        """The packs that travel inside segments and are not marked."""
        rows = self._db.connection.execute(
            "SELECT id, key, offset FROM pack WHERE ns = ? AND offset > 0"
            " AND id NOT IN (SELECT id FROM marked_pack) ORDER BY no",
            (namespace,),
        ).fetchall()
        return [PackLocation(PackId(i), StoreKey(k), o) for i, k, o in rows]

    def stranded(self, namespace: NamespaceId) -> list[ChunkId]:
        """The needed chunks that lie in marked packs alone."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT marked_chunk.id FROM marked_chunk"
            " JOIN temp.needed ON needed.id = marked_chunk.id"
            " LEFT JOIN chunk ON chunk.ns = marked_chunk.ns AND chunk.id = marked_chunk.id"
            " WHERE marked_chunk.ns = ? AND chunk.id IS NULL",
            (namespace,),
        )
        return [ChunkId(chunk) for (chunk,) in rows.fetchall()]

    def marked_homes(self, namespace: NamespaceId, chunk: ChunkId) -> list[PackLocation]:
        """The marked packs that hold a chunk, as far as is known."""
        rows = self._db.connection.execute(
            "SELECT pack.id, pack.key, pack.offset FROM marked_chunk"
            " JOIN pack ON pack.no = marked_chunk.pack"
            " WHERE marked_chunk.ns = ? AND marked_chunk.id = ?",
            (namespace, chunk),
        ).fetchall()
        return [PackLocation(PackId(i), StoreKey(k), o) for i, k, o in rows]

    # Who had seen what

    def last_written(self, namespace: NamespaceId, device: DeviceId) -> int:
        """Unix seconds, by its own clock, when a device last wrote; 0 if it never did."""
        (at,) = self._db.connection.execute(
            "SELECT max(written_at) FROM segment WHERE ns = ? AND device = ?",
            (namespace, self._db.device_no(device)),
        ).fetchone()
        return at or 0

    def note(self, header: SegmentHeader) -> None:
        """Remember what an accepted segment's author had seen."""
        self.note_progress(header.namespace, header.device, Progress(header.control, header.seen))

    def note_progress(self, namespace: NamespaceId, device: DeviceId, progress: Progress) -> None:
        """Remember what a device's last accepted segment had seen."""
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?)",
                (
                    namespace,
                    self._db.device_no(device),
                    orjson.dumps({d: list(h) for d, h in progress.control.items()}).decode(),
                    orjson.dumps({d: list(h) for d, h in progress.seen.items()}).decode(),
                ),
            )

    def progress(self, namespace: NamespaceId) -> dict[DeviceId, Progress]:
        """What each device's last accepted segment had seen."""
        rows = self._db.connection.execute(
            "SELECT device, control, seen FROM progress WHERE ns = ?", (namespace,)
        ).fetchall()
        return {
            self._db.device_id(device): Progress(_heads(control), _heads(seen))
            for device, control, seen in rows
        }


def _heads(text: str) -> Mapping[DeviceId, ChainHead]:
    return {
        DeviceId(device): ChainHead(seq, SegmentHash(digest))
        for device, (seq, digest) in orjson.loads(text).items()
    }
