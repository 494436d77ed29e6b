"""How paths are spelt on a disk that takes several names for one; see ``tcfs.sync.spelling``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tcfs.state.database import Database, insert_rows


class Spellings:
    """Absolute paths, spelt below their root as in the fleet, with the name each has on disk."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def stamp(self) -> object:
        """Changes when another process changed the state: cheap to ask."""
        (version,) = self._db.connection.execute("PRAGMA data_version").fetchone()
        return version

    def roots(self) -> list[bytes]:
        """Where the roots are."""
        return [local for (local,) in self._db.connection.execute("SELECT local FROM root")]

    def all(self) -> dict[bytes, bytes]:
        """Every path that is spelt otherwise on disk, with its last name there."""
        return dict(self._db.connection.execute("SELECT path, name FROM spelling"))

    def record(self, names: Mapping[bytes, bytes]) -> None:
        """Remember, durably, what paths are called on disk."""
        with self._db.transaction() as run:
            insert_rows(run, "INSERT OR REPLACE INTO spelling", list(names.items()))

    def forget(self, paths: Collection[bytes]) -> None:
        """The paths are spelt on disk as they are in the fleet, or are not there."""
        with self._db.transaction() as run:
            run.executemany("DELETE FROM spelling WHERE path = ?", [(path,) for path in paths])
