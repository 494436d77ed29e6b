"""Interrupted large work goes on where it was: what has arrived does not travel again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.model.ids import StoreKey
from tcfs.store.wrappers.count import CountStore
from tests.sync.crashing import Machine, World, numbered, snapshot

MIB = 1 << 20


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.remove()


def crash_at_pack(number: int) -> FaultPlan:
    """Dies when this pack is about to be sent."""
    seen = 0

    def hook(operation: Operation, moment: Moment) -> None:
        nonlocal seen
        pack = operation.name == "put" and str(operation.target).startswith("packs/")
        if pack and moment == "before":
            seen += 1
            if seen == number:
                raise SimulatedCrash

    return FaultPlan(hook)


def run_until_crash(machine: Machine, plan: FaultPlan, *, pull: bool = False) -> None:
    with numbered(plan), suppress(SimulatedCrash):
        fleet = machine.open()
        if pull:
            fleet.pull()
        else:
            fleet.push([])
    assert plan.crashed
    machine.world.close()


def counted(world: World, name: str) -> tuple[Machine, CountStore]:
    machine = world.machine(name)
    store = CountStore(world.store)
    machine.store = store
    return machine, store


def large_file(top: Path) -> int:
    (top / "large").write_bytes(random.Random(1).randbytes(150 * MIB))
    return 150 * MIB


def many_files(top: Path) -> int:
    source = random.Random(2)
    for number in range(300):
        (top / f"{number:03}").write_bytes(source.randbytes(MIB // 2))
    return 150 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("make", [large_file, many_files])
def test_a_push_killed_near_its_end_does_not_send_its_packs_again(
    world: World, make: object
) -> None:
    world.create("a")
    assert callable(make)
    total = make(world.tree("a"))
    plan = crash_at_pack(7)
    run_until_crash(world.machine("a", plan), plan)
    up = sum(len(data) for key, (data, _) in world.store._objects.items() if key[:6] == "packs/")
    assert up > 0.85 * total

    machine, store = counted(world, "a")
    result = machine.open().push([])
    assert store.count("put").bytes < total // 4
    assert result.problems == ()
    assert machine.open().verify(read_data=True).ok
    again, store = counted(world, "a")
    assert again.open().push([]).transfer.segments == 0
    assert store.count("put").requests == 0


def test_a_pending_pack_that_is_damaged_is_sent_again(world: World) -> None:
    world.create("a")
    (world.tree("a") / "big").write_bytes(random.Random(3).randbytes(2 * MIB))

    def hook(operation: Operation, moment: Moment) -> None:
        if operation.name == "put" and str(operation.target).startswith("ledger/default/"):
            raise SimulatedCrash

    plan = FaultPlan(hook)
    run_until_crash(world.machine("a", plan), plan)
    fleet = world.fleet("a")
    (entry,) = fleet._context.state.outbox.all()
    fleet._context.state.outbox.remove(entry)
    world.close()
    (key,) = [key for key in world.store._objects if key.startswith("packs/")]
    data, etag = world.store._objects[StoreKey(key)]
    world.store._objects[StoreKey(key)] = (data[: len(data) // 2], etag)
    assert world.fleet("a").push([]).problems == ()
    assert world.fleet("a").verify(read_data=True).ok


def test_a_pull_that_was_cut_off_fetches_only_what_is_not_in_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcfs.sync.placement.BATCH_BYTES", 2 * MIB)
    world.create("a", "b")
    many = {f"{number:02}": random.Random(number).randbytes(MIB // 2) for number in range(40)}
    for name, data in many.items():
        (world.tree("a") / name).write_bytes(data)
    world.fleet("a").push([])
    renames = 0

    def hook(operation: Operation, moment: Moment) -> None:
        nonlocal renames
        tree = os.fsencode(world.tree("b")) + b"/"
        if operation.name == "rename_new" and moment == "after":
            assert isinstance(operation.target, bytes)
            renames += operation.target.startswith(tree)
            if renames == 36:
                raise SimulatedCrash

    plan = FaultPlan(hook)
    run_until_crash(world.machine("b", plan), plan, pull=True)

    machine, store = counted(world, "b")
    result = machine.open().pull()
    assert result.problems == ()
    assert store.count("get_range").bytes < 4 * MIB
    assert snapshot(world.tree("b")) == snapshot(world.tree("a"))
