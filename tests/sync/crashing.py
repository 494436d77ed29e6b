"""A fleet that can be killed: worlds that are put back, plans that crash, and what must hold then.

A ``World`` is two devices over one store in memory, at a fixed path that ``save`` and ``restore``
bring back, so that one preparation serves many crashes. Every change outside memory is numbered in
one ``FaultPlan``: of the store, of the file system, each transaction of the state, and the private
files. A crash before operation k is thus the crash after operation k - 1, and enumerating "before"
covers every point; ``write_new`` and private files have a torn ``middle`` besides.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from tcfs.config.load import LoadedConfig, load_config
from tcfs.errors import TcfsError
from tcfs.host.base import FileSystem, Host
from tcfs.host.faults import FaultPlan, Moment, SimulatedCrash
from tcfs.host.faulty import FaultyFileSystem
from tcfs.host.system import system_host
from tcfs.model.ids import ChunkId, NamespaceId
from tcfs.model.paths import ROOT
from tcfs.state.database import Database
from tcfs.store.base import BlobStore
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.fault import FaultStore
from tcfs.sync import private_files, recovery, session, settings_desk
from tcfs.sync.fleet import Fleet
from tests.host.folding import FoldingFiles
from tests.sync.powerless import Loss, LossyFileSystem

SPACE = NamespaceId("default")
TREE_CHANGES = frozenset(
    (
        *("write_new", "write_at", "symlink", "mkdir", "rmdir", "unlink"),
        *("rename_new", "exchange", "rename", "set_attributes"),
    )
)
"""What a power loss takes back, if no barrier came after it."""
LASTING = frozenset(("put", "delete", "transaction", "private", "barrier", "fsync"))
CHANGES = TREE_CHANGES | LASTING
"""What is worth a crash: everything else leaves the world as it was."""

Tree = dict[bytes, tuple[Any, ...]]
Point = tuple[int, Moment]


def fast_directory() -> str | None:
    """Where trees and stores go: memory if there is such a file system, for fsync is slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Clock:
    """A second ahead of the system's, so that nobody waits for a tick of the file system."""

    def now(self) -> float:
        return time.time() + 1

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        pass


# Trees


def fill(top: Path, files: dict[str, bytes | str | None]) -> None:
    """Write files: bytes; text for a symlink's target; None for a directory."""
    top.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, str):
            path.unlink(missing_ok=True)
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def snapshot(top: Path) -> Tree:
    """Everything below a directory but ``.tcfs``; of directories neither times nor size."""
    found: Tree = {}
    for at, directories, names in os.walk(os.fsencode(top)):
        if b".tcfs" in directories:
            directories.remove(b".tcfs")
        for name in directories + names:
            path = os.path.join(at, name)
            status = os.lstat(path)
            key = os.path.relpath(path, os.fsencode(top))
            if os.path.islink(path):
                found[key] = ("symlink", os.readlink(path), status.st_mtime_ns)
            elif os.path.isdir(path):
                found[key] = ("dir", status.st_mode)
            else:
                found[key] = (
                    "file",
                    status.st_mode,
                    status.st_mtime_ns,
                    Path(os.fsdecode(path)).read_bytes(),
                )
    return found


def hashes(tree: Tree) -> set[bytes]:
    """The hashes of all files of a tree."""
    return {blake3(entry[3]).digest() for entry in tree.values() if entry[0] == "file"}


def leftovers(top: Path) -> list[str]:
    """Temporary files of pulls."""
    return sorted(str(p) for d in top.rglob(".tcfs*") for p in d.glob("tmp*/*")) + sorted(
        str(p) for p in top.parent.rglob(".tcfs-tmp*")
    )


# The world


