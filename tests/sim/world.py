"""A world of simulated devices, and the moves that are made in it.

A run is a list of *moves*: a user does something, an engine begins an operation, goes on for some
steps, meets a fault, crashes; a clock jumps; all comes to rest. ``World.make`` does one, and does
nothing where it makes no sense, so that any part of a list is a run too: that is how a failing one
is cut down. Everything random was decided when the move was drawn (``moves``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, Final

from blake3 import blake3

from tcfs.errors import TcfsError
from tcfs.model.event import ChainHead
from tcfs.model.ids import RelPath, SegmentHash
from tcfs.model.paths import parents, show
from tcfs.sync.hinted import Hint
from tests.sim.bucket import Bucket
from tests.sim.clones import clone, part_clones
from tests.sim.decisions import CHOICES, Decisions
from tests.sim.disk import Inode, Loss, Naming
from tests.sim.fleet import NAMES, Device, install_state, new_machine, tamed, template
from tests.sim.leaks import nothing_leaks
from tests.sim.machine import Machine, Task
from tests.sim.model import Model, Violation
from tests.sim.readmission import decisions_arrive, readmit
from tests.sim.timeline import Timeline
from tests.sim.users import Tree
from tests.values import replace

ROUNDS: Final = 12
"""How often every device may have to sync until nothing changes any more."""
WHOLE: Final = 1 << 40
"""Steps enough for any operation to end."""
COUNT_LIMIT: Final = 60_000
"""Operations after which a run is called endless."""

Move = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a world is like, drawn from its seed.

    Attributes:
        names: its devices.
        admins: how many of them, from the first, are admins.
        retention: versions of a path that are kept; 0 for all.
        naming: how each compares names; by default exactly.
        tick_ns: the granularity of each file system's times.
        sizes: constants of the engine that are set lower, so that small trees meet them.
        decides: what admins decide anew while all work.
    """

    seed: int
    names: tuple[str, ...] = NAMES[:2]
    admins: int = 1
    encrypted: bool = False
    strategy: str = ""
    retention: int = 0
    naming: dict[str, Naming] = field(default_factory=dict)
    tick_ns: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    decides: tuple[str, ...] = ()


