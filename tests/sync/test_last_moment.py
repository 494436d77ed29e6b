"""An edit in the last moment before a file is replaced survives whatever comes then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.model.ids import RelPath
from tcfs.sync.workbench import name_of_displaced
from tests.sync.crashing import CHANGES, Experiment, known_hashes, numbered
from tests.sync.scenarios import SCENARIOS

EDIT = b"typed by the user in the very last moment"
HASH = blake3(EDIT).digest()
KNOWN = b"deep down"
"""What another file holds, too, and goes on to hold."""


@pytest.fixture(scope="module")
def experiment() -> Iterator[Experiment]:
    made = Experiment(SCENARIOS["pull"])
    yield made
    made.close()


def edit(path: Path) -> None:
    path.write_bytes(EDIT)


def replace(path: Path) -> None:
    """As editors save: a new file takes the name."""
    write_new(path, EDIT)


def copy_another(path: Path) -> None:
    write_new(path, KNOWN)


def write_new(path: Path, content: bytes) -> None:
    new = path.with_name("new-by-editor")
    new.write_bytes(content)
    new.rename(path)


def edited_then(
    tree: Path, name: str, change: Callable[[Path], None], further: int
) -> tuple[FaultPlan, list[Operation]]:
    """Changes a file just before it is swapped; dies so many changes later."""
    passed: list[Operation] = []
    path = os.fsencode(tree / name)
    started = False

    def hook(operation: Operation, moment: Moment) -> None:
        nonlocal started
        if operation.name not in CHANGES or moment != "before":
            return
        if started:
            passed.append(operation)
            if len(passed) == further:
                raise SimulatedCrash
        if operation.name == "exchange" and operation.target == path and not started:
            started = True
            change(tree / name)

    return FaultPlan(hook), passed


@pytest.mark.parametrize("change", [edit, replace])
@pytest.mark.parametrize("name", ["a.txt", "big"])
def test_an_edit_while_a_file_is_replaced_survives_a_crash_at_any_later_change(
    experiment: Experiment, name: str, change: Callable[[Path], None]
) -> None:
    world = experiment.world
    tree = world.tree("b")
    further = 0
    while True:
        further += 1
        world.restore()
        plan, passed = edited_then(tree, name, change, further)
        with numbered(plan), suppress(SimulatedCrash):
            world.machine("b", plan).open().pull()
        world.close()
        # Two more runs, whatever they find.
        world.fleet("b").pull()
        world.fleet("b").pull(mode="auto")
        assert EDIT in contents(tree) or HASH in known_hashes(world.fleet("b")), passed[-1:]
        world.close()
        if not plan.crashed:
            assert further > 10
            return


def test_an_edit_whose_bytes_the_history_knows_is_in_the_tree_after_a_crash_all_the_same(
    experiment: Experiment,
) -> None:
    """Seeds 300183 and 304835: it was taken for the file of the fleet that was displaced."""
    world = experiment.world
    tree = world.tree("b")
    further = 0
    while True:
        further += 1
        world.restore()
        assert contents(tree).count(KNOWN) == 1
        plan, passed = edited_then(tree, "a.txt", copy_another, further)
        with numbered(plan), suppress(SimulatedCrash):
            world.machine("b", plan).open().pull()
        world.close()
        world.fleet("b").pull()
        world.fleet("b").pull(mode="auto")
        assert contents(tree).count(KNOWN) == 2, passed[-1:]
        world.close()
        if not plan.crashed:
            assert further > 10
            return


def test_a_file_that_is_made_anew_while_it_is_removed_stands_after_a_crash(
    experiment: Experiment,
) -> None:
    """With the same bytes: only that it came after the other was taken away tells of it."""
    world = experiment.world
    path = world.tree("b") / "gone" / "x"
    temp = name_of_displaced(0, RelPath(b"gone/x")).removeprefix(b"0")
    further = 0
    while True:
        further += 1
        world.restore()
        plan, passed = made_anew_then(path, path.read_bytes(), temp, further)
        with numbered(plan), suppress(SimulatedCrash):
            world.machine("b", plan).open().pull()
        world.close()
        world.fleet("b").pull()
        world.fleet("b").pull(mode="auto")
        assert path.exists(), passed[-1:]
        world.close()
        if not plan.crashed:
            assert further > 10
            return


def made_anew_then(
    path: Path, content: bytes, temp: bytes, further: int
) -> tuple[FaultPlan, list[Operation]]:
    """Makes a file anew once it has a temporary name with that end; dies so many changes later."""
    passed: list[Operation] = []
    started = False

    def hook(operation: Operation, moment: Moment) -> None:
        nonlocal started
        if operation.name not in CHANGES:
            return
        if started and moment == "before":
            passed.append(operation)
            if len(passed) == further:
                raise SimulatedCrash
        taken = operation.name == "rename" and os.fsencode(operation.target).endswith(temp)
        if taken and moment == "after" and not started:
            started = True
            path.write_bytes(content)

    return FaultPlan(hook), passed


def contents(tree: Path) -> list[bytes]:
    return [p.read_bytes() for p in tree.rglob("*") if p.is_file() and ".tcfs" not in p.parts]
