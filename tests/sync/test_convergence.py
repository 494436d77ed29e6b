"""Any order of edits, pushes and pulls ends in one tree, and nothing that was ever written is lost.

Each example drives real engines over one real store, and a naive model looks on. ``TCFS_DEEP=1``
runs far more and far longer examples, for a person who has time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tcfs.model.access import DEFAULT_STRATEGY, STRATEGIES
from tcfs.sync.results import Resolution
from tests.sync.naive import NAMES, Device, NaiveFleet

DEEP = bool(os.environ.get("TCFS_DEEP"))
BOUNDED = settings(
    max_examples=int(os.environ.get("TCFS_EXAMPLES", "2000")) if DEEP else 15,
    stateful_step_count=40 if DEEP else 25,
    deadline=None,
    derandomize=False,
    print_blob=True,
    # An example is a few dozen syncs; what can be explained is in the steps that are printed.
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],
)

# Few, so that they collide, and prefixes of each other, so that files become directories and back.
PATHS = (b"a", b"b", b"c.txt", b"p", b"p/x", b"p/y", b"p/x/z", b"q/\xff")
TARGETS = (b"a", b"p", b"p/x", b"../..", b"nowhere")
RESOLUTIONS: tuple[Resolution, ...] = ("keep_local", "keep_remote", "keep_both", "merge", "defer")

devices = st.integers(0, 2)
paths = st.sampled_from(PATHS)


class Convergence(RuleBasedStateMachine):
    """Two devices. Rules that cannot apply do nothing."""

    names: tuple[str, ...] = NAMES[:2]

    def __init__(self) -> None:
        super().__init__()
        self.world = NaiveFleet(self.names)
        self.count = 0
        self.rebuilt = False

    def device(self, index: int) -> Device:
        return self.world.devices[index % len(self.world.devices)]

    def content(self, shared: bool, size: int) -> bytes:
        """Bytes that others write too, or that nobody else does."""
        self.count += 1
        return b"same\n" * size if shared else b"line\n" * size + b"%d\n" % self.count

    @initialize(shared=st.booleans(), strategy=st.sampled_from(sorted(STRATEGIES)))
    def begin(self, shared: bool, strategy: str) -> None:
        """Half of the examples begin with a tree that all devices have."""
        if strategy != DEFAULT_STRATEGY:
            self.world.devices[0].fleet.set_strategy(strategy)
            self.world.merging = strategy == "merge"
        if shared:
            first = self.world.devices[0]
            first.write(b"a", b"one\ntwo\nthree\n")
            first.write(b"p/x", b"below\n")
            self.world.settle()

    # Users

    @rule(index=devices, path=paths, shared=st.booleans(), size=st.integers(0, 3))
    def write(self, index: int, path: bytes, shared: bool, size: int) -> None:
        self.device(index).write(path, self.content(shared, size))

    @rule(index=devices, path=paths)
    def append(self, index: int, path: bytes) -> None:
        self.device(index).append(path, self.content(False, 0))

    @rule(index=devices, path=paths)
    def truncate(self, index: int, path: bytes) -> None:
        self.device(index).truncate(path)

    @rule(index=devices, path=paths)
    def delete(self, index: int, path: bytes) -> None:
        self.device(index).delete(path)

    @rule(index=devices, source=paths, goal=paths)
    def move(self, index: int, source: bytes, goal: bytes) -> None:
        self.device(index).move(source, goal)

    @rule(index=devices, path=paths, private=st.booleans())
    def chmod(self, index: int, path: bytes, private: bool) -> None:
        self.device(index).chmod(path, private)

    @rule(index=devices, path=paths)
    def touch(self, index: int, path: bytes) -> None:
        self.device(index).touch(path)

    @rule(index=devices, path=paths, to=st.sampled_from(TARGETS))
    def link(self, index: int, path: bytes, to: bytes) -> None:
        self.device(index).link(path, to)

    @rule(index=devices, source=paths, goal=paths)
    def move_and_link(self, index: int, source: bytes, goal: bytes) -> None:
        """What people do when a disk is full."""
        device = self.device(index)
        if device.move(source, goal):
            device.link(source, b"../" * source.count(b"/") + goal)

    @rule(index=devices, path=st.sampled_from((b"p", b"p/x", b"q", b"e")))
    def mkdir(self, index: int, path: bytes) -> None:
        self.device(index).mkdir(path)

    # tcfs

    @rule(index=devices)
    def push(self, index: int) -> None:
        if not self.device(index).reader:
            self.device(index).push()

    @rule(index=devices, mode=st.sampled_from(("auto", "defer")))
    def pull(self, index: int, mode: str) -> None:
        self.device(index).pull(mode)

    @rule(index=devices)
    def sync(self, index: int) -> None:
        self.device(index).sync()

    @rule(index=devices, path=paths)
    def push_part(self, index: int, path: bytes) -> None:
        if not self.device(index).reader:
            self.device(index).push_part(path)

    @rule(index=devices, path=paths, mode=st.sampled_from(("auto", "defer")))
    def pull_part(self, index: int, path: bytes, mode: str) -> None:
        self.device(index).pull_part(path, mode)

    @rule(index=devices, push=st.booleans())
    def plan_and_apply(self, index: int, push: bool) -> None:
        self.device(index).plan_and_apply(push and not self.device(index).reader)

    @rule(index=devices, path=paths, resolution=st.sampled_from(RESOLUTIONS))
    def resolve(self, index: int, path: bytes, resolution: Resolution) -> None:
        if not self.device(index).reader:
            self.device(index).resolve(path, resolution)

    @rule(index=devices)
    def undo(self, index: int) -> None:
        if not self.device(index).reader:
            self.device(index).undo_last()

    @rule(index=devices, path=paths, pick=st.integers(0, 5))
    def restore(self, index: int, path: bytes, pick: int) -> None:
        if not self.device(index).reader:
            self.device(index).restore(path, pick)

    @rule(index=devices)
    def reopen(self, index: int) -> None:
        self.device(index).reopen()

    @precondition(lambda self: not self.rebuilt)
    @rule(index=devices)
    def rebuild_index(self, index: int) -> None:
        self.rebuilt = True
        self.device(index).rebuild()

    # The end

    @rule(index=devices, path=paths)
    def settle_and_delete(self, index: int, path: bytes) -> None:
        self.world.settle()
        self.world.trees_are_equal()
        self.world.deletions_last(path, index)

    def teardown(self) -> None:
        try:
            self.world.settle()
            self.world.check()
        finally:
            self.world.close()


class ThreeDevices(Convergence):
    names = NAMES[:3]


class TwoDevicesAndAReader(Convergence):
    names = (*NAMES[:2], NAMES[-1])


@pytest.mark.parametrize("machine", [Convergence, ThreeDevices, TwoDevicesAndAReader])
@pytest.mark.timeout(0 if DEEP else 120)
def test_devices_converge_and_lose_nothing(machine: type[Convergence]) -> None:
    run_state_machine_as_test(machine, settings=BOUNDED)
