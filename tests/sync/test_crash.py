"""A crash at any moment of any command: the next run completes, and nothing is lost."""

from __future__ import annotations

import pytest

from tcfs.host.faults import crash_at
from tests.sync.crashing import Experiment, Point, every, points_of, thin
from tests.sync.powerless import LOSSES, Loss


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


POWER = ("pull, then push", "one file", "init")
"""What shows the most of how files come to the disk."""


@pytest.mark.parametrize("experiment", POWER, indirect=True)
@pytest.mark.parametrize("loss", ["names", "half"])
def test_what_a_power_loss_takes_back_is_done_by_the_next_run(
    experiment: Experiment, loss: Loss
) -> None:
    every(experiment, experiment.losses(loss), lambda p: lose_and_go_on(experiment, p, loss))


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    ["first pull", "pull", "pull of conflicts", "resolve", "undo", "enroll", "recover"],
    indirect=True,
)
@pytest.mark.parametrize("loss", LOSSES)
def test_no_command_relies_on_what_a_power_loss_takes_back(
    experiment: Experiment, loss: Loss
) -> None:
    every(experiment, experiment.losses(loss), lambda p: lose_and_go_on(experiment, p, loss))


def lose_and_go_on(experiment: Experiment, point: Point, loss: Loss) -> None:
    experiment.lose_power(crash_at(*point), loss)
    experiment.recover()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["pull of conflicts", "push in parts"], indirect=True)
@pytest.mark.parametrize("third", [1, 2])
def test_a_run_that_completes_another_may_be_cut_off_too(
    experiment: Experiment, third: int
) -> None:
    points = experiment.points()
    first = points[len(points) * third // 3]
    experiment.crash(crash_at(*first))
    rest = experiment.plan_of_recovery()

    def crash_twice(point: Point) -> None:
        experiment.crash(crash_at(*first))
        experiment.crash_again(crash_at(*point))
        experiment.recover()

    every(experiment, thin(points_of(rest), lambda p: rest.operations[p[0] - 1].name), crash_twice)
