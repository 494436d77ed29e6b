"""All of a device's state behind one handle."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcfs.state.control import ControlCache, Findings
from tcfs.state.database import Database
from tcfs.state.garbage import Garbage
from tcfs.state.git import GitBases
from tcfs.state.history import History
from tcfs.state.index import Index, Outbox
from tcfs.state.refused import Refused
from tcfs.state.roots import Roots
from tcfs.state.spellings import Spellings

if TYPE_CHECKING:
    from tcfs.state.snapshot import SnapshotTables


class State:
    """One device's state file, by subject."""

    def __init__(self, path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        """Open or create it, its connection of class ``factory``. Raises LocalFileError."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.database = Database(path, factory)
        self.history = History(self.database)
        self.index = Index(self.database)
        self.garbage = Garbage(self.database)
        self.roots = Roots(self.database)
        self.spellings = Spellings(self.database)
        self.refused = Refused(self.database, self.history)
        self.git = GitBases(self.database)
        self.outbox = Outbox(self.database)
        self.control = ControlCache(self.database)
        self.findings = Findings(self.database)

    @property
    def snapshot(self) -> SnapshotTables:
        """What a snapshot holds; for who takes one or begins from one."""
        from tcfs.state.snapshot import SnapshotTables

        return SnapshotTables(self.database, self.history, self.refused)

    @property
    def rebuilding(self) -> bool:
        """Whether a rebuild of the index was begun, and not ended: what is here is a part of it."""
        run = self.database.connection.execute
        return run("SELECT 1 FROM rebuilding").fetchone() is not None

    def begin_rebuilding(self, now: int) -> None:
        """What is here is a part until ``end_rebuilding``. ``now`` in unix seconds."""
        with self.database.transaction() as run:
            run.execute("DELETE FROM rebuilding")
            run.execute("INSERT INTO rebuilding VALUES (?)", (now,))

    def end_rebuilding(self) -> None:
        """All is here again."""
        with self.database.transaction() as run:
            run.execute("DELETE FROM rebuilding")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Changes of all subjects together, all or nothing, durable at the end."""
        with self.database.transaction() as connection:
            yield connection

    def close(self) -> None:
        """Close the file."""
        self.database.close()
