"""One device's computer: its disk, clock, random source, lock and state database.

The state database is a real SQLite file in memory-backed storage. What a crash does to it is taken
from SQLite's promise, not simulated: with ``synchronous = FULL`` a transaction that returned is
there afterwards, and one that did not is gone. Where the engine asks for less than FULL, a power
loss puts the file back to one of the transactions before.
"""

from __future__ import annotations

import random
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakSet

from greenlet import greenlet

from tcfs.errors import BusyError
from tcfs.host.base import Host
from tcfs.host.executor import SerialExecutor
from tcfs.host.faults import SimulatedCrash
from tests.sim.bucket import Bucket, SimulatedStore
from tests.sim.disk import Disk, Gate, Inode, Loss, Naming, SimulatedFiles

if TYPE_CHECKING:
    from tests.sim.timeline import Timeline


FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "get": ("lost", "stale", "damaged", "short"),
    "get_range": ("lost", "stale", "damaged", "short"),
    "head": ("lost", "stale"),
    "list": ("lost", "late", "stale"),
    "list_dirs": ("lost", "stale"),
    "put": ("lost", "late"),
    "delete": ("lost", "late"),
    "write_new": ("full", "broken"),
    "write": ("full", "broken"),
    "symlink": ("full", "broken"),
    "mkdir": ("full", "broken"),
    "commit": ("full",),
    "open": ("broken",),
    "read": ("broken",),
    "scan": ("broken",),
    "lstat": ("broken",),
    "rename_new": ("broken",),
    "exchange": ("broken",),
    "unlink": ("broken",),
    "rmdir": ("broken",),
    "set_attributes": ("broken",),
    "barrier": ("broken",),
}
"""How an operation can fail: see ``bucket`` and ``disk``."""

STOPS: Final[dict[str, frozenset[str]]] = {
    "tree": frozenset(("rename_new", "exchange", "rename", "unlink", "rmdir", "set_attributes")),
    "read": frozenset(("open", "read")),
    "safe": frozenset(("put", "delete", "commit", "barrier")),
    "look": frozenset(("scan",)),
    "fetch": frozenset(("get", "get_range")),
    "": frozenset(),
}
"""Operations before which a scheduler in search of trouble stops, by what it is after."""


class Task:
    """One operation of an engine while it runs, in a greenlet of its own.

    Attributes:
        left: operations of the machine that it may do before the scheduler is asked again.
        stops: names of operations before which it is asked, too.
        pending: the operation it waits to do.
        fault: how that one is to fail.
    """

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self.left = 0
        self.stops: frozenset[str] = frozenset()
        self.pending: tuple[str, str, str | bytes] = ("", "", "")
        self.fault = ""
        self.result: Any = None
        self.error: BaseException | None = None
        self._greenlet = greenlet(self._run)
        self._function = function

    def _run(self) -> None:
        try:
            self.result = self._function()
        except (Exception, SimulatedCrash) as error:  # noqa: BLE001 - whoever resumes it judges
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return bool(self._greenlet.dead)

    def resume(self, operations: int, fault: str = "", *, stop: str = "") -> None:
        """Go on for this many operations, the first of which fails like this."""
        self.left = operations
        self.stops = STOPS[stop]
        self.fault = fault
        self._greenlet.switch()

    def forget(self) -> None:
        """Let go of what an operation that failed still held: cursors keep SQLite's locks."""
        error = self.error
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__context__

    def wait(self) -> None:
        """Called by the machine: let the scheduler decide."""
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()


class SimulatedEntropy:
    """The same bytes in each run, never twice in one."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


class SimulatedConnection(sqlite3.Connection):
    """SQLite, asked at each commit whether the machine is still there."""

    machine: ClassVar[Machine]
    level = 2
    """What ``PRAGMA synchronous`` was last set to, as far as it matters: FULL, or less."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.machine.connections.add(self)

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        machine = self.machine
        if sql == "COMMIT":
            if machine.pass_("state", "commit", ""):
                raise sqlite3.OperationalError("database or disk is full")
            cursor = super().execute(sql)
            machine.committed(self)
            return cursor
        if machine.dead and sql != "ROLLBACK":
            raise SimulatedCrash
        if sql.startswith("PRAGMA synchronous ="):
            self.level = 2 if sql.endswith(("FULL", "EXTRA")) else 0
        return super().execute(sql, parameters)


