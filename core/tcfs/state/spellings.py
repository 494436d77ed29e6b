"""How paths are spelt on a disk that takes several names for one; see ``tcfs.sync.spelling``."""

from __future__ import annotations

from tcfs.state.database import Database


class Spellings:
    """Absolute paths, spelt below their root as in the fleet, with the name each has on disk."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._changes = 0

    def stamp(self) -> object:
        """Changes when anyone changed the state: cheap to ask."""
        (others,) = self._db.connection.execute("PRAGMA data_version").fetchone()
        return others, self._changes

    def roots(self) -> list[bytes]:
        """Where the roots are."""
        return [local for (local,) in self._db.connection.execute("SELECT local FROM root")]

    def all(self) -> dict[bytes, bytes]:
        """Every path that is spelt otherwise on disk, with its last name there."""
        return dict(self._db.connection.execute("SELECT path, name FROM spelling"))

    def record(self, path: bytes, name: bytes) -> None:
        """Remember, durably, what a path is called on disk."""
        self._changes += 1
        with self._db.transaction() as run:
            run.execute("INSERT OR REPLACE INTO spelling VALUES (?, ?)", (path, name))

    def forget(self, path: bytes) -> None:
        """The path is spelt on disk as it is in the fleet, or is not there."""
        self._changes += 1
        with self._db.transaction() as run:
            run.execute("DELETE FROM spelling WHERE path = ?", (path,))
