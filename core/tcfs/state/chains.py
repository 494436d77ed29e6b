"""The chains of every namespace: their verified segments, and how far each was taken up."""

from __future__ import annotations

from collections.abc import Iterable

from tcfs.model.event import ChainHead, SegmentHeader
from tcfs.model.ids import DeviceId, NamespaceId, SegmentHash
from tcfs.state.database import Database


class Chains:
    """What was verified of chains, in every namespace."""

    def __init__(self, database: Database) -> None:
        self._db = database

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

    def beside(self, namespace: NamespaceId, device: DeviceId, head: ChainHead) -> bool:
        """Whether another segment with the same seq is known."""
        row = self._db.connection.execute(
            "SELECT 1 FROM segment WHERE ns = ? AND device = ? AND seq = ? AND hash != ?",
            (namespace, self._db.device_no(device), head.seq, head.hash),
        ).fetchone()
        return row is not None

    def forks(
        self, namespace: NamespaceId, devices: Iterable[DeviceId] | None = None
    ) -> dict[DeviceId, int]:
        """The first seq of which two segments are known, of each chain that forks.

        Args:
            devices: those to look at; None for all.
        """
        run = self._db.connection.execute
        if devices is None:
            rows = run("SELECT DISTINCT device FROM segment WHERE ns = ?", (namespace,)).fetchall()
            numbers = [number for (number,) in rows]
        else:
            numbers = [self._db.device_no(device) for device in set(devices)]
        found = {}
        for number in numbers:
            (seq,) = run(
                "SELECT min(seq) FROM (SELECT seq FROM segment WHERE ns = ? AND device = ?"
                " GROUP BY seq HAVING count(*) > 1)",
                (namespace, number),
            ).fetchone()
            if seq is not None:
                found[self._db.device_id(number)] = seq
        return found

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
        """Record a verified segment that is no part of its chain; one that is stays that."""
        self._add_segment(header, segment_hash, counter, accepted=False)

    def _add_segment(
        self, header: SegmentHeader, segment_hash: SegmentHash, counter: int, *, accepted: bool
    ) -> None:
        otherwise = "REPLACE" if accepted else "IGNORE"
        with self._db.transaction() as run:
            run.execute(
                f"INSERT OR {otherwise} INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(header.namespace, self._db.device_no(header.device), header.seq),
                    *(segment_hash, header.lamport, counter, header.written_at, int(accepted)),
                ),
            )
