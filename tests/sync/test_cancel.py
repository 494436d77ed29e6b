"""Stopping when asked, at any moment: what was done stays, and the next run does the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tcfs.errors import CancelledError
from tcfs.sync.fleet import Fleet
from tests.sync.crashing import Experiment


class Asked:
    """Says stop from the given question on; never if that is 0."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        return bool(self.number) and self.count >= self.number


COMMANDS: dict[str, Callable[[Fleet, Asked], Any]] = {
    "push in parts": lambda fleet, asked: fleet.push([], cancel=asked),
    "first pull": lambda fleet, asked: fleet.pull(cancel=asked),
    "pull": lambda fleet, asked: fleet.pull(cancel=asked),
    "pull of conflicts": lambda fleet, asked: fleet.pull(mode="auto", cancel=asked),
}


@pytest.mark.parametrize("experiment", COMMANDS, indirect=True)
def test_a_command_stopped_at_any_question_is_completed_by_the_next(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcfs.sync.placement.BATCH_FILES", 2)
    scenario, world = experiment.scenario, experiment.world
    run = COMMANDS[scenario.name]
    never = Asked()
    world.restore()
    run(world.fleet(scenario.device), never)
    assert never.count > 2

    stopped = 0
    for number in range(1, never.count + 1):
        world.restore()
        with suppress(CancelledError):
            run(world.fleet(scenario.device), Asked(number))
            stopped -= 1
        stopped += 1
        world.close()
        experiment.recover()
    assert stopped > never.count // 2
