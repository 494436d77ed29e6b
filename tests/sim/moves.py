"""Drawing a world and its moves from a seed.

Every world is a little different (swarm testing): which devices, which faults, which habits its
users have, how patient the scheduler is. Paths are few and skewed, so that users meet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tcfs.model.spelling import own_name
from tests.sim.clones import TWIN
from tests.sim.decisions import CHOICES
from tests.sim.disk import LOSSES, Naming
from tests.sim.fleet import NAMES, READER, Device
from tests.sim.machine import FAULTS
from tests.sim.scenes import RARE, SCENES
from tests.sim.world import WHOLE, Move, Setting, World

# Few, and prefixes of each other, so that files become directories and back.
PATHS: Final = (
    b"a", b"b", b"c.txt", b"p", b"p/x", b"p/y", b"p/x/z", b"q/r/s", b"q/r", b"d/e/f.txt", b"q/\xff"
)  # fmt: skip
# One by one with these or each other, on disks that ignore case or normalise.
FOLDED: Final = (
    *(b"a", b"A", b"p/x", b"p/X", b"P/x", b"P/y", b"P", own_name(b"a")),
    *(b"caf\xc3\xa9", b"cafe\xcc\x81", b"CAF\xc3\x89/x", b"cafe\xcc\x81/x"),
)
FOLDINGS: Final = (Naming(ignores_case=True), Naming(True, True), Naming(False, True))
TARGETS: Final = (b"a", b"p", b"p/x", b"../..", b"nowhere")
RESOLUTIONS: Final = ("keep_local", "keep_remote", "keep_both", "merge", "defer")
STRATEGIES: Final = ("", "", "", "first-write", "last-write", "merge")

SIZES: Final = {
    "tcfs.sync.upload.MAX_INLINE_PACK": (40, 2000),
    "tcfs.sync.commit.PART_BYTES": (900, 3000),
    "tcfs.sync.placement.BATCH_FILES": (1, 2, 3),
    "tcfs.content.packer.TARGET": (300, 3000),
    "tcfs.content.packer.SOFT_LIMIT": (600, 6000),
}
# Drawn apart, so that the other draws of a seed stay as they were.
SLICES: Final = {
    "tcfs.sync.deciding.SLICE": (1, 2, 3),
    "tcfs.state.columns.FEW_ROWS": (0,),
}
# Files of a few lines have many chunks, and segments tell only those that changed.
LISTS: Final = {
    "tcfs.device.format.DEFAULT_SINGLE_MAX": 10,
    "tcfs.content.chunker.MIN_CLASS": 4,
    "tcfs.content.chunker.MAX_CDC_CLASS": 0,
    "tcfs.sync.abridging.WORTH": 1,
}
HEAD: Final = b"as in every file\n" * 8
RARE_SHARE: Final = 0.2
"""How many of the worlds have rare scenes."""
DECIDING: Final = 0.15
"""In how many admins decide anew while all work."""
UPKEEP: Final = frozenset(("snapshot", "compact", "hold", "release"))
"""Operations that are an admin's."""


def draw_setting(seed: int) -> Setting:
    """The world of a seed."""
    rng = random.Random(f"setting {seed}")
    count = rng.choice((2, 2, 2, 2, 2, 3, 3, 4, 5))
    names = NAMES[:count]
    if rng.random() < 0.15:
        names = (*names, READER)
    naming: dict[str, Naming] = {}
    ticks = {name: rng.choice((1, 1, 10_000_000)) for name in names}
    sizes = {name: rng.choice(values) for name, values in SIZES.items() if rng.random() < 0.3}
    apart = random.Random(f"slices {seed}")
    sizes |= {name: apart.choice(values) for name, values in SLICES.items() if apart.random() < 0.3}
    parts = random.Random(f"parts {seed}")
    if parts.random() < 0.2:
        # Histories are taken up in parts.
        sizes["tcfs.sync.receive.PART_BYTES"] = parts.choice((1, 3000))
    if rng.random() < 0.15:
        naming[names[-1]] = rng.choice(FOLDINGS)
        more = random.Random(f"folding {seed}")
        if more.random() < 0.4:
            naming[more.choice(names[:-1])] = more.choice(FOLDINGS)
    if random.Random(f"large files {seed}").random() < 0.3:
        sizes["tcfs.sync.staging.LARGE"] = 1 + seed % 50
    if random.Random(f"lists {seed}").random() < 0.3:
        sizes |= LISTS
    retention = rng.choice((1, 2, 2, 2, 3)) if rng.random() < 0.2 else 0
    admins = 2 if rng.random() < 0.2 else 1
    if rng.random() < (0.9 if retention else 0.1):
        # Packs of their own, which can be collected.
        sizes["tcfs.sync.upload.MAX_INLINE_PACK"] = 40
    decides = _draw_decides(seed)
    if "retention" in decides:
        sizes["tcfs.sync.upload.MAX_INLINE_PACK"] = 40
    return Setting(
        seed,
        names,
        admins=admins,
        encrypted=rng.random() < 0.25,
        strategy=rng.choice(STRATEGIES),
        tick_ns=ticks,
        naming=naming,
        retention=retention,
        sizes=sizes,
        decides=decides,
    )


