"""Devices of a simulated fleet: the real engine on a simulated machine.

What a person types is an ``operation`` here. What is not simulated is how a device opens its files
(configuration, identity, binding): the rig hands the engine its identity.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from tcfs.config.load import LoadedConfig, load_config
from tcfs.device import format as formats
from tcfs.device.enroll import claim
from tcfs.device.format import load_format
from tcfs.device.identity import DeviceIdentity, generate
from tcfs.device.invite import parse_code
from tcfs.device.repository import create_repository
from tcfs.errors import (
    ConflictError,
    LocalFileError,
    NotFoundError,
    UsageError,
)
from tcfs.host.names import Names
from tcfs.host.spelt import SpeltFiles
from tcfs.model.clock import Ordering, VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, show
from tcfs.state.state import State
from tcfs.sync import session
from tcfs.sync.facade import Limits
from tcfs.sync.fleet import Fleet
from tcfs.sync.hinted import Hint
from tcfs.sync.settings_desk import SettingsDesk
from tests.sim.bucket import Bucket
from tests.sim.disk import EXACT, Gate, SimulatedFiles
from tests.sim.machine import Machine, put_state, state_at
from tests.sim.model import Violation
from tests.sim.timeline import Timeline
from tests.sim.users import Tree, User, snapshot

NAMES: Final = ("ann", "bob", "cy", "dee", "eve", "ro")
"""The devices there can be; the first is an admin, the last may only read."""
READER: Final = NAMES[-1]
YES: Final = Limits(confirmed=True)
SHARED: Final = "SIM_SHARED"
"""Variable of the environment: the directory that the processes of one command share. tcfs itself
warns of unknown ones that begin as its own do, so this does not."""
# Warnings are for people; here there are none.
logging.getLogger("tcfs").addHandler(logging.NullHandler())


class InlineExecutor:
    """Threads that are none: whoever submits does the work. Others may run in between."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001 - as the real one does
            future.set_exception(error)
        return future

    def map(self, function: Callable[..., Any], *items: Any) -> Iterator[Any]:
        """As the real one."""
        return map(function, *items)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing to give back."""

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@contextmanager
def tamed() -> Iterator[None]:
    """While it lasts, the engine has no threads of its own: one thing happens at a time.

    Nor does it publish its settings, whose memo is on a real disk.
    """
    real = concurrent.futures.ThreadPoolExecutor
    places: list[Any] = [concurrent.futures]
    places += [
        module
        for name, module in sys.modules.items()
        if name.startswith("tcfs.") and getattr(module, "ThreadPoolExecutor", None) is real
    ]
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(replaced(place, "ThreadPoolExecutor", InlineExecutor))
        stack.enter_context(replaced(SettingsDesk, "publish_on_the_way", lambda _self: None))
        yield


@contextmanager
def replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    """An attribute is another while it lasts."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, old)


@cache
def scratch() -> Path:
    """Where the state databases of this process are: in memory, if that can be.

    It is in a new directory that no other command has, which the first process of a command makes
    and removes when it ends; those that it starts get theirs in it.
    """
    shared = os.environ.get(SHARED)
    if shared is None:
        memory = Path("/dev/shm")
        base = memory if memory.is_dir() and os.access(memory, os.W_OK) else Path("build")
        base.mkdir(exist_ok=True)
        shared = tempfile.mkdtemp(prefix="tcfs-sim-", dir=base.absolute())
        os.environ[SHARED] = shared
        atexit.register(shutil.rmtree, shared, ignore_errors=True)
    return Path(shared) / str(os.getpid())


@cache
def loaded_config(name: str) -> LoadedConfig:
    """A device's configuration. Its tree is on no real disk."""
    home = scratch() / name
    home.mkdir(parents=True, exist_ok=True)
    return load_config(
        overrides={
            "storage.endpoint": "file:///simulated",
            "sync.sync_root": os.fsdecode(tree_of(name)),
            "sync.state_db": str(home / "state.db"),
            "sync.sync_git_dirs": True,
            "sync.git_sync_mode": "raw",
        },
        environ={"TCFS_HOME": str(home), "HOME": str(home)},
        use_file=False,
    )


