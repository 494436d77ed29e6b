"""The state of one namespace, out of the tables and into them, for snapshots."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from tcfs.content.address import ChunkAddress
from tcfs.model.event import ChainHead, Version
from tcfs.model.ids import ChunkId, DeviceId, NamespaceId, PackId, SegmentHash, StoreKey
from tcfs.state.database import Database, insert_rows
from tcfs.state.history import _COLUMNS as VERSION_COLUMNS
from tcfs.state.history import History
from tcfs.state.refused import Refused


class StoredSegment(NamedTuple):
    """A row of ``segment``."""

    device: DeviceId
    seq: int
    hash: SegmentHash
    lamport: int
    counter: int
    written_at: int
    accepted: bool


class StoredPack(NamedTuple):
    """A pack with the chunks that a segment told to be in it."""

    id: PackId
    key: StoreKey
    offset: int
    chunks: list[tuple[ChunkId, ChunkAddress]]


class SnapshotTables:
    """Reads and writes what a snapshot holds."""

    def __init__(self, database: Database, history: History, refused: Refused) -> None:
        self._db = database
        self._history = history
        self._refused = refused

    def is_empty(self, namespace: NamespaceId) -> bool:
        """Whether nothing is known of a namespace yet."""
        row = self._db.connection.execute(
            "SELECT 1 FROM segment WHERE ns = ? LIMIT 1", (namespace,)
        ).fetchone()
        return row is None

    def segments(self, namespace: NamespaceId) -> Iterator[StoredSegment]:
        """Every verified segment."""
        for row in self._db.connection.execute(
            "SELECT device, seq, hash, lamport, counter, written_at, accepted FROM segment"
            " WHERE ns = ? ORDER BY device, seq",
            (namespace,),
        ):
            device, digest = self._db.device_id(row[0]), SegmentHash(row[2])
            yield StoredSegment(device, row[1], digest, row[3], row[4], row[5], bool(row[6]))

    def versions(self, namespace: NamespaceId) -> Iterator[Version]:
        """Every version of accepted segments, those that access rules refuse included.

        Those of one segment come together, in the order of counters.
        """
        accepted = (
            self._history._version(row)
            for row in self._db.connection.execute(
                f"SELECT {VERSION_COLUMNS} FROM version WHERE ns = ? ORDER BY device, seq, counter",
                (namespace,),
            )
        )
        refused = sorted((e.version for e in self._refused.all(namespace)), key=self._place)
        yield from heapq.merge(accepted, refused, key=self._place)

    def _place(self, version: Version) -> tuple[int, int, int]:
        return self._db.device_no(version.id.device), version.seq, version.id.counter

    def count_versions(self, namespace: NamespaceId, heads: Mapping[DeviceId, ChainHead]) -> int:
        """How many versions there are up to these heads, as ``versions`` counts them."""
        total = 0
        for device, head in heads.items():
            for table in ("version", "refused"):
                (count,) = self._db.connection.execute(
                    f"SELECT count(*) FROM {table} WHERE ns = ? AND device = ? AND seq <= ?",
                    (namespace, self._db.device_no(device), head.seq),
                ).fetchone()
                total += count
        return total

    def packs(self, namespace: NamespaceId, at_once: int) -> Iterator[StoredPack]:
        """Every named pack, with the chunks that were told to be in it.

        A pack may come several times, with at most ``at_once`` chunks each time. Where a chain
        forks what is to be told again comes too: who loads that knows of the fork as well.
        """
        run = self._db.connection.execute
        forked = bool(self._history.forks(namespace))
        for pack, key, offset in run(
            "SELECT id, key, offset FROM pack WHERE ns = ? AND NOT pending ORDER BY no",
            (namespace,),
        ):
            yield StoredPack(PackId(pack), StoreKey(key), offset, [])
        # By pack, in one walk: there is no index of chunks by their packs.
        for table in ("chunk", "chunk_copy", "marked_chunk"):
            walk = run(
                "SELECT pack.id, pack.key, pack.offset, c.id, frame_offset, frame_length, c.offset,"
                f" length FROM {table} c JOIN pack ON pack.no = c.pack"
                " WHERE c.ns = ? AND (announced OR ?) AND NOT pack.pending ORDER BY c.pack",
                (namespace, forked),
            )
            while group := walk.fetchmany(at_once):
                for (pack, key, offset), members in groupby(group, key=lambda row: row[:3]):
                    places = [(ChunkId(m[3]), ChunkAddress(PackId(pack), *m[4:])) for m in members]
                    yield StoredPack(PackId(pack), StoreKey(key), offset, places)

    def add_segments(self, namespace: NamespaceId, segments: Iterable[StoredSegment]) -> None:
        """Record verified segments, and the last accepted one of each chain as its head."""
        rows: list[tuple[object, ...]] = []
        heads: dict[int, tuple[int, tuple[object, ...]]] = {}
        with self._db.transaction() as run:
            for s in segments:
                device = self._db.device_no(s.device)
                place = (namespace, device, s.seq, s.hash, s.lamport, s.counter)
                rows.append((*place, s.written_at, int(s.accepted)))
                if s.accepted and (device not in heads or heads[device][0] < s.seq):
                    heads[device] = (s.seq, place)
            insert_rows(run, "INSERT OR REPLACE INTO segment", rows)
            insert_rows(
                run,
                "INSERT INTO chain",
                [place for _, place in heads.values()],
                tail="ON CONFLICT DO UPDATE SET"
                " seq = excluded.seq, hash = excluded.hash, lamport = excluded.lamport,"
                " counter = excluded.counter WHERE excluded.seq > chain.seq",
            )
