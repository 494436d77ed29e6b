"""Raw control segments and claims, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from tcfs.model.ids import StoreKey
from tcfs.state.database import Database


class StoredFinding(Struct, frozen=True):
    """Something refused, frozen, missing or held back. ``found_at`` in unix seconds."""

    namespace: str
    device: str
    seq: int
    kind: str
    reason: str
    found_at: int


class ControlCache:
    """Control objects as they are in the store, so that membership needs no requests."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def objects(self) -> dict[StoreKey, bytes]:
        """Every object kept."""
        rows = self._db.connection.execute("SELECT key, data FROM control_object").fetchall()
        return {StoreKey(key): data for key, data in rows}

    def add(self, objects: Mapping[StoreKey, bytes]) -> None:
        """Keep verified objects."""
        if not objects:
            return
        with self._db.transaction() as run:
            run.executemany(
                "INSERT OR REPLACE INTO control_object VALUES (?, ?)", list(objects.items())
            )


class Findings:
    """What was refused, for status and audit."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, finding: StoredFinding) -> None:
        """Record a finding once."""
        with self._db.transaction() as run:
            run.execute(
                "INSERT OR IGNORE INTO finding VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(finding.namespace, finding.device, finding.seq),
                    *(finding.kind, finding.reason, finding.found_at),
                ),
            )

    def forget(self, namespace: str, kinds: Iterable[str]) -> None:
        """Drop findings of a namespace that are about to be looked for anew."""
        old = self._db.connection.execute("SELECT DISTINCT ns, kind FROM finding").fetchall()
        gone = sorted(set(old) & {(namespace, kind) for kind in kinds})
        if gone:  # seldom: most looks at the store find all as it should be
            with self._db.transaction() as run:
                run.executemany("DELETE FROM finding WHERE ns = ? AND kind = ?", gone)

    def all(self) -> list[StoredFinding]:
        """Every finding, in the order of chains."""
        rows = self._db.connection.execute(
            "SELECT ns, device, seq, kind, reason, found_at FROM finding ORDER BY ns, device, seq"
        ).fetchall()
        return [StoredFinding(*row) for row in rows]