class World:
    """Devices ``a`` and ``b`` (and more by name) over one store in memory.

    Those in ``folding`` ignore case and normalise Unicode.
    """

    def __init__(self, folding: frozenset[str] = frozenset()) -> None:
        self._folding = folding
        self.top = Path(tempfile.mkdtemp(prefix="tcfs-crash-", dir=fast_directory())).resolve()
        self.work = self.top / "work"
        self.work.mkdir()
        self.store = MemoryStore()
        self._saved: dict[Any, Any] = {}
        self._open: list[Fleet] = []

    def tree(self, name: str) -> Path:
        return self.work / f"{name}-tree"

    def files(self, name: str, files: FileSystem) -> FileSystem:
        """The file system of a device."""
        tree = os.fsencode(self.tree(name))
        return FoldingFiles(tree) if name in self._folding else files

    def snapshots(self) -> dict[str, Tree]:
        """The trees of all devices."""
        return {top.name.removesuffix("-tree"): snapshot(top) for top in self.work.glob("*-tree")}

    def loaded(self, name: str) -> LoadedConfig:
        self.tree(name).mkdir(exist_ok=True)
        return load_config(
            environ={"TCFS_HOME": str(self.work / name), "HOME": str(self.work)},
            overrides={
                "sync.sync_root": self.tree(name),
                "sync.device_name": name,
                "sync.jobs": 1,
            },
        )

    def machine(self, name: str, plan: FaultPlan | None = None) -> Machine:
        return Machine(self, name, plan)

    def fleet(self, name: str) -> Fleet:
        """A device, opened; closed when the world is saved, restored or removed."""
        return self.machine(name).open()

    def opened(self, fleet: Fleet) -> Fleet:
        self._open.append(fleet)
        return fleet

    def create(self, *names: str) -> None:
        """Make the repository and let these devices join."""
        first, *others = names
        machine = self.machine(first)
        session.init_fleet(machine.loaded, name=first, host=machine.host, store=self.store)
        for name in others:
            code = self.fleet(first).invite().code
            machine = self.machine(name)
            session.enroll_fleet(
                machine.loaded, name=name, invite=code, host=machine.host, store=self.store
            )

    def close(self) -> None:
        """End every process."""
        while self._open:
            self._open.pop().close()

    def save(self) -> None:
        """Remember everything, for ``restore``."""
        self.close()
        shutil.copytree(self.work, self.top / "saved", symlinks=True)
        self._saved = dict(self.store._objects)

    def restore(self) -> None:
        """Put everything back. Files are new ones, so the bases learn their inodes and times."""
        self.close()
        shutil.rmtree(self.work)
        shutil.copytree(self.top / "saved", self.work, symlinks=True)
        self.store._objects = dict(self._saved)
        self.correct_stats()

    def correct_stats(self) -> None:
        """Let the bases know the inodes and times of files that are as they say."""
        for state in self.work.glob("*/state/state.db"):
            _correct_stats(state)

    def remove(self) -> None:
        self.close()
        shutil.rmtree(self.top)


def _correct_stats(state: Path) -> None:
    with sqlite3.connect(state) as connection:
        rows = connection.execute(
            "SELECT root, path, local, size, base.mtime_ns FROM base JOIN root ON root.id = root"
            " WHERE ctime_ns"
        ).fetchall()
        for root, path, local, size, mtime in rows:
            try:
                status = os.lstat(os.path.join(local, path) if path else local)
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) == (size, mtime):
                connection.execute(
                    "UPDATE base SET ctime_ns = ?, inode = ? WHERE root = ? AND path = ?",
                    (status.st_ctime_ns, status.st_ino, root, path),
                )
    connection.close()


