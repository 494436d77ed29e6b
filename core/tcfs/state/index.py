"""Where chunks and packs are, and finished segments on their way to the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from tcfs.content.address import ChunkAddress
from tcfs.model.ids import ChunkId, NamespaceId, PackId, StoreKey
from tcfs.state.database import Database, insert_rows

_AT_ONCE: Final = 256
"""Chunks asked for in one statement."""


class PackLocation(Struct, frozen=True):
    """Where a pack's bytes are: from ``offset`` of an object (> 0 only inside a segment)."""

    id: PackId
    key: StoreKey
    offset: int = 0


class OutboxEntry(Struct, frozen=True):
    """A finished segment, kept until the store and this state have it."""

    namespace: NamespaceId
    seq: int
    key: StoreKey
    data: bytes
    root: int | None


class Index:
    """Chunk and pack locations of every namespace."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Packs

    def add_pack(
        self, namespace: NamespaceId, location: PackLocation, *, pending: bool = False
    ) -> None:
        """Record a pack; ``pending`` while no segment names it."""
        self.add_packs(namespace, [location], pending=pending)

    def add_packs(
        self, namespace: NamespaceId, locations: Iterable[PackLocation], *, pending: bool = False
    ) -> None:
        """Record packs; ``pending`` while no segment names them."""
        with self._db.transaction() as run:
            insert_rows(
                run,
                "INSERT INTO pack (ns, id, key, offset, pending)",
                [(namespace, at.id, at.key, at.offset, int(pending)) for at in locations],
                tail="ON CONFLICT (id) DO UPDATE SET pending = min(pending, excluded.pending)",
            )

    def location(self, pack: PackId) -> PackLocation | None:
        """Where a pack is."""
        row = self._db.connection.execute(
            "SELECT id, key, offset FROM pack WHERE id = ?", (pack,)
        ).fetchone()
        return PackLocation(PackId(row[0]), StoreKey(row[1]), row[2]) if row else None

    def packs(self, namespace: NamespaceId) -> list[PackLocation]:
        """Every pack that a segment names."""
        rows = self._db.connection.execute(
            "SELECT id, key, offset FROM pack WHERE ns = ? AND NOT pending ORDER BY no",
            (namespace,),
        ).fetchall()
        return [PackLocation(PackId(i), StoreKey(k), o) for i, k, o in rows]

    def tell_again(self, namespace: NamespaceId) -> None:
        """Whatever segment uses a chunk next tells where it is, if it is in a pack of its own."""
        with self._db.transaction() as run:
            for table in ("chunk", "chunk_copy"):
                run.execute(
                    f"UPDATE {table} SET announced = 0 WHERE ns = ?1 AND pack IN"
                    " (SELECT no FROM pack WHERE ns = ?1 AND offset = 0)",
                    (namespace,),
                )

    def pending_packs(self, namespace: NamespaceId) -> list[PackLocation]:
        """Uploaded packs that the next segment is to name."""
        rows = self._db.connection.execute(
            "SELECT id, key, offset FROM pack WHERE ns = ? AND pending ORDER BY no", (namespace,)
        ).fetchall()
        return [PackLocation(PackId(i), StoreKey(k), o) for i, k, o in rows]

    def forget_pack(self, pack: PackId) -> None:
        """Forget a pack that is not in the store after all, and what was said to be in it."""
        with self._db.transaction() as run:
            run.execute(
                "DELETE FROM chunk WHERE pack = (SELECT no FROM pack WHERE id = ?)", (pack,)
            )
            run.execute("DELETE FROM pack WHERE id = ?", (pack,))
            # What is in another pack too is found there from now on.
            run.execute(
                "INSERT OR IGNORE INTO chunk SELECT ns, id, pack, frame_offset, frame_length,"
                " offset, length, announced FROM chunk_copy"
            )
            run.execute(
                "DELETE FROM chunk_copy WHERE (ns, id, pack) IN (SELECT ns, id, pack FROM chunk)"
            )

    # Chunks

    def add_chunks(
        self,
        namespace: NamespaceId,
        chunks: Iterable[tuple[ChunkId, ChunkAddress]],
        *,
        announced: bool = True,
    ) -> None:
        """Record where chunks are. Their packs must be known; a first address stays."""
        numbers: dict[PackId, int] = {}
        rows = []
        for chunk, address in chunks:
            number = numbers.get(address.pack)
            if number is None:
                (number,) = self._db.connection.execute(
                    "SELECT no FROM pack WHERE id = ?", (address.pack,)
                ).fetchone()
                numbers[address.pack] = number
            rows.append((namespace, chunk, number, *address[1:], int(announced)))
        # In key order the tree's pages are filled one after the other.
        rows.sort()
        with self._db.transaction() as run:
            before = run.total_changes
            insert_rows(
                run,
                "INSERT INTO chunk",
                rows,
                tail="ON CONFLICT DO UPDATE SET announced = 1"
                " WHERE excluded.announced > chunk.announced AND excluded.pack = chunk.pack",
            )
            if run.total_changes - before < len(rows):
                # Further places: a pack may go if all it holds is elsewhere too.
                run.executemany(
                    "INSERT OR IGNORE INTO chunk_copy SELECT ?1,?2,?3,?4,?5,?6,?7,?8 WHERE EXISTS"
                    " (SELECT 1 FROM chunk WHERE ns = ?1 AND id = ?2 AND pack != ?3)",
                    rows,
                )

    def address(self, namespace: NamespaceId, chunk: ChunkId) -> ChunkAddress | None:
        """Where a chunk is, if anywhere."""
        return self.addresses(namespace, (chunk,)).get(chunk)

    def addresses(
        self, namespace: NamespaceId, chunks: Sequence[ChunkId]
    ) -> dict[ChunkId, ChunkAddress]:
        """Where these chunks are; those that are nowhere are left out.

        A place in a marked pack is good for reading, as long as it lasts, if there is no other.
        """
        found = self._places("chunk", namespace, chunks)
        if len(found) < len(chunks):
            others = [chunk for chunk in chunks if chunk not in found]
            found |= self._places("marked_chunk", namespace, others)
        return found

    def _places(
        self, table: str, namespace: NamespaceId, chunks: Sequence[ChunkId]
    ) -> dict[ChunkId, ChunkAddress]:
        run = self._db.connection.execute
        rows: list[tuple[ChunkId, int, int, int, int, int]] = []
        for start in range(0, len(chunks), _AT_ONCE):
            asked = chunks[start : start + _AT_ONCE]
            marks = ",".join("?" * len(asked))
            rows += run(
                "SELECT id, pack, frame_offset, frame_length, offset, length"
                f" FROM {table} WHERE ns = ? AND id IN ({marks})",
                (namespace, *asked),
            ).fetchall()
        packs: dict[int, PackId] = {}
        for number in {row[1] for row in rows}:
            (packs[number],) = run("SELECT id FROM pack WHERE no = ?", (number,)).fetchone()
        return {row[0]: ChunkAddress(packs[row[1]], *row[2:]) for row in rows}

    def unannounced(
        self, namespace: NamespaceId, chunks: Iterable[ChunkId]
    ) -> dict[ChunkId, ChunkAddress]:
        """Those of the chunks that are stored, but that no segment told of."""
        run = self._db.connection.execute
        found, waiting = {}, iter(chunks)
        while asked := list(islice(waiting, _AT_ONCE)):
            rows = run(
                "SELECT chunk.id, pack.id, frame_offset, frame_length, chunk.offset, length"
                " FROM chunk JOIN pack ON pack.no = chunk.pack WHERE chunk.ns = ?"
                f" AND chunk.id IN ({','.join('?' * len(asked))}) AND NOT announced",
                (namespace, *asked),
            )
            for chunk, pack, *where in rows:
                found[ChunkId(chunk)] = ChunkAddress(PackId(pack), *where)
        return found

    def chunks_of(self, pack: PackId) -> set[ChunkId]:
        """The chunks that are known to be in a pack."""
        rows = self._db.connection.execute(
            "SELECT chunk.id FROM chunk JOIN pack ON pack.no = chunk.pack WHERE pack.id = ?",
            (pack,),
        )
        return {ChunkId(chunk) for (chunk,) in rows}

    def count(self, namespace: NamespaceId) -> int:
        """How many chunks of a namespace are known."""
        (count,) = self._db.connection.execute(
            "SELECT count(*) FROM chunk WHERE ns = ?", (namespace,)
        ).fetchone()
        return int(count)

    def is_empty(self, namespace: NamespaceId) -> bool:
        """Whether no chunk of a namespace is known."""
        row = self._db.connection.execute(
            "SELECT 1 FROM chunk WHERE ns = ? LIMIT 1", (namespace,)
        ).fetchone()
        return row is None


class Outbox:
    """Finished segments not yet known to be in the store."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, entry: OutboxEntry) -> None:
        """Keep a segment, durably, before it is sent."""
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?)",
                (entry.namespace, entry.seq, entry.key, entry.data, entry.root),
            )

    def all(self) -> list[OutboxEntry]:
        """Every entry, oldest first."""
        rows = self._db.connection.execute(
            "SELECT ns, seq, key, data, root FROM outbox ORDER BY ns, seq"
        ).fetchall()
        return [OutboxEntry(NamespaceId(n), s, StoreKey(k), d, r) for n, s, k, d, r in rows]

    def count(self) -> int:
        """How many segments wait."""
        (count,) = self._db.connection.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)

    def remove(self, entry: OutboxEntry) -> None:
        """Forget a segment that the store and this state have."""
        with self._db.transaction() as run:
            run.execute("DELETE FROM outbox WHERE key = ?", (entry.key,))


class StoredChunks:
    """Which chunks are in the store already, asked from worker processes.

    Picklable: each process opens the state file for reading when it is first asked.
    """

    def __init__(self, path: Path, namespace: NamespaceId) -> None:
        self._path = path
        self._namespace = namespace
        self._connection: sqlite3.Connection | None = None

    def __getstate__(self) -> tuple[Path, NamespaceId]:
        return (self._path, self._namespace)

    def __setstate__(self, state: tuple[Path, NamespaceId]) -> None:
        self._path, self._namespace = state
        self._connection = None

    def contains_many(self, ids: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of the ids that are stored."""
        if self._connection is None:
            # Large files are read in threads of their own: one connection may serve several.
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
        found: set[ChunkId] = set()
        for start in range(0, len(ids), _AT_ONCE):
            asked = ids[start : start + _AT_ONCE]
            marks = ",".join("?" * len(asked))
            rows = self._connection.execute(
                f"SELECT id FROM chunk WHERE ns = ? AND id IN ({marks})", (self._namespace, *asked)
            )
            found.update(chunk for (chunk,) in rows)
        return found
