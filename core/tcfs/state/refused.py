"""Events that access rules refuse, and moving events between them and the tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from tcfs.model.event import ContentEvent, SegmentHeader, Version
from tcfs.model.ids import DeviceId, EpochId, NamespaceId, RelPath, VersionId
from tcfs.state.database import Database
from tcfs.state.history import History, forget_last_rows

_COLUMNS: Final = "device, counter, seq, lamport, reason, event"


class RefusedEvent(Struct, frozen=True):
    """An event that is not part of the tree, and why."""

    namespace: NamespaceId
    version: Version
    reason: str


class Refused:
    """What access rules refuse, in every namespace."""

    def __init__(self, database: Database, history: History) -> None:
        self._db = database
        self._history = history

    def add(self, events: Iterable[RefusedEvent]) -> None:
        """Record refused events. Again is harmless."""
        with self._db.transaction() as run:
            run.executemany(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(e.namespace, self._db.device_no(e.version.id.device)),
                        *(e.version.id.counter, e.version.seq, e.version.lamport),
                        *(e.version.manifest.rel_path, e.reason),
                        orjson.dumps(_event(e.version).to_json()),
                    )
                    for e in events
                ],
            )

    def all(self, namespace: NamespaceId) -> list[RefusedEvent]:
        """Every refused event of a namespace, in the order of chains."""
        rows = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM refused WHERE ns = ? ORDER BY device, counter", (namespace,)
        ).fetchall()
        return [self._event(namespace, row) for row in rows]

    def version(self, namespace: NamespaceId, version: VersionId) -> Version | None:
        """One refused version."""
        row = self._db.connection.execute(
            f"SELECT {_COLUMNS} FROM refused WHERE ns = ? AND device = ? AND counter = ?",
            (namespace, self._db.device_no(version.device), version.counter),
        ).fetchone()
        return self._event(namespace, row).version if row else None

    def _event(self, namespace: NamespaceId, row: tuple[Any, ...]) -> RefusedEvent:
        device, counter, seq, lamport, reason, text = row
        event = ContentEvent.from_json(orjson.loads(text))
        version = Version(
            VersionId(self._db.device_id(device), counter),
            lamport,
            seq,
            event.op,
            event.manifest,
            event.moved_from,
        )
        return RefusedEvent(namespace, version, reason)

    def path_of(self, namespace: NamespaceId, version: VersionId) -> RelPath | None:
        """The path of a version, refused or not; None if it is not known."""
        where = (namespace, self._db.device_no(version.device), version.counter)
        for table in ("version", "refused"):
            row = self._db.connection.execute(
                f"SELECT path FROM {table} WHERE ns = ? AND device = ? AND counter = ?", where
            ).fetchone()
            if row:
                return RelPath(row[0])
        return None

    def versions(self, namespace: NamespaceId) -> list[VersionId]:
        """Every version in the tree's history, by chain and counter."""
        rows = self._db.connection.execute(
            "SELECT device, counter FROM version WHERE ns = ? ORDER BY device, counter",
            (namespace,),
        ).fetchall()
        return [VersionId(self._db.device_id(device), counter) for device, counter in rows]

    def move_out(self, events: Sequence[RefusedEvent]) -> None:
        """Take versions out of the tree."""
        self.add(events)
        with self._db.transaction() as run:
            run.executemany(
                "DELETE FROM version WHERE ns = ? AND device = ? AND counter = ?",
                [
                    (e.namespace, self._db.device_no(e.version.id.device), e.version.id.counter)
                    for e in events
                ],
            )
            forget_last_rows(run)

    def move_in(self, events: Sequence[RefusedEvent]) -> None:
        """Put events into the tree that were refused before."""
        for e in events:
            header = _header(e)
            self._history.add_versions(e.namespace, header, [_event(e.version)])
        self.drop(events)

    def drop(self, events: Iterable[RefusedEvent]) -> None:
        """Forget refused events: they were accepted."""
        with self._db.transaction() as run:
            run.executemany(
                "DELETE FROM refused WHERE ns = ? AND device = ? AND counter = ?",
                [
                    (e.namespace, self._db.device_no(e.version.id.device), e.version.id.counter)
                    for e in events
                ],
            )

    def retract(self, namespace: NamespaceId, device: DeviceId, seq: int) -> None:
        """Forget what a device wrote after a segment: its revocation came to be known."""
        with self._db.transaction() as run:
            run.execute(
                "DELETE FROM refused WHERE ns = ? AND device = ? AND seq > ?",
                (namespace, self._db.device_no(device), seq),
            )

    def refold(self, namespace: NamespaceId, paths: Iterable[RelPath]) -> None:
        """Find out anew which versions of these paths are live."""
        with self._db.transaction() as run:
            for path in paths:
                versions = self._history.of_path(namespace, path)
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

    def judged_by(self, namespace: NamespaceId) -> str:
        """The hash of the rules that the namespace was last judged by; empty for none."""
        row = self._db.connection.execute(
            "SELECT rules FROM judged WHERE ns = ?", (namespace,)
        ).fetchone()
        return row[0] if row else ""

    def set_judged_by(self, namespace: NamespaceId, rules: str) -> None:
        """Record by which rules the namespace is judged now."""
        with self._db.transaction() as run:
            run.execute("INSERT OR REPLACE INTO judged VALUES (?, ?)", (namespace, rules))

    def clear(self) -> None:
        """Forget everything: it is about to be read anew."""
        with self._db.transaction() as run:
            run.execute("DELETE FROM refused")
            run.execute("DELETE FROM judged")


def _event(version: Version) -> ContentEvent:
    return ContentEvent(version.op, version.id.counter, version.manifest, version.moved_from)


def _header(refused: RefusedEvent) -> SegmentHeader:
    """As much of the event's segment header as the tree keeps of it."""
    version = refused.version
    return SegmentHeader(
        repo="",
        namespace=refused.namespace,
        device=DeviceId(version.id.device),
        seq=version.seq,
        prev="",
        lamport=version.lamport,
        epoch=EpochId(""),
        salt=b"",
        cipher=0,
        seen={},
        control={},
        first=version.id.counter,
        last=version.id.counter,
        body_size=0,
        body_hash="",
        pack=None,
        written_at=version.manifest.written_at,
    )
