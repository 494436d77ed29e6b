"""The connection: opening, schema version, transactions.

SQLite in WAL mode with ``synchronous = FULL``: a transaction that returned is on disk, since a
device that forgets a segment it sent would seem cloned. One writer at a time, kept so by the
device's lock; readers never wait.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Final

import orjson
from msgspec import msgpack

from tcfs.errors import LocalFileError
from tcfs.model.ids import DeviceId

SCHEMA_VERSION: Final = 9
BUSY_TIMEOUT_S: Final = 10.0
_PARAMETERS: Final = 960
"""Of one statement; SQLite before 3.32 took 999."""

_CHECKPOINT_PAGES: Final = 8000
"""Pages of the log, of 4 KiB each, from which it is copied into the database."""

_CREATES = re.compile(r"^CREATE (?:UNIQUE )?(?:TABLE|INDEX) (\w+)", re.MULTILINE)


class Database:
    """One device's state. Use from one thread at a time."""

    def __init__(self, path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        """Open or create the state file.

        Args:
            factory: the class of the connection, for a simulation that looks on.

        Raises:
            LocalFileError: it cannot be opened, is damaged, or is of a later version.
        """
        self.path = path
        try:
            self.connection = sqlite3.connect(
                path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                factory=factory,
            )
        except sqlite3.Error as error:
            raise _unopened(path, error) from error
        try:
            self._prepare()
        except BaseException as error:
            # Else a transaction that was begun would lock the file for as long as this process is.
            self.connection.close()
            if isinstance(error, sqlite3.Error):
                raise _unopened(path, error) from error
            raise
        self._device_numbers: dict[DeviceId, int] = {}
        self._device_ids: dict[int, DeviceId] = {}

    def _prepare(self) -> None:
        run = self.connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA cache_size = -16000")
        # A first pull writes many pages more than once: fewer checkpoints copy each less often.
        run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        (version,) = run("PRAGMA user_version").fetchone()
        if version == 0:
            schema = resources.files("tcfs.state").joinpath("schema.sql").read_text("utf-8")
            run("BEGIN IMMEDIATE")
            (version,) = run("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _statements(schema):
                    run(statement)
                run(f"PRAGMA user_version = {SCHEMA_VERSION}")
                version = SCHEMA_VERSION
            run("COMMIT")
        if 2 <= version < SCHEMA_VERSION:
            version = self._migrate()
        if version < SCHEMA_VERSION:
            raise LocalFileError(
                f"the state file {self.path} is of a build before the first release",
                remedy="Move it away and run: tcfs rebuild-index",
            )
        if version != SCHEMA_VERSION:
            raise LocalFileError(
                f"the state file {self.path} is of version {version}, this tcfs knows "
                f"{SCHEMA_VERSION}",
                remedy="Use the newer tcfs that wrote it.",
            )

    def _migrate(self) -> int:
        """Add the tables that an earlier version lacks; what is there is kept."""
        schema = resources.files("tcfs.state").joinpath("schema.sql").read_text("utf-8")
        run = self.connection.execute
        run("BEGIN IMMEDIATE")
        (version,) = run("PRAGMA user_version").fetchone()
        if version < SCHEMA_VERSION:
            known = {name for (name,) in run("SELECT name FROM sqlite_master")}
            renumbered = version < 6 and "intent_list" in known
            if renumbered:  # Up to version 5 a number could be given twice.
                run("ALTER TABLE intent_list RENAME TO former_intent_list")
                known.remove("intent_list")
            pathless = version < 8
            if pathless and "superseded" in known:  # Up to version 7 it had no paths.
                run("DROP TABLE superseded")
                known.remove("superseded")
            for statement in _statements(schema):
                made = _CREATES.search(statement)
                if made and made.group(1) not in known:
                    run(statement)
            if renumbered:
                run("INSERT INTO intent_list SELECT * FROM former_intent_list")
                run("DROP TABLE former_intent_list")
            if "intent" in known:
                self._list_intents()
            if pathless:
                self._find_superseded()
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        run("COMMIT")
        return SCHEMA_VERSION

    def _find_superseded(self) -> None:
        """What versions name as parents and is not there, path by path."""
        self.connection.execute(
            "INSERT OR IGNORE INTO superseded"
            " SELECT ns, no, counter, path FROM ("
            "  SELECT v.ns, device.no, v.path, json_extract(parent.value, '$[1]') AS counter"
            "  FROM version AS v, json_each(v.parents) AS parent"
            "  JOIN device ON device.id = json_extract(parent.value, '$[0]')) AS named"
            " WHERE NOT EXISTS (SELECT 1 FROM version AS v WHERE v.ns = named.ns"
            "  AND v.device = named.no AND v.counter = named.counter AND v.path = named.path)"
        )

    def _list_intents(self) -> None:
        """Up to version 3 an intent was a row of its own."""
        run = self.connection.execute
        lists: dict[int, list[Any]] = {}
        for root, path, kind, device, counter, ids, clock, mode in run(
            "SELECT root, path, kind, device.id, counter, ids, clock, mode FROM intent"
            " LEFT JOIN device ON device.no = intent.device"
        ).fetchall():
            version = None if device is None else (device, counter)
            parsed = [None if text is None else orjson.loads(text) for text in (ids, clock)]
            lists.setdefault(root, []).append((path, kind, version, *parsed, mode))
        for root, listed in lists.items():
            run(
                "INSERT INTO intent_list (root, listed) VALUES (?, ?)",
                (root, msgpack.encode(listed)),
            )
        run("DROP TABLE intent")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when the context ends. Nested: part of the outer one."""
        if self.connection.in_transaction:
            yield self.connection
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise self._failure(error) from error
            raise
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._failure(error) from error

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # SQLite ends it itself when the disk is full.
            self.connection.execute("ROLLBACK")
        self._device_numbers.clear()
        self._device_ids.clear()

    def _failure(self, error: sqlite3.Error) -> LocalFileError:
        return LocalFileError(
            f"the state file {self.path} cannot be written: {error}",
            remedy="Make room or mend its disk, then run the command again: nothing is lost.",
        )

    def device_no(self, device: DeviceId) -> int:
        """The small number of a device, given on first use."""
        number = self._device_numbers.get(device)
        if number is None:
            run = self.connection.execute
            run("INSERT OR IGNORE INTO device (id) VALUES (?)", (device,))
            (number,) = run("SELECT no FROM device WHERE id = ?", (device,)).fetchone()
            self._device_numbers[device] = number
            self._device_ids[number] = device
        return number

    def device_id(self, number: int) -> DeviceId:
        """The device of a small number."""
        device = self._device_ids.get(number)
        if device is None:
            (text,) = self.connection.execute(
                "SELECT id FROM device WHERE no = ?", (number,)
            ).fetchone()
            device = DeviceId(text)
            self._device_ids[number] = device
        return device

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _unopened(path: Path, error: sqlite3.Error) -> LocalFileError:
    if isinstance(error, sqlite3.OperationalError):
        remedy = "Make room or mend its disk, then run the command again: nothing is lost."
    else:
        remedy = "Move it away and run: tcfs rebuild-index"
    return LocalFileError(f"the state file {path} cannot be opened: {error}", remedy=remedy)


def insert_rows(
    run: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]], *, tail: str = ""
) -> None:
    """Insert many rows, many to a statement: ``into`` VALUES (...), (...) ``tail``.

    ``executemany`` takes twice as long, and with other threads about, which it lets in between
    any two rows, far longer.
    """
    if not rows:
        return
    width = len(rows[0])
    one = "(" + ",".join("?" * width) + ")"
    step = max(_PARAMETERS // width, 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        statement = f"{into} VALUES {','.join([one] * len(part))} {tail}"
        run.execute(statement, list(chain.from_iterable(part)))


def delete_rows(
    run: sqlite3.Connection, table: str, column: str, values: Sequence[Any], root: int
) -> None:
    """Delete a root's rows whose column has one of these values, many to a statement.

    See ``insert_rows`` for why.
    """
    for start in range(0, len(values), _PARAMETERS - 1):
        part = values[start : start + _PARAMETERS - 1]
        marks = ",".join("?" * len(part))
        run.execute(f"DELETE FROM {table} WHERE root = ? AND {column} IN ({marks})", (root, *part))


def _statements(script: str) -> Iterator[str]:
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