class World:
    """Devices over one bucket, and what the model knows of them."""

    def __init__(self, setting: Setting, *, traced: bool = False) -> None:
        self.setting = setting
        self.timeline = Timeline(traced=traced)
        self.model = Model()
        self.decisions = Decisions(setting, self.model)
        self.ended = False
        """Whether nothing more can be said of this world."""
        start = template(setting.names, setting.encrypted, setting.admins)
        self.bucket: Bucket = start.bucket.copy()
        self.devices: dict[str, Device] = {}
        for name in setting.names:
            machine = self.machine(name, name)
            if name == NAMES[0]:
                install_state(machine, start.admin_state)
            self.devices[name] = Device(machine, start.identities[name], start.format_hash)
        if setting.strategy:
            self.devices[NAMES[0]].operate("strategy", setting.strategy)
        if setting.retention:
            self.devices[NAMES[0]].operate("retention", setting.retention)

    def machine(self, name: str, like: str) -> Machine:
        """A machine of this world, with a file system like that of a device of the setting."""
        return new_machine(
            self.timeline,
            name,
            self.bucket,
            seed=str(self.setting.seed),
            naming=self.setting.naming.get(like, Naming()),
            tick_ns=self.setting.tick_ns.get(like, 1),
            dropped=self._dropped(name),
        )

    @property
    def admins(self) -> tuple[str, ...]:
        """Who may decide about the fleet."""
        return self.setting.names[: self.setting.admins]

    def close(self) -> None:
        """End every process."""
        for device in self.devices.values():
            self.stop(device)
            device.close()

    def _dropped(self, name: str) -> Callable[[bytes, Inode], None]:
        def dropped(path: bytes, inode: Inode) -> None:
            if inode.kind != "file" or inode.data not in self.model.saved:
                return
            device = self.devices[name]
            if all(entry.data != inode.data for entry in device.snapshot().values()):
                self.model.owe(inode.data, f"tcfs took it off {name}'s disk at {path!r}")

        return dropped

    # Moves

    def make(self, move: Move) -> None:
        """Do one move. Raises Violation."""
        kind, *values = move
        if values and type(values[0]) is str and values[0] not in self.devices:
            return
        if kind != "run":
            self.timeline.note(f"{move}")
        handler: Callable[..., None] = getattr(self, f"_{kind}")
        handler(*values)

    def _user(self, name: str, synced: bool, action: str, *values: Any) -> None:
        device = self.devices[name]
        disk = device.machine.disk
        before = device.snapshot()
        self.timeline.operation(
            name, "user", action, b" ".join(v for v in values if type(v) is bytes)
        )
        place = disk.place()
        device.user.act(action, *values)
        written = disk.written_since(place)
        after = device.snapshot()
        device.touched |= {p for p in before.keys() | after if before.get(p) != after.get(p)}
        new = self.model.user_changed(name, before, after, shared=not device.reader)
        if synced:
            disk.sync_names()
            for _, inode in disk.walk(disk.find(device.tree)):
                if inode.kind == "file" and (inode.data in new or inode in written):
                    disk.fsync(inode)
        else:
            disk.unsynced_saves |= {(inode.number, inode.data) for inode in written}
        if device.reader and before != after:
            device.alone = device.alone or "a reader that was edited"

    def _operation(self, name: str, operation: str, *values: Any) -> None:
        device = self.devices[name]
        if device.running:
            return
        if operation in ("undo", "restore", "resolve", "rebuild"):
            self.model.anything_goes()
            self.model.merging |= operation == "resolve" and values[-1] == "merge"
        if operation in ("push_part", "pull_part", "kept_push"):
            # What stood above it on this disk before, say, is not told of.
            names = values[0].split(b"/")
            self.model.unclear(b"/".join(names[: i + 1]) for i in range(len(names)))
        if operation in CHOICES:
            self.decisions.asked(name, operation, values[0])
        before = device.snapshot()
        device.touched.clear()

        def work() -> Any:
            result = device.operate(operation, *values)
            self._came_back(device, operation, result, before)
            return result

        device.machine.task = Task(operation, work)

    def _run(self, name: str, steps: int, fault: str = "", stop: str = "") -> None:
        device = self.devices[name]
        task = device.machine.task
        if task is None:
            return
        task.resume(steps, fault, stop=stop)
        if self.timeline.operations > COUNT_LIMIT:
            raise Violation("this does not come to an end")
        if task.ended:
            device.machine.task = None
            self._ended(device, task)

    def _crash(self, name: str, loss: Loss | None, salt: int) -> None:
        device = self.devices[name]
        before = device.snapshot()
        # A process that is killed takes nothing with it: the power stays on.
        saves = device.machine.disk.unsynced_saves if loss is not None else ()
        unsynced = {data for _, data in saves}
        device.machine.crash(loss, random.Random(salt))
        device.close()
        device.machine.restart()
        device.inbox.clear()
        self.model.power_failed(before, device.snapshot(), unsynced, device.aside())

    def _arm(self, name: str, operation: str, fault: str) -> None:
        """The next operation of that kind fails, whenever it comes."""
        self.devices[name].machine.armed = (operation, fault)

    def _reopen(self, name: str) -> None:
        device = self.devices[name]
        if not device.running:
            device.close()

    def _clock(self, name: str, seconds: float) -> None:
        self.devices[name].machine.clock_offset_ns += int(seconds * 1e9)

    def _space(self, name: str, bytes_left: int) -> None:
        disk = self.devices[name].machine.disk
        disk.capacity = disk.used + bytes_left

    def _hint(self, name: str, picks: Sequence[int], keep: bool, lie: str) -> None:
        """The live bus delivers events, in any order: a daemon fetches what they name.

        Args:
            picks: which of those that wait.
            keep: they come once more.
            lie: what is wrong with the last of them, if anything.
        """
        device = self.devices[name]
        if device.running or not device.inbox:
            return
        places = dict.fromkeys(pick % len(device.inbox) for pick in picks)
        hints = [device.inbox[place] for place in places]
        if not keep:
            device.inbox = [h for i, h in enumerate(device.inbox) if i not in places]
        hints[-1] = _untrue(hints[-1], lie)
        self._operation(name, "hinted", hints)

    def _drop_hint(self, name: str) -> None:
        """The live bus loses an event."""
        del self.devices[name].inbox[:1]

    def _mode(self, name: str, mode: str) -> None:
        """A device settles conflicts from now on, or leaves them to the others."""
        # Somebody must, or they stand for ever.
        self.devices[name].mode = mode if name != NAMES[0] else "auto"

    def _clone(self, name: str) -> None:
        clone(self, name)

    def _tidy(self) -> None:
        if not self.ended:
            nothing_leaks(self)

    def _banish(self, name: str, how: str, by: str = NAMES[0]) -> None:
        """An admin revokes a device, or expires one that is away. The first one stays."""
        device = self.devices[name]
        if name in (NAMES[0], by) or device.reader or self.devices[by].running:
            return
        self.model.anything_goes()
        if name in self.admins:
            self.decisions.admin_left()
        for one in self.devices.values():
            if one.reader:
                one.alone = one.alone or "a reader may hold what the revocation takes back"
        self._operation(by, how, device.identity.device_id)

    def _roll_back(self, writes: int) -> None:
        """The store is as it was some writes ago. Nobody may lose what is on a disk for that."""
        for device in self.devices.values():
            self.stop(device)
        before = [device.snapshot() for device in self.devices.values()]
        self.bucket.roll_back(writes)
        for _ in range(2):
            for name, device in self.devices.items():
                task = device.machine.task = Task("sync", partial(device.operate, "sync"))
                while not task.ended:
                    self._run(name, WHOLE)
        held = {e.data for d in self.devices.values() for e in d.snapshot().values()}
        held |= set(self._known_anywhere(before))
        for tree in before:
            for path, entry in tree.items():
                if entry.kind == "file" and entry.data not in held:
                    raise Violation(f"{path!r} is gone after the store went back: {entry.data!r}")
        self.ended = True

    def _known_anywhere(self, trees: list[Tree]) -> Iterator[bytes]:
        known = set[bytes]().union(*(d.known_contents() for d in self.devices.values()))
        for tree in trees:
            yield from (e.data for e in tree.values() if blake3(e.data).digest() in known)

    def _settle(self) -> None:
        self.settle()

    def _share(self) -> None:
        """Everybody has what there is, to begin with."""
        for device in self.devices.values():
            self.quietly(device, "sync")
        self.model.begin(self.devices[self.setting.names[0]].snapshot())

    # What comes of them

    def _ended(self, device: Device, task: Task) -> None:
        error = task.error
        if error is None:
            self.timeline.note(f"{device.name}: {task.name} ended")
            self._tell(device)
            if task.name in CHOICES:
                self.decisions.done(device.name)
            return
        self.timeline.note(f"{device.name}: {task.name} ended with {type(error).__name__}: {error}")
        if isinstance(error, Violation):
            raise error
        if not isinstance(error, TcfsError):
            raise Violation(f"{device.name}: {task.name} failed with {error!r}") from error
        task.forget()

    def _came_back(self, device: Device, operation: str, result: Any, before: Tree) -> None:
        """An operation says it is done: what it was to send is no longer this disk's alone."""
        if operation not in ("sync", "push") or device.reader:
            return
        results = result if isinstance(result, tuple) else (result,)
        failed = {problem.path for one in results for problem in one.problems}
        if show(device.tree) in failed:
            return
        after = device.snapshot()
        # What its user touched meanwhile, were it to put it away and back, may have been missed.
        for path in before.keys() - device.touched:
            entry = before[path]
            at_and_above = {show(path), *(show(above) for above in parents(RelPath(path)))}
            if entry.kind == "file" and after.get(path) == entry and not at_and_above & failed:
                self.model.owe(entry.data, f"{device.name} pushed it as {path!r}")

    def _tell(self, device: Device) -> None:
        """The live bus takes what a device tells of, and has it for all others."""
        for hint in device.news():
            for other in self.devices.values():
                if other is not device:
                    other.inbox.append(hint)
                    self.timeline.operation(other.name, "bus", "hint", device.name)

    # Rest

    def stop(self, device: Device) -> None:
        """Let what runs come to its end."""
        task = device.machine.task
        while task is not None and not task.ended:
            self._run(device.name, WHOLE)

    def settle(self) -> None:
        """No faults any more: all devices sync until nothing changes; then everything must hold."""
        if self.ended:
            return
        self.timeline.note("settle")
        self.rest()
        busy: list[str] = []
        for number in range(ROUNDS):
            busy = self._sync_together(number)
            if not busy:
                break
        else:
            raise Violation(f"{busy} still have something to do after {ROUNDS} rounds")
        self.check()

    def rest(self) -> None:
        """No faults any more, nothing runs, and every device belongs to the fleet."""
        for device in self.devices.values():
            device.machine.armed = None
            device.machine.disk.capacity = 1 << 40
            device.inbox.clear()
            self.stop(device)
        decisions_arrive(self)
        part_clones(self)
        readmit(self)

    def _sync_together(self, number: int) -> list[str]:
        """Everybody syncs at once, as daemons do. Returns who had something to do."""
        rng = random.Random(f"settle {self.setting.seed} {number}")
        before = self.bucket.segments()
        tasks = {}
        for name, device in self.devices.items():
            tasks[name] = device.machine.task = Task("sync", partial(device.operate, "sync"))
        waiting = list(tasks)
        while waiting:
            name = rng.choice(waiting)
            self._run(name, 5 + int(rng.expovariate(0.02)))
            if tasks[name].ended:
                waiting.remove(name)
        busy = [name for name, task in tasks.items() if self._was_busy(name, task)]
        # What waited in an outbox is in no plan, and new to all others.
        return busy or sorted(self.bucket.segments() - before)

    def _was_busy(self, name: str, task: Task) -> bool:
        """Whether a sync that nothing disturbed had anything to do. Raises Violation."""
        device = self.devices[name]
        if task.error is not None:
            raise Violation(f"{name}: sync in quiet failed with {task.error!r}") from task.error
        results = task.result
        problems = [problem for result in results for problem in result.problems]
        if device.alone:
            return False
        total = sum(result.plan.total for result in results)
        if problems and not total:
            raise Violation(f"{name}: {problems[:3]}")
        return bool(total)

    def alone(self, device: Device, operation: str, *values: Any) -> Task:
        """An operation from its begin to its end, with nothing beside it."""
        task = Task(operation, lambda: device.operate(operation, *values))
        device.machine.task = task
        while not task.ended:
            self._run(device.name, WHOLE)
        return task

    def quietly(self, device: Device, operation: str, *values: Any) -> Any:
        """An operation that nothing disturbs must succeed. Raises Violation."""
        task = self.alone(device, operation, *values)
        if task.error is not None:
            raise Violation(
                f"{device.name}: {operation} in quiet failed with {task.error!r}"
            ) from task.error
        return task.result

    def check(self) -> None:
        """Everything that must hold in quiet. Raises Violation."""
        trees = {name: device.snapshot() for name, device in self.devices.items()}
        equal = {name: tree for name, tree in trees.items() if not self.devices[name].alone}
        self.decisions.check(self.devices[name] for name in equal)
        # The fleet's way of writing é wins over that of who wrote it on such a disk.
        normalising = {n for n, it in self.setting.naming.items() if it.normalises_unicode}
        self.model.check_quiet(equal, folding=normalising)
        saved = self.model.saved_digests()
        for name in equal:
            device = self.devices[name]
            known = {saved[digest] for digest in device.known_contents() if digest in saved}
            if not self.decisions.lets_go:
                self.model.check_kept(trees.values(), known)
            device.clocks_only_rise()
            device.nothing_is_left_over()
        # What they verify in the store is the same: one of them does it.
        names = sorted(equal)
        device = self.devices[names[self.timeline.operations % len(names)]]
        device.verified()
        if not self.setting.naming:
            self.model.check_history(
                (version.manifest.rel_path, version.manifest.file_hash, version.op == "delete")
                for version in device.history()
            )
        self.decisions.begin_anew()