def _draw_decides(seed: int) -> tuple[str, ...]:
    """What admins decide anew in the world of a seed. Drawn apart, as above."""
    rng = random.Random(f"decisions {seed}")
    if rng.random() >= DECIDING:
        return ()
    return rng.choice((("strategy",), ("retention",), ("strategy", "retention")))


class Drawer:
    """Draws the moves of a seed, looking at the world as it goes."""

    def __init__(self, world: World, *, least: int = 600) -> None:
        self._world = world
        self.rng = rng = random.Random(f"moves {world.setting.seed}")
        self._least = least
        self._away = ""
        self._count = 0
        # What a folding disk cannot hold at all would be a problem for ever.
        self._paths = [p for p in PATHS if p.isascii() or not world.setting.naming]
        rng.shuffle(self._paths)
        self._paths = self._paths[: rng.randint(3, len(self._paths))]
        if world.setting.naming:
            self._paths += rng.sample(FOLDED, rng.randint(2, len(FOLDED)))
        self._skew = rng.choice((0.5, 1.0, 2.0))
        self._phases = rng.choice((1, 1, 1, 2))
        self._step = rng.choice((1, 3, 10, 40))
        self._stops = [stop for stop in ("tree", "read", "safe", "") if rng.random() < 0.5] or [
            "tree"
        ]
        self._aimed = rng.choice((0.0, 0.3, 0.6))
        self._synced = rng.choice((1.0, 0.9, 0.5))
        self._faults = rng.choice((0.0, 0.05, 0.15, 0.3))
        self._crashes = rng.choice((0.0, 0.02, 0.05, 0.15))
        self._world_events = rng.choice((0.0, 0.02))
        self._user_share = rng.choice((0.2, 0.4, 0.6))
        self._big = rng.random() < 0.2
        self._kinds = sorted(rng.sample(sorted(FAULTS), rng.randint(1, len(FAULTS))))
        self._habits = [
            (weight, name)
            for weight, name in (
                (8, "write"), (3, "replace"), (2, "append"), (1, "truncate"), (4, "delete"),
                (3, "move"), (1, "cycle"), (2, "copy"), (1, "mkdir"), (1, "link"), (2, "chmod"),
                (1, "touch"), (1, "git"),
            )
            if rng.random() < 0.75 or name == "write"
        ]  # fmt: skip
        self._operations = [
            (weight, name)
            for weight, name in (
                (10, "sync"), (6, "push"), (6, "pull"), (1, "push_part"), (1, "pull_part"),
                (1, "plan"), (1, "resolve"), (0.3, "undo"), (0.3, "restore"), (0.15, "rebuild"),
                (0.3, "verify"), (rng.choice((0.5, 5)), "gc"), (3, "kept_push"),
                (rng.choice((0.1, 2)), "snapshot"), (rng.choice((0.1, 3)), "compact"),
                (0.2, "hold"), (0.2, "release"),
            )
            if rng.random() < 0.75 or name == "sync"
        ]  # fmt: skip
        self._scenes = self._choose_scenes()
        self._scene_share = rng.choice((0.02, 0.05, 0.15))
        if world.setting.retention:
            self._scene_share = 0.15
        # Drawn apart, so that worlds without them stay as they were.
        self._apart = random.Random(f"rare scenes {world.setting.seed}")
        self._rare = self._choose_rare()
        if world.setting.decides:
            self._phases = self._apart.choice((1, 2))
            self._operations += [(0.7, "mode"), *((0.7, what) for what in world.setting.decides)]

    def _choose_scenes(self) -> list[tuple[float, str]]:
        setting = self._world.setting
        weights = {
            "collected": 8 if setting.retention else 0,
            "damaged": 0.5 if setting.encrypted else 2,
            "both": 2,
            "power": 2,
            "midway": 3,
            "cloned": 0.3,
            "away": 0.7,
            "decide": 2 if setting.admins > 1 else 0,
        }
        writers = [name for name in setting.names if name != READER]
        names = [name for name in SCENES if name not in RARE]
        return [(weights.get(name, 1), name) for name in names if len(writers) > 1]

    def _choose_rare(self) -> list[tuple[float, str]]:
        """Those of this world, if it has any."""
        deciding = self._world.setting.decides
        if self._apart.random() >= RARE_SHARE and not deciding:
            return []
        others = len(self._world.setting.names) - 1
        return [
            (0 if others < 2 else 2, "branches"),
            (1, "unheard"),
            (3 if deciding else 0, "decided"),
        ]

    def __iter__(self) -> Iterator[Move]:
        world, rng = self._world, self.rng
        if rng.random() < 0.7:
            first = world.setting.names[0]
            for path in self._paths[:4]:
                yield ("user", first, True, "write", path, self.content())
            yield ("settle",)
        for _phase in range(self._phases):
            goal = world.timeline.operations + self._least // self._phases
            others = world.setting.names[1:]
            self._away = rng.choice(others) if rng.random() < 0.15 else ""
            banished = rng.random() < 0.08
            while world.timeline.operations < goal:
                if banished and rng.random() < 0.02:
                    banished = False
                    how = rng.choice(("revoke", "expire"))
                    yield ("banish", rng.choice(others), how, self.admin())
                if rng.random() < self._scene_share:
                    yield from self._play(_weighted(rng, self._scenes))
                if self._rare and self._apart.random() < 0.03:
                    yield from self._play(_weighted(self._apart, self._rare))
                yield self._next()
            if rng.random() < 0.03:
                yield ("roll_back", rng.choice((1, 3, 10, 30)))
                return
            yield ("settle",)
        if rng.random() < (0.6 if world.setting.retention else 0.2):
            yield ("tidy",)

    def _play(self, name: str) -> Iterator[Move]:
        """A scene, with other things in between."""
        for move in SCENES[name](self):
            yield move
            if self.rng.random() < 0.1:
                yield self._next()

    # What scenes ask

    def one(self, *but: str) -> str:
        """A device that may write."""
        return self.rng.choice([n for n in self._world.setting.names if n not in (READER, *but)])

    def admins(self) -> tuple[str, ...]:
        """Who may decide about the fleet."""
        return self._world.admins

    def admin(self) -> str:
        """One of them."""
        return self.rng.choice(self.admins())

    def decides(self) -> tuple[str, ...]:
        """What admins decide anew."""
        return self._world.setting.decides

    def others(self, *but: str) -> list[str]:
        """All other machines."""
        return [name for name in self._world.devices if name not in but]

    def two(self) -> tuple[str, str]:
        """Two of them."""
        first = self.one()
        return first, self.one(first)

    def twin(self, name: str) -> str | None:
        """The clone of a device, if there is one."""
        twin = name + TWIN
        return twin if twin in self._world.devices else None

    def busy(self, name: str) -> bool:
        """Whether an operation of a device is under way."""
        return self._world.devices[name].running

    def last_events(self, name: str, count: int) -> tuple[int, ...]:
        """The last that the live bus has for a device."""
        waiting = len(self._world.devices[name].inbox)
        return tuple(range(max(0, waiting - count), waiting))

    def pending(self, name: str) -> str:
        """What the operation of a device waits to do."""
        task = self._world.devices[name].machine.task
        return task.pending[1] if task is not None else ""

    def key(self, name: str) -> str:
        """To which object of the store; empty if to none."""
        task = self._world.devices[name].machine.task
        if task is None or task.pending[0] != "store":
            return ""
        return str(task.pending[2])

    def target(self, name: str) -> bytes:
        """To which path of its tree; empty if to none."""
        device = self._world.devices[name]
        task = device.machine.task
        target = task.pending[2] if task is not None else b""
        prefix = device.tree + b"/"
        if isinstance(target, str) or not target.startswith(prefix) or b"/.tcfs" in target:
            return b""
        return target[len(prefix) :]

    # Drawing

    def _next(self) -> Move:
        rng, world = self.rng, self._world
        name = rng.choice(list(world.devices))
        device = world.devices[name]
        if name == self._away and not device.running:
            return self._user(name)
        roll = rng.random()
        if roll < self._world_events:
            return self._event(name)
        if device.running:
            if rng.random() < self._crashes:
                return self._crash(name)
            aim = self._aim(device)
            if aim is not None:
                return self._user(name, aim)
            if rng.random() < self._user_share * 0.2:
                return self._user(name)
            return self._run(name, device)
        if rng.random() < self._user_share:
            return self._user(name)
        if device.inbox and rng.random() < 0.5:
            return self._hint(name)
        if rng.random() < 0.1:
            return ("reopen", name)
        return self._operation(name)

    def _run(self, name: str, device: Device) -> Move:
        rng = self.rng
        if rng.random() < 0.05:
            return ("run", name, WHOLE)
        if rng.random() < self._faults:
            if rng.random() < 0.5:
                kind = rng.choice(self._kinds)
                return ("arm", name, kind, rng.choice(FAULTS[kind]))
            task = device.machine.task
            assert task is not None
            faults = FAULTS.get(task.pending[1], ())
            if faults:
                return ("run", name, 1, rng.choice(faults))
        stop = rng.choice(self._stops)
        if stop:
            return ("run", name, WHOLE, "", stop)
        return ("run", name, 1 + int(rng.expovariate(1 / self._step)))

    def _hint(self, name: str) -> Move:
        rng = self.rng
        if rng.random() < 0.2:
            return ("drop_hint", name)
        picks = tuple(rng.randrange(20) for _ in range(rng.choice((1, 1, 2, 5))))
        lie = rng.choice(("hash", "ahead")) if rng.random() < 0.1 else ""
        return ("hint", name, picks, rng.random() < 0.2, lie)

    def _crash(self, name: str) -> Move:
        rng = self.rng
        loss = rng.choice((None, *LOSSES))
        return ("crash", name, loss, rng.randrange(1 << 30))

    def _event(self, name: str) -> Move:
        rng = self.rng
        roll = rng.random()
        if roll < 0.4:
            jump = rng.choice((-86400 * 400.0, -3600.0, -1.0, 0.5, 3600.0, 86400 * 400.0))
            return ("clock", name, jump)
        if roll < 0.7:
            return ("space", name, rng.choice((0, 10, 1 << 40)))
        return self._crash(name)

    def _operation(self, name: str) -> Move:
        rng = self.rng
        operation = _weighted(rng, self._operations)
        values: tuple[Any, ...] = ()
        if operation == "pull":
            values = (rng.choice(("auto", "auto", "defer")),)
        elif operation in ("push_part", "pull_part"):
            values = (self.path(),)
        elif operation == "kept_push":
            values = (self.path(), rng.random() < 0.5)
        elif operation == "mode":
            return ("mode", name, rng.choice(("auto", "defer")))
        elif operation in CHOICES:
            name, values = self.admin(), (rng.choice(CHOICES[operation]),)
        elif operation in UPKEEP:
            name = self.admin()
            values = (rng.choice(("one", "two")),) if operation in ("hold", "release") else ()
        elif operation == "resolve":
            values = (self.path(), rng.choice(RESOLUTIONS))
        elif operation == "restore":
            values = (self.path(), rng.randrange(5))
        return ("operation", name, operation, *values)

    def _aim(self, device: Device) -> bytes | None:
        """The path that an engine is about to do something to, for its user to be in its way."""
        if not self.pending(device.name) or self.rng.random() >= self._aimed:
            return None
        target = self.target(device.name)
        # Nobody types a name of its own that an engine only looks for.
        return None if b".case-" in target else target or None

    def _user(self, name: str, aim: bytes | None = None) -> Move:
        rng = self.rng
        action = _weighted(rng, self._habits)
        if aim is not None and action == "git":
            action = "write"
        values: tuple[Any, ...] = (self.path() if aim is None else aim,)
        if action in ("write", "replace", "append"):
            values += (self.content(),)
        elif action in ("move", "copy"):
            values += (self.path(),)
        elif action == "cycle":
            values = tuple(dict.fromkeys(self.path() for _ in range(rng.choice((2, 3)))))
        elif action == "link":
            values += (rng.choice(TARGETS),)
        elif action == "chmod":
            values += (rng.choice((0o600, 0o644, 0o444, 0o755)), rng.choice((0o700, 0o755)))
        elif action == "git":
            self._count += 1
            values = (b"repo", b"%d" % self._count)
        return ("user", name, rng.random() < self._synced, action, *values)

    def path(self) -> bytes:
        """A path, the first ones far more often."""
        paths = self._paths
        return paths[int(len(paths) * self.rng.random() ** (1 + self._skew))]

    def content(self) -> bytes:
        """What a user may save."""
        rng = self.rng
        if rng.random() < 0.15:
            return b"same %d\n" % rng.randrange(3)
        self._count += 1
        if self._big and rng.random() < 0.2:
            return rng.randbytes(rng.choice((3000, 20_000))) + b"%d" % self._count
        # Often of one length, so that times alone tell two of them apart.
        number = b"%05d of %d\n" % (self._count, self._world.setting.seed)
        # Where lists of chunks are told by what changed, files have a beginning in common.
        head = HEAD if LISTS.keys() <= self._world.setting.sizes.keys() else b""
        return head + b"line\n" * rng.choice((0, 0, 0, 1, 2)) + number


def _weighted(rng: random.Random, choices: Sequence[tuple[float, str]]) -> str:
    return rng.choices([name for _, name in choices], [weight for weight, _ in choices])[0]