def tree_of(name: str) -> bytes:
    """The device's tree on its simulated disk."""
    return b"/simulated/" + name.encode() + b"/tree"


@dataclass(frozen=True, slots=True)
class Template:
    """A fleet in which everybody has joined and nothing was pushed."""

    bucket: Bucket
    identities: dict[str, DeviceIdentity]
    format_hash: str
    admin_state: bytes


def template(names: tuple[str, ...], encrypted: bool, admins: int = 1) -> Template:
    """The fleet that a world begins with."""
    # What its format says depends on this: a world with another is not to find it.
    return _template(names, encrypted, admins, formats.DEFAULT_SINGLE_MAX)


@cache
def _template(names: tuple[str, ...], encrypted: bool, admins: int, _single_max: int) -> Template:
    bucket = Bucket()
    machine = new_machine(Timeline(), NAMES[0], bucket, seed="template")
    now = machine.now()
    identities = {name: generate(name, machine.host.entropy, now) for name in names}
    admin = identities[NAMES[0]]
    created = create_repository(
        machine.store, admin, machine.host.entropy.token(32), encryption=encrypted
    )
    device = Device(machine, admin, created.format.hash)
    fleet = device.open()
    for name in names[1:]:
        role = "reader" if name == READER else "admin" if name in names[:admins] else "writer"
        code = fleet.invite(role=role).code
        claim(machine.store, parse_code(code), identities[name], now)
    device.close()
    return Template(bucket, identities, created.format.hash, state_at(machine.state_path))


def new_machine(timeline: Timeline, name: str, bucket: Bucket, **options: Any) -> Machine:
    """A machine with an empty state."""
    home = scratch() / name
    home.mkdir(parents=True, exist_ok=True)
    for path in home.glob("state.db*"):
        path.unlink()
    options = {"naming": EXACT, "tick_ns": 1, "dropped": lambda _path, _inode: None, **options}
    machine = Machine(timeline, name, home, bucket, **options)
    make_directory(machine, os.fsencode(home))
    make_directory(machine, tree_of(name))
    machine.disk.barrier()
    return machine


def make_directory(machine: Machine, path: bytes) -> None:
    """With all that is above it."""
    names = path.split(b"/")
    for depth in range(2, len(names) + 1):
        above = b"/".join(names[:depth])
        if machine.disk.get(above) is None:
            machine.disk.create(above, "dir", 0o755)