def _untrue(hint: Hint, lie: str) -> Hint:
    seq, digest = hint.head
    if lie == "hash":
        return replace(hint, head=ChainHead(seq, SegmentHash("0" * len(digest))))
    if lie == "ahead":
        return replace(hint, head=ChainHead(seq + 1, digest))
    return hint


@contextmanager
def small_sizes(sizes: dict[str, int]) -> Iterator[None]:
    """Constants of the engine, by dotted name, for as long as it lasts."""
    before = []
    try:
        for dotted, value in sizes.items():
            module_name, _, attribute = dotted.rpartition(".")
            module = import_module(module_name)
            before.append((module, attribute, getattr(module, attribute)))
            setattr(module, attribute, value)
        yield
    finally:
        for module, attribute, value in reversed(before):
            setattr(module, attribute, value)


@dataclass(slots=True)
class Outcome:
    """How a run went.

    Attributes:
        failure: what must never be, in words; empty if all held.
        moves: what was done, up to the failure.
    """

    setting: Setting
    moves: list[Move]
    operations: int
    failure: str = ""
    error: BaseException | None = None
    trace: list[str] = field(default_factory=list)


def play(
    setting: Setting, moves: Callable[[World], Iterator[Move]], *, traced: bool = False
) -> Outcome:
    """Make a world, make the moves, and tell how it went."""
    done: list[Move] = []
    failure, error = "", None
    with tamed(), small_sizes(setting.sizes):
        world = World(setting, traced=traced)
        try:
            for move in moves(world):
                done.append(move)
                world.make(move)
        except Violation as violation:
            failure, error = str(violation), violation
        finally:
            _abandon(world)
    return Outcome(setting, done, world.timeline.operations, failure, error, world.timeline.lines)


def _abandon(world: World) -> None:
    for device in world.devices.values():
        device.machine.crash(None, random.Random(0))
        device.close()
