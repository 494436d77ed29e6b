"""The simulated machine: its state database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.sim.machine import put_state, state_at


def test_a_copied_state_has_what_a_cursor_keeps_from_the_main_file(tmp_path: Path) -> None:
    """SQLite closes such a connection when the cursor is collected, whenever that is."""
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n)")
    connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
    cursor = connection.execute("SELECT n FROM t")
    next(cursor)
    connection.close()
    put_state(copy, state_at(path))
    with closing(sqlite3.connect(copy)) as other:
        assert [n for (n,) in other.execute("SELECT n FROM t")] == [1, 2, 3]
    del cursor
