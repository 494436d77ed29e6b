"""A collection cut off at any moment: nothing is lost, and anybody's next one completes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from tcfs.content.pack import HEADER_READ, PackHeader
from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash, crash_at, fail_at
from tcfs.model.ids import PackId, StoreKey
from tcfs.sync.fleet import Fleet
from tcfs.sync.gc.results import Amount, GcResult
from tests.sync.crashing import (
    SPACE,
    Experiment,
    Machine,
    Outcome,
    Scenario,
    World,
    check_chains,
    compare,
    every,
    fill,
    heads_of,
    snapshot,
)
from tests.sync.gc.support import noise


def worn(world: World) -> None:
    """Two devices, history that a policy lets go of, a pack that is half of use, and an orphan."""
    world.create("a", "b")
    a = world.tree("a")
    fill(a, {"long": noise(1, 500 << 10), "stays": noise(2, 100 << 10)})
    world.fleet("a").push([])
    for seed in (3, 4, 5):
        fill(a, {"long": noise(seed)})
        world.fleet("a").push([])
        world.close()
    fill(a, {"lost": noise(6)})

    def hook(operation: Operation, moment: Moment) -> None:
        if (operation.name, str(operation.target)[:6], moment) == ("put", "packs/", "after"):
            raise SimulatedCrash

    with suppress(SimulatedCrash):
        world.machine("a", FaultPlan(hook)).open().push([])
    world.close()
    (a / "lost").unlink()
    fill(a, {"small": b"the chain goes on"})
    world.fleet("a").push([])
    world.fleet("b").pull()
    world.fleet("a").gc.set_retention(keep_versions=2)
    world.fleet("b").pull()


def marked(world: World) -> None:
    """All that is marked and acknowledged."""
    worn(world)
    world.fleet("a").gc.run()
    world.fleet("b").pull()


def run(machine: Machine) -> None:
    machine.open().gc.run()


def waits(fleet: Fleet, key: StoreKey) -> bool:
    """Whether a pack is for a segment that its device has yet to write."""
    context, pack = fleet._context, PackId(key.rpartition("/")[2])
    data = context.store.get_range(key, 0, HEADER_READ)
    header = PackHeader.parse(data, pack, context.scope(SPACE))
    head = context.state.history.heads(SPACE).get(header.device)
    return head is None or head.seq < header.seq


def everybody(world: World) -> None:
    """All goes that is to go, and the rest is there, whoever goes on."""
    nothing = (Amount(),) * 6
    r = GcResult(False, "")
    for name in "babababa":
        r = world.fleet(name).gc.run()
        world.close()
        if (r.orphans, r.unused, r.repacked, r.waiting, r.kept, r.swept) == nothing:
            break
    else:
        raise AssertionError(f"it does not come to an end: {r}")
    left = {key for key in world.store._objects if key.startswith("packs/")}
    # What a run that was cut off has stored waits for that device's next segment.
    left -= {key for key in left if waits(world.fleet("a"), key)}
    assert len(left) == 3, "the two newest versions, and what was moved"
    check_chains(world.store)
    for name in "ab":
        fleet = world.fleet(name)
        assert fleet._context.state.outbox.count() == 0
        report = fleet.verify(read_data=name == "a")
        assert report.ok, report.problems
    fleet = world.fleet("b")
    fleet.rebuild_index()
    report = fleet.verify(read_data=True)
    assert report.ok, report.problems


class Collecting(Experiment):
    """Trees and heads stay as they are, whatever goes from the store."""

    def _finish(self) -> Outcome:
        self.world.close()
        outcome = self._seen()
        everybody(self.world)
        compare(outcome, self._seen())
        self.world.close()
        return outcome

    def _seen(self) -> Outcome:
        names = "ab"
        return Outcome(
            {name: snapshot(self.world.tree(name)) for name in names},
            heads_of(self.world.fleet("a")),
            set(),
        )


SCENARIOS = {
    "mark": Scenario("mark", worn, run),
    "sweep": Scenario("sweep", marked, run),
    "sweep by the other": Scenario("sweep by the other", marked, run, device="b"),
}


@pytest.fixture(
    params=["mark", "sweep", pytest.param("sweep by the other", marks=pytest.mark.slow)]
)
def experiment(request: pytest.FixtureRequest) -> Iterator[Experiment]:
    made = Collecting(SCENARIOS[request.param])
    yield made
    made.close()


def test_a_collection_cut_off_at_any_step_is_completed_by_whoever_comes_next(
    experiment: Experiment,
) -> None:
    def crash_and_go_on(point: tuple[int, Moment]) -> None:
        experiment.crash(crash_at(*point))
        if point[0] % 2:
            experiment.recover()
        else:
            compare(experiment.expected, experiment._finish())

    every(experiment, experiment.few_points(), crash_and_go_on)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["mark"], indirect=True)
def test_an_error_of_the_store_at_any_step_loses_nothing(experiment: Experiment) -> None:
    names = ("get", "get_range", "put", "head", "list", "list_dirs", "delete")
    numbers = [o.number for o in experiment.plan.operations if o.name in names]

    def fail_and_go_on(point: tuple[int, Moment]) -> None:
        experiment.fail(fail_at(*point, lambda: StoreError("broken off")))
        experiment.recover()

    every(experiment, [(number, "after") for number in numbers], fail_and_go_on)
