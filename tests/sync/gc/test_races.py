"""Two devices at once: whatever one does while the other collects, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tcfs.errors import ConflictError, NotFoundError
from tcfs.host.faults import FaultPlan, Hook, Moment, Operation
from tests.sync.crashing import World, fill
from tests.sync.gc.support import noise
from tests.sync.gc.test_crash import marked, worn

STORE = frozenset(("get", "get_range", "put", "head", "list", "list_dirs", "delete"))
STEP = 9
"""Of so many places to interfere one is tried; with 1 it takes minutes."""


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.remove()


def collect_too(world: World) -> None:
    world.fleet("b").gc.run()


def use_what_is_let_go(world: World) -> None:
    """Content that is about to be marked, or is marked, comes back under other names."""
    fill(
        world.tree("b"),
        {"old": noise(1, 500 << 10), "older": noise(3), "orphan": noise(6), "copy": noise(5)},
    )
    world.fleet("b").push([])


def bring_it_back(world: World) -> None:
    """An old version is restored, unless it is gone already: then that is said."""
    fleet = world.fleet("b")
    oldest = fleet.log("long", limit=50).versions[-2]
    with suppress(NotFoundError, ConflictError):
        fleet.restore("long", oldest.id)


ACTIONS: list[Callable[[World], None]] = [collect_too, use_what_is_let_go, bring_it_back]


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [worn, marked])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_another_does_meanwhile_is_safe(
    world: World, prepare: Callable[[World], None], action: Callable[[World], None]
) -> None:
    prepare(world)
    world.save()
    plan = FaultPlan()
    world.restore()
    world.machine("a", plan).open().gc.run()
    places = [o.number for o in plan.operations if o.name in STORE][::STEP]
    assert len(places) > 1
    for number in places:
        world.restore()
        plan = FaultPlan(_interfering(number, lambda: action(world)))
        world.machine("a", plan).open().gc.run()
        assert plan.count >= number
        world.close()
        check(world, number)


def _interfering(number: int, act: Callable[[], None]) -> Hook:
    def hook(operation: Operation, moment: Moment) -> None:
        if operation.number == number and moment == "before":
            act()

    return hook


def check(world: World, number: int) -> None:
    """All agree, all can be read, and what goes on collecting comes to an end."""
    for _ in range(2):
        for name in "ab":
            world.fleet(name).pull()
            world.fleet(name).push([])
            world.fleet(name).gc.run()
            world.close()
    for name in "ab":
        report = world.fleet(name).verify(read_data=True, local=True)
        assert report.ok, (number, name, report.problems)
    fleet = world.fleet("a")
    fleet.rebuild_index()
    report = fleet.verify(read_data=True)
    assert report.ok, (number, report.problems)
    world.close()
    trees = []
    for name in "ab":
        top = world.tree(name)
        files = [p for p in top.rglob("*") if p.is_file() and ".tcfs" not in p.parts]
        trees.append({p.name: p.read_bytes() for p in files})
    assert trees[0] == trees[1], number