class Machine(Gate):
    """A computer in a simulated world.

    Args:
        home: where the state database really is.
        seed: of its random source.
        tick_ns: the granularity of its file system's times.
        dropped: told when the engine takes the last name of a file away.
    """

    def __init__(
        self,
        timeline: Timeline,
        name: str,
        home: Path,
        bucket: Bucket,
        *,
        seed: str,
        naming: Naming,
        tick_ns: int,
        dropped: Callable[[bytes, Inode], None],
    ) -> None:
        self.timeline = timeline
        self.name = name
        self.home = home
        self.dead = False
        self.task: Task | None = None
        self.clock_offset_ns = 0
        self.armed: tuple[str, str] | None = None
        """The next operation of that name fails like this."""
        self._tick_ns = tick_ns
        self._locked = False
        self._dropped = dropped
        self._states: list[bytes] = []
        self.connections: WeakSet[sqlite3.Connection] = WeakSet()
        self.disk = Disk(self.disk_time, naming)
        self.files = SimulatedFiles(self.disk, self)
        self.store = SimulatedStore(bucket, self)
        self.host = Host(
            files=self.files,
            clock=self,
            entropy=SimulatedEntropy(f"{seed}/{name}"),
            executor=lambda _workers: SerialExecutor(),
            lock=self.lock,
        )
        self.connection: type[SimulatedConnection] = type(
            "Connection", (SimulatedConnection,), {"machine": self}
        )

    # The gate

    def pass_(self, kind: str, name: str, target: str | bytes) -> str:
        if self.dead:
            raise SimulatedCrash
        self.timeline.operation(self.name, kind, name, target)
        task = self.task
        if task is None:
            return ""
        if self.armed is not None and self.armed[0] == name:
            fault, self.armed = self.armed[1], None
            self.timeline.note(f"{self.name}: fault {fault} at {name}")
            return fault
        if task.left > 0 and not (name in task.stops and _is_users(target)):
            task.left -= 1
            return ""
        task.pending = (kind, name, target)
        task.wait()
        if self.dead:
            raise SimulatedCrash
        task.left -= 1
        fault, task.fault = task.fault, ""
        if fault not in FAULTS.get(name, ()):
            return ""
        self.timeline.note(f"{self.name}: fault {fault} at {name}")
        return fault

    def dropped(self, path: bytes, inode: Inode) -> None:
        self._dropped(path, inode)

    # The clock

    def disk_time(self) -> int:
        """The time that files get."""
        now = self.timeline.now_ns + self.clock_offset_ns
        return now - now % self._tick_ns

    def now(self) -> float:
        return (self.timeline.now_ns + self.clock_offset_ns) / 1e9

    def monotonic(self) -> float:
        return self.timeline.now_ns / 1e9

    def sleep(self, seconds: float) -> None:
        self.pass_("clock", "sleep", f"{seconds:.3f}")
        self.timeline.now_ns += int(seconds * 1e9) + 1

    # The lock

    @contextmanager
    def lock(self, path: bytes, wait: bool) -> Iterator[None]:
        """Held by one task at a time, until it ends however that is."""
        self.pass_("lock", "lock", path.rpartition(b"/")[2])
        if self._locked:
            raise BusyError("another process holds the lock")
        self._locked = True
        try:
            yield
        finally:
            self._locked = False

    # The state

    def committed(self, connection: SimulatedConnection) -> None:
        """A transaction returned. What that promises depends on what was asked of SQLite."""
        if connection.level >= 2:
            self._states.clear()
        else:
            self._states = [*self._states[-7:], connection.serialize()]

    @property
    def state_path(self) -> Path:
        """The state database."""
        return self.home / "state.db"

    # Crashes

    def crash(self, loss: Loss | None, rng: random.Random) -> None:
        """End the process, at the operation it waits to do; without a loss, the power stays on."""
        task, self.task = self.task, None
        self.dead = True
        if task is not None and not task.ended:
            task.resume(0)
            task.forget()
        for connection in list(self.connections):
            connection.close()
        if loss is not None:
            self.disk.lose_power(loss, rng)
            if self._states and rng.random() < 0.7:
                put_state(self.state_path, rng.choice(self._states))
        self._states.clear()
        self._locked = False
        self.armed = None

    def restart(self) -> None:
        """Come back."""
        self.dead = False


def _is_users(target: str | bytes) -> bool:
    """Whether an operation is about a user's file, or about none."""
    return isinstance(target, str) or b"/.tcfs/" not in target


def state_at(path: Path) -> bytes:
    """A state database, with what is committed and not in its main file yet.

    That is more than nothing where a cursor outlives its connection until it is collected.
    """
    with closing(sqlite3.connect(path)) as connection:
        return connection.serialize()


def put_state(path: Path, data: bytes) -> None:
    """Put a state database in place of what is there."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(data)