class Machine:
    """One device with what a run of it is given: host and store, both under a plan or plain."""

    def __init__(
        self,
        world: World,
        name: str,
        plan: FaultPlan | None,
        wrap: Callable[[FileSystem], FileSystem] | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.loaded = world.loaded(name)
        system = system_host()
        files = world.files(name, system.files)
        files = wrap(files) if wrap else files
        self.store: BlobStore = world.store
        if plan is not None:
            files = FaultyFileSystem(files, plan)
            self.store = FaultStore(world.store, plan)
        self.host = Host(files, Clock(), system.entropy, system.executor, system.lock)

    @property
    def tree(self) -> Path:
        return self.world.tree(self.name)

    def open(self, actor: str = "test") -> Fleet:
        """The device, opened anew."""
        return self.world.opened(
            session.open_fleet(self.loaded, actor=actor, host=self.host, store=self.store)
        )


@contextmanager
def numbered(plan: FaultPlan) -> Iterator[None]:
    """Transactions and private files are operations of the plan while this lasts."""
    transaction, write = Database.transaction, private_files.write_private

    @contextmanager
    def faulty_transaction(self: Database) -> Iterator[sqlite3.Connection]:
        if self.connection.in_transaction:
            with transaction(self) as connection:
                yield connection
            return
        operation = plan.begin("transaction", os.fsencode(self.path))
        with transaction(self) as connection:
            yield connection
            plan.reach(operation, "middle")
        plan.reach(operation, "after")

    def faulty_write(path: Path, data: bytes) -> None:
        operation = plan.begin("private", os.fsencode(path))
        try:
            plan.reach(operation, "middle")
        except SimulatedCrash:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            torn = path.with_name(f".{path.name}.new")
            torn.write_bytes(data[: len(data) // 2])
            torn.chmod(0o600)
            raise
        write(path, data)
        plan.reach(operation, "after")

    users = (private_files, session, recovery, settings_desk)
    Database.transaction = faulty_transaction  # type: ignore[method-assign]
    for module in users:
        module.write_private = faulty_write  # type: ignore[attr-defined]
    try:
        yield
    finally:
        Database.transaction = transaction  # type: ignore[method-assign]
        for module in users:
            module.write_private = write  # type: ignore[attr-defined]


# Scenarios


Run = Callable[[Machine], Any]


@dataclass(frozen=True)
class Scenario:
    """A command that is to survive.

    Attributes:
        prepare: makes the world in which it runs.
        run: the command, on a machine.
        again: the command when it is run after a crash; the same if not given.
        device: who runs it.
        repeats: whether a second run has nothing to do.
        tolerant: the command where single paths may fail; ``run`` if not given.
        folding: devices that ignore case and normalise Unicode.
        finish: what everybody does afterwards, before the worlds are compared.
    """

    name: str
    prepare: Callable[[World], None]
    run: Run
    again: Run | None = None
    device: str = "a"
    repeats: bool = True
    finish: Callable[[World], None] | None = None
    tolerant: Run | None = None
    patches: dict[str, Any] = field(default_factory=dict)
    folding: frozenset[str] = frozenset()

    @property
    def lenient(self) -> Run:
        return self.tolerant or self.run


@dataclass
class Outcome:
    """What is compared between a run without a crash and one with."""

    trees: dict[str, Tree]
    heads: dict[bytes, Any]
    hashes: set[bytes]


def heads_of(fleet: Fleet) -> dict[bytes, Any]:
    """What the fleet says of every path, in terms of content alone."""
    history = fleet._context.state.history
    return {
        head.path: sorted(
            (*v.manifest.content, v.manifest.mtime_ns * (v.manifest.kind == "file"))
            for v in head.siblings
        )
        for head in history.tree(SPACE, ROOT)
        if not head.absent
    }


def known_hashes(fleet: Fleet) -> set[bytes]:
    """The content of every version ever, all of whose chunks have an address."""
    run = fleet._context.state.database.connection.execute
    found: set[bytes] = set()
    ids: set[ChunkId] = set()
    for file_hash, chunks in run("SELECT file_hash, chunks FROM version WHERE kind = 'file'"):
        ids.update(ChunkId(chunks[i : i + 32]) for i in range(0, len(chunks), 32))
        found.add(file_hash)
    for chunk in ids:
        assert fleet._context.state.index.address(SPACE, chunk) is not None, "chunk without address"
    return found


def check_chains(store: MemoryStore) -> None:
    """Every chain runs from 1 without gaps, and no seq stands twice."""
    chains: dict[str, list[int]] = {}
    for key in store._objects:
        if key.startswith("ledger/"):
            _, space, device, name = key.split("/")
            chains.setdefault(f"{space}/{device}", []).append(int(name.split("-")[0]))
    for chain, found in chains.items():
        assert sorted(found) == list(range(1, len(found) + 1)), f"{chain}: {sorted(found)}"


def check_settled(world: World, name: str, fleet: Fleet) -> None:
    """Nothing of a run that was cut off is left on this device."""
    state = fleet._context.state
    assert state.outbox.count() == 0, "the outbox is not empty"
    for root in state.roots.all():
        assert state.roots.intents(root) == [], "intents are left"
    assert state.index.pending_packs(SPACE) == [], "pending packs are left"
    assert state.findings.all() == [], state.findings.all()
    assert leftovers(world.tree(name)) == []
    report = fleet.verify(read_data=True, local=True)
    assert report.ok, report.problems
    known = {(device, seq) for device, seq, _ in state.history.segments(SPACE)}
    stored = {
        tuple(key.split("/")[2:])
        for key in world.store._objects
        if key.startswith("ledger/default/")
    }
    assert known == {(device, int(rest.split("-")[0])) for device, rest in stored}


def observe(world: World, device: str, before: set[bytes]) -> Outcome:
    """Check what must hold after any run, and gather what is to be compared."""
    check_chains(world.store)
    fleet = world.fleet(device)
    check_settled(world, device, fleet)
    heads = heads_of(fleet)
    trees = world.snapshots()
    history = known_hashes(fleet)
    here = set().union(*map(hashes, trees.values()))
    missing = before - here - history
    assert not missing, f"{len(missing)} contents are lost"
    return Outcome({device: trees[device]}, heads, here | history)


def compare(expected: Outcome, found: Outcome) -> None:
    """The trees and the fleet's heads are the same."""
    for name, tree in expected.trees.items():
        assert brief(found.trees[name]) == brief(tree)
    assert found.heads == expected.heads


def brief(tree: Tree) -> dict[bytes, Any]:
    """A tree that prints."""
    return {
        path: (*entry[:3], len(entry[3]), blake3(entry[3]).hexdigest()[:8])
        if entry[0] == "file"
        else entry
        for path, entry in sorted(tree.items())
    }


class Experiment:
    """One scenario: prepared once, run once without a crash, then once for each crash."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario.folding)
        scenario.prepare(self.world)
        self.world.save()
        self.before: set[bytes] = set().union(*map(hashes, self.world.snapshots().values()))
        self.plan = FaultPlan()
        self.world.restore()
        with numbered(self.plan):
            scenario.run(self.world.machine(scenario.device, self.plan))
        self.expected = self._finish()

    def points(self) -> list[Point]:
        """Every moment that is worth a crash."""
        return points_of(self.plan)

    def few_points(self) -> list[Point]:
        """Without the inner ones of many like operations in a row."""
        return thin(self.points(), lambda point: self._name(point[0]))

    def losses(self, loss: Loss) -> list[Point]:
        """Of ``few_points``, one for each disk that this power loss may leave.

        Where nothing was changed since the last barrier, there is nothing to lose: that is the
        crash alone, at a point of ``few_points``. And where all such changes are undone, crashes
        that differ in nothing but those changes leave one and the same disk.
        """
        found: dict[object, Point] = {}
        for point in self.few_points():
            done = self._done(point)
            barrier = max((n for n, (name, _) in enumerate(done) if name == "barrier"), default=-1)
            loose = {name for name, _ in done[barrier + 1 :]} & TREE_CHANGES
            if not (loose if loss == "names" else "write_new" in loose):
                continue
            # Of crashes that leave the same disk the last one, which has the most to undo.
            lasting = tuple(step for step in done if step[0] in LASTING)
            found[lasting if loss == "names" else point] = point
        assert found, "there is nothing to lose anywhere"
        return list(found.values())

    def _done(self, point: Point) -> list[tuple[str, Moment]]:
        """The changes that a crash at this point leaves, and how far each had come."""
        number, moment = point
        done: list[tuple[str, Moment]] = [
            (operation.name, "after")
            for operation in self.plan.operations[: number - 1]
            if operation.name in CHANGES
        ]
        return done if moment == "before" else [*done, (self._name(number), moment)]

    def _name(self, number: int) -> str:
        return self.plan.operations[number - 1].name

    def crash(self, plan: FaultPlan) -> None:
        """Put the world back, run until the plan crashes, and let the process end."""
        self.world.restore()
        machine = self.world.machine(self.scenario.device, plan)
        with numbered(plan), suppress(SimulatedCrash):
            self.scenario.run(machine)
        assert plan.crashed, "the crash did not happen: runs differ"
        self.world.close()

    def lose_power(self, plan: FaultPlan, loss: Loss) -> None:
        """As ``crash``; and what no barrier had covered is lost."""
        self.world.restore()
        grave = os.fsencode(self.world.top / "graveyard")
        shutil.rmtree(grave, ignore_errors=True)
        lossy: list[LossyFileSystem] = []

        def wrap(files: FileSystem) -> FileSystem:
            lossy.append(LossyFileSystem(files, grave))
            return lossy[0]

        machine = Machine(self.world, self.scenario.device, plan, wrap)
        with numbered(plan), suppress(SimulatedCrash):
            self.scenario.run(machine)
        assert plan.crashed, "the crash did not happen: runs differ"
        self.world.close()
        assert lossy[0].exposed(loss), "nothing is lost: runs differ"
        lossy[0].lose(loss)
        # A file system keeps the times that it had given.
        self.world.correct_stats()

    def plan_of_recovery(self) -> FaultPlan:
        """What the next run does; it is done."""
        plan = FaultPlan()
        with numbered(plan):
            self._again(self.world.machine(self.scenario.device, plan))
        return plan

    def crash_again(self, plan: FaultPlan) -> None:
        """Let the next run crash as well."""
        with numbered(plan), suppress(SimulatedCrash):
            self._again(self.world.machine(self.scenario.device, plan))
        assert plan.crashed, "the second crash did not happen: runs differ"
        self.world.close()

    @property
    def _again(self) -> Run:
        return self.scenario.again or self.scenario.run

    def fail(self, plan: FaultPlan) -> TcfsError | None:
        """Put the world back and run with a plan that makes operations fail."""
        self.world.restore()
        machine = self.world.machine(self.scenario.device, plan)
        try:
            with numbered(plan):
                self.scenario.lenient(machine)
        except TcfsError as error:
            return error
        finally:
            self.world.close()
        return None

    def recover(self) -> None:
        """Run the same command again, and check everything."""
        self._again(self.world.machine(self.scenario.device))
        compare(self.expected, self._finish())

    def _finish(self) -> Outcome:
        scenario, world = self.scenario, self.world
        world.close()
        outcome = observe(world, scenario.device, self.before)
        if scenario.repeats:
            self._check_no_op()
        if scenario.finish is not None:
            scenario.finish(world)
            world.close()
            check_chains(world.store)
            outcome.trees |= world.snapshots()
        return outcome

    def _check_no_op(self) -> None:
        before = dict(self.world.store._objects)
        trees = {p: inodes(p) for p in self.world.work.glob("*-tree")}
        self._again(self.world.machine(self.scenario.device))
        self.world.close()
        assert self.world.store._objects.keys() == before.keys(), "a second run wrote something"
        assert {p: inodes(p) for p in trees} == trees, "a second run touched files"

    def close(self) -> None:
        self.world.remove()


def points_of(plan: FaultPlan) -> list[Point]:
    """Every moment of a recorded run that is worth a crash."""
    found: list[Point] = []
    for operation in plan.operations:
        if operation.name in CHANGES:
            found.append((operation.number, "before"))
            if operation.name in ("write_new", "write_at", "private"):
                found.append((operation.number, "middle"))
    last = max(number for number, _ in found)
    return [*found, (last, "after")]


def thin(points: list[Point], kind: Callable[[Point], str]) -> list[Point]:
    """Of points of one kind that follow each other, the first two and the last."""
    kept: list[Point] = []
    for _, like in itertools.groupby(points, kind):
        together = list(like)
        for moment in dict.fromkeys(point[1] for point in together):
            row = [point for point in together if point[1] == moment]
            kept += row if len(row) <= 3 else [*row[:2], row[-1]]
    return kept


def every(experiment: Experiment, points: list[Point], try_one: Callable[[Point], None]) -> None:
    """Try each point, and tell of all that fail together."""
    failures = []
    for number, moment in points:
        operation = experiment.plan.operations[number - 1]
        try:
            try_one((number, moment))
        except Exception as error:  # noqa: BLE001 (it fails the test below)
            failures.append(f"{moment} {operation}: {type(error).__name__}: {error}")
    assert not failures, f"{len(failures)} of {len(points)} points:\n" + "\n".join(failures)


def inodes(top: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether a tree was touched."""
    return {
        str(p): (s.st_ino, s.st_mtime_ns, s.st_ctime_ns)
        for p in top.rglob("*")
        if ".tcfs" not in p.parts and not p.is_dir()
        for s in [p.lstat()]
    }
