"""A crash at any moment of any command: the next run completes, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tcfs.host.faults import crash_at
from tests.sync.crashing import Experiment, Point
from tests.sync.scenarios import SCENARIOS


@pytest.fixture(params=SCENARIOS)
def experiment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    scenario = SCENARIOS[request.param]
    for target, value in scenario.patches.items():
        monkeypatch.setattr(target, value)
    experiment = Experiment(scenario)
    yield experiment
    experiment.close()


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


def test_a_command_cut_off_at_any_kind_of_step_is_completed_by_the_next_run(
    experiment: Experiment,
) -> None:
    every(experiment, experiment.few_points(), lambda p: crash_and_go_on(experiment, p))


@pytest.mark.slow
def test_a_command_cut_off_at_every_other_step_is_completed_by_the_next_run(
    experiment: Experiment,
) -> None:
    few = experiment.few_points()
    rest = [point for point in experiment.points() if point not in few]
    every(experiment, rest, lambda p: crash_and_go_on(experiment, p))


def crash_and_go_on(experiment: Experiment, point: Point) -> None:
    experiment.crash(crash_at(*point))
    experiment.recover()
