"""An edit in the last moment before a file is replaced survives whatever comes then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
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


def cut_off(
    when: Callable[[Operation, Moment], bool], change: Callable[[], object], further: int
) -> tuple[FaultPlan, list[Operation]]:
    """Changes something in a certain moment, once; dies so many changes later."""
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
        if not started and when(operation, moment):
            started = True
            change()

    return FaultPlan(hook), passed


def edited_then(
    path: Path, change: Callable[[Path], None], further: int
) -> tuple[FaultPlan, list[Operation]]:
    """Changes a file just before it is swapped; dies so many changes later."""

    def swapped(operation: Operation, moment: Moment) -> bool:
        here = operation.name == "exchange" and operation.target == os.fsencode(path)
        return here and moment == "before"

    return cut_off(swapped, lambda: change(path), further)


def pulls_cut_off(
    experiment: Experiment, plan_of: Callable[[int], tuple[FaultPlan, list[Operation]]]
) -> Iterator[list[Operation]]:
    """A pull that dies at each later change in turn, each followed by two more runs.

    Yields where it died.
    """
    world = experiment.world
    further = 0
    while True:
        further += 1
        world.restore()
        plan, passed = plan_of(further)
        with numbered(plan), suppress(SimulatedCrash):
            world.machine("b", plan).open().pull()
        world.close()
        # Two more runs, whatever they find.
        world.fleet("b").pull()
        world.fleet("b").pull(mode="auto")
        yield passed[-1:]
        world.close()
        if not plan.crashed:
            assert further > 10
            return


@pytest.mark.parametrize("change", [edit, replace])
@pytest.mark.parametrize("name", ["a.txt", "big"])
def test_an_edit_while_a_file_is_replaced_survives_a_crash_at_any_later_change(
    experiment: Experiment, name: str, change: Callable[[Path], None]
) -> None:
    world = experiment.world
    tree = world.tree("b")
    for died in pulls_cut_off(experiment, partial(edited_then, tree / name, change)):
        assert EDIT in contents(tree) or HASH in known_hashes(world.fleet("b")), died


def test_an_edit_whose_bytes_the_history_knows_is_in_the_tree_after_a_crash_all_the_same(
    experiment: Experiment,
) -> None:
    """Seeds 300183 and 304835: it was taken for the file of the fleet that was displaced."""
    tree = experiment.world.tree("b")

    def plan_of(further: int) -> tuple[FaultPlan, list[Operation]]:
        assert contents(tree).count(KNOWN) == 1
        return edited_then(tree / "a.txt", copy_another, further)

    for died in pulls_cut_off(experiment, plan_of):
        assert contents(tree).count(KNOWN) == 2, died


def test_a_file_that_is_made_anew_while_it_is_removed_stands_after_a_crash(
    experiment: Experiment,
) -> None:
    """With the same bytes: only that it came after the other was taken away tells of it."""
    path = experiment.world.tree("b") / "gone" / "x"
    temp = name_of_displaced(0, RelPath(b"gone/x")).removeprefix(b"0")

    def taken(operation: Operation, moment: Moment) -> bool:
        here = operation.name == "rename" and os.fsencode(operation.target).endswith(temp)
        return here and moment == "after"

    def plan_of(further: int) -> tuple[FaultPlan, list[Operation]]:
        content = path.read_bytes()
        return cut_off(taken, partial(path.write_bytes, content), further)

    for died in pulls_cut_off(experiment, plan_of):
        assert path.exists(), died


def contents(tree: Path) -> list[bytes]:
    return [p.read_bytes() for p in tree.rglob("*") if p.is_file() and ".tcfs" not in p.parts]