class Device:
    """One device: its machine, its user, and its engine while that is open.

    Args:
        like: whose configuration it has: with a cloned disk another's.

    Attributes:
        alone: why its tree need not agree with the others', or nothing.
        inbox: what the live bus has for it: who wrote which segment.
        touched: what its user touched since the operation began that runs now.
        mode: what it is configured to do about conflicts.
    """

    def __init__(
        self, machine: Machine, identity: DeviceIdentity, format_hash: str, like: str = ""
    ) -> None:
        self.machine = machine
        self.name = machine.name
        self.like = like or self.name
        self.identity = identity
        self.tree = tree_of(self.like)
        self.user = User(machine.disk, self.tree, self._meant)
        self.alone = ""
        self.inbox: list[Hint] = []
        self.touched: set[bytes] = set()
        self.mode = "auto"
        self._told = 0
        self.last_segment = ""
        self._format_hash = format_hash
        self._fleet: Fleet | None = None
        self._clocks: dict[RelPath, VectorClock] = {}
        self._former: list[DeviceIdentity] = []

    @property
    def reader(self) -> bool:
        """Whether it may only read."""
        return self.name == READER

    def snapshot(self) -> Tree:
        """Its tree."""
        found = snapshot(self.machine.disk, self.tree)
        files = self._spelt()
        if files is None:
            return found
        start = len(self.tree) + 1
        return {files.true(self.tree + b"/" + path)[start:]: e for path, e in found.items()}

    def _spelt(self) -> SpeltFiles | None:
        """Its disk by true names, if that takes several names for one."""
        disk, path = self.machine.disk, self.machine.state_path
        if disk.names == EXACT:
            return None
        names = Names()
        if path.exists():
            with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.OperationalError):
                names.__setstate__(dict(connection.execute("SELECT path, name FROM spelling")))
        files = SpeltFiles(SimulatedFiles(disk, Gate()), names)
        files.cover(self.tree)
        return files

    def _meant(self, path: bytes) -> bytes:
        """Where its user finds what the fleet calls so; else the path itself."""
        files = self._spelt()
        try:
            return path if files is None else files.at(path)
        except OSError:
            return path

    def aside(self) -> list[bytes]:
        """What the files hold that its engine has under names of its own."""
        metadata = self.machine.disk.get(self.tree + b"/.tcfs")
        found = self.machine.disk.walk(metadata) if metadata is not None else ()
        return [inode.data for _, inode in found if inode.kind == "file"]

    def open(self) -> Fleet:
        """The engine; opened if it is not."""
        if self._fleet is None:
            machine, loaded = self.machine, loaded_config(self.like)
            if not machine.home.is_dir():
                raise RuntimeError(f"somebody removed {machine.home}, where this run's states are")
            fmt = load_format(machine.store, self._format_hash)
            state = State(machine.state_path, machine.connection)
            try:
                context = session._context(
                    loaded,
                    machine.host,
                    machine.store,
                    self.identity,
                    fmt,
                    f"user of {self.name}",
                    state,
                )
            except BaseException:
                state.close()
                raise
            self._fleet = Fleet(context, loaded)
        return self._fleet

    def enroll(self, code: str) -> None:
        """Join anew, as another device with the same files: identity and state are laid aside."""
        self.close()
        for path in self.machine.home.glob("state.db*"):
            path.unlink()
        machine = self.machine
        name = f"{self.name}-{len(self._former) + 2}"
        self._former.append(self.identity)
        self.identity = generate(name, machine.host.entropy, machine.now())
        claim(machine.store, parse_code(code), self.identity, machine.now())
        self._clocks.clear()
        self._told = 0
        self.last_segment = ""

    def clone(self, machine: Machine) -> Device:
        """The same disk with the same identity in another machine, which is new."""
        self.close()
        machine.disk.copy_of(self.machine.disk)
        make_directory(machine, os.fsencode(machine.home))
        machine.disk.barrier()
        if self.machine.state_path.exists():
            put_state(machine.state_path, state_at(self.machine.state_path))
        return Device(machine, self.identity, self._format_hash, self.like)

    def close(self) -> None:
        """End the process, as it were."""
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet._context.state.close()

    @property
    def running(self) -> bool:
        """Whether an operation of its engine is under way."""
        return self.machine.task is not None

    # What a person or a daemon asks of the engine

    def operate(self, name: str, *values: Any) -> Any:
        """Do an operation by its name."""
        operation: Callable[..., Any] = getattr(self, f"_do_{name}")
        return operation(*values)

    def _do_sync(self) -> Any:
        pulled = self._do_pull(self.mode)
        if self.reader:
            return (pulled,)
        return pulled, self._do_push()

    def _do_push(self) -> Any:
        result = self.open().push([], limits=YES)
        self.last_segment = result.segment or self.last_segment
        return result

    def _do_pull(self, mode: str) -> Any:
        return self.open().pull(limits=YES, mode=mode)

    def _do_push_part(self, path: bytes) -> None:
        try:
            self.open().push([self.tree + b"/" + path], limits=YES)
        except (LocalFileError, UsageError):
            return

    def _do_pull_part(self, path: bytes) -> None:
        try:
            self.open().pull(show(path), limits=YES, mode="auto")
        except NotFoundError:
            return

    def _do_hinted(self, hints: Sequence[Hint]) -> Any:
        """What a daemon does when events arrive: it fetches what they name, and nothing else."""
        keeper = self.open().keeper
        keeper.receive_hinted(hints)
        return keeper.pull(keeper.roots()[0], self.mode)

    def _do_kept_push(self, path: bytes, received: bool) -> Any:
        """What a daemon does when its watcher saw something."""
        keeper = self.open().keeper
        return keeper.push(keeper.roots()[0], [RelPath(path)], received=received)

    def _do_plan(self) -> None:
        fleet = self.open()
        fleet.pull(limits=YES, dry_run=True)

    def _do_resolve(self, path: bytes, resolution: Any) -> None:
        try:
            self.open().resolve(show(path), resolution)
        except (NotFoundError, ConflictError, UsageError):
            return

    def _do_undo(self) -> None:
        if self.last_segment:
            try:
                self.open().undo(segment=self.last_segment)
            except (NotFoundError, ConflictError):
                return

    def _do_restore(self, path: bytes, pick: int) -> None:
        versions = [
            v for v in self.open().log(show(path), limit=50).versions if v.path == show(path)
        ]
        if versions:
            try:
                self.open().restore(show(path), versions[pick % len(versions)].id)
            except ConflictError:
                return

    def _do_rebuild(self) -> None:
        self.open().rebuild_index()

    def _do_verify(self) -> None:
        self.open().verify(read_data=True)

    def _do_strategy(self, strategy: str) -> None:
        self.open().set_strategy(strategy)

    def _do_gc(self) -> Any:
        return self.open().gc.run()

    def _do_snapshot(self) -> None:
        self.open().gc.snapshot()

    def _do_compact(self) -> None:
        self.open().gc.snapshot(compact=True)

    def _do_hold(self, tag: str) -> None:
        try:
            self.open().gc.hold(tag)
        except UsageError:
            return

    def _do_release(self, tag: str) -> None:
        try:
            self.open().gc.release(tag)
        except NotFoundError:
            return

    def _do_retention(self, versions: int) -> None:
        self.open().gc.set_retention(keep_versions=versions or None)

    def _do_revoke(self, device_id: str) -> None:
        self.open().revoke(device_id)

    def _do_expire(self, device_id: str) -> None:
        self.open().gc.expire(device_id)

    def _do_devices(self) -> Any:
        return self.open().devices()

    def _do_invite(self, role: str) -> Any:
        # For a year: what a clock says here may be far from what it says there.
        return self.open().invite(role=role, expires_s=36500 * 86400).code

    # What must hold on each device by itself

    def history(self) -> list[Version]:
        """Every version that this device knows."""
        context = self.open()._context
        found = context.state.history.log(context.namespace, ROOT, before=None, limit=100_000)
        return [version for _, version in found]

    def known_contents(self) -> set[bytes]:
        """The hash of every content in the history that this device knows."""
        return {version.manifest.file_hash for version in self.history()}

    def news(self) -> list[Hint]:
        """The segments of this device that it has not told the bus of."""
        if self._fleet is None:
            return []
        context = self._fleet._context
        found = self._fleet.keeper.own_segments(context.namespace, self._told, 100)
        if found:
            self._told = found[-1].head.seq
        return [Hint(one.namespace, context.identity.device_id, one.head) for one in found]

    def clocks_only_rise(self) -> None:
        """Raises Violation."""
        context = self.open()._context
        for head in context.state.history.tree(context.namespace, ROOT):
            known = self._clocks.get(head.path)
            if known is not None and known.compare(head.clock) not in (
                Ordering.EQUAL,
                Ordering.BEFORE,
            ):
                raise Violation(f"{self.name}: the clock of {head.path!r} went back")
            self._clocks[head.path] = head.clock

    def nothing_is_left_over(self) -> None:
        """No temporary files, in the tree or beside the state. Raises Violation."""
        disk = self.machine.disk
        metadata = disk.get(self.tree + b"/.tcfs")
        if metadata is not None:
            left = [path for path, _ in disk.walk(metadata) if path != b"root"]
            if left:
                raise Violation(f"{self.name}: left in .tcfs: {left}")
        home = disk.find(os.fsencode(self.machine.home))
        if home.entries:
            raise Violation(f"{self.name}: left beside the state: {list(home.entries)}")

    def verified(self) -> None:
        """The store is whole, and this tree is what the state says. Raises Violation."""
        report = self.open().verify(read_data=True, local=True)
        if report.problems:
            raise Violation(f"{self.name}: verify finds {report.problems[:3]}")


def install_state(machine: Machine, data: bytes) -> None:
    """Give a machine a state database."""
    put_state(machine.state_path, data)
