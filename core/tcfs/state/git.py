"""What git repositories last had in common with the fleet, and ref updates that were begun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from tcfs.model.ids import RelPath, VersionId
from tcfs.state.columns import dump_ids, parse_ids
from tcfs.state.database import Database
from tcfs.state.roots import Root

SEEN: Final = b""
"""The name under which a repository's fingerprint stands among its registers."""


class RegisterBase(Struct, frozen=True):
    """The value of a register that was last the same here and in the fleet, and its versions."""

    value: bytes
    ids: tuple[VersionId, ...]


class GitBases:
    """Rows of ``git_base`` and ``git_arrival``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def repositories(self, root: Root) -> list[RelPath]:
        """Repositories of a root that were synced, by their path in it."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT repo FROM git_base WHERE root = ? ORDER BY repo", (root.id,)
        )
        return [RelPath(repo) for (repo,) in rows]

    def of(self, root: Root, repo: RelPath) -> dict[bytes, RegisterBase]:
        """The base of a repository's registers, by name."""
        rows = self._db.connection.execute(
            "SELECT name, value, ids FROM git_base WHERE root = ? AND repo = ? AND name != ?",
            (root.id, repo, SEEN),
        )
        return {name: RegisterBase(value, parse_ids(ids)) for name, value, ids in rows}

    def seen(self, root: Root, repo: RelPath) -> bytes:
        """What the git directory's files looked like when its registers were last the base."""
        row = self._db.connection.execute(
            "SELECT value FROM git_base WHERE root = ? AND repo = ? AND name = ?",
            (root.id, repo, SEEN),
        ).fetchone()
        return bytes(row[0]) if row else b""

    def record(
        self, root: Root, repo: RelPath, entries: Mapping[bytes, RegisterBase | None]
    ) -> None:
        """Record these registers' base, durably; None forgets one."""
        kept = [
            (root.id, repo, name, base.value, dump_ids(base.ids))
            for name, base in entries.items()
            if base is not None
        ]
        gone = [(root.id, repo, name) for name, base in entries.items() if base is None]
        with self._db.transaction() as run:
            run.executemany("INSERT OR REPLACE INTO git_base VALUES (?,?,?,?,?)", kept)
            run.executemany("DELETE FROM git_base WHERE root = ? AND repo = ? AND name = ?", gone)

    def begun(self, root: Root) -> dict[RelPath, str]:
        """Repositories with ref updates that were begun and not completed, with their steps."""
        rows = self._db.connection.execute(
            "SELECT repo, steps FROM git_arrival WHERE root = ?", (root.id,)
        )
        return {RelPath(repo): steps for repo, steps in rows}

    def begin(self, root: Root, repo: RelPath, steps: str) -> None:
        """Record, durably, what is about to be done to a repository."""
        with self._db.transaction() as run:
            run.execute("INSERT OR REPLACE INTO git_arrival VALUES (?,?,?)", (root.id, repo, steps))

    def end(self, root: Root, repos: Iterable[RelPath]) -> None:
        """Record that what was begun is done."""
        with self._db.transaction() as run:
            run.executemany(
                "DELETE FROM git_arrival WHERE root = ? AND repo = ?", [(root.id, r) for r in repos]
            )
