"""A crash at any moment of any command: the next run completes, and nothing is lost."""

from __future__ import annotations

import pytest

from tcfs.host.faults import crash_at
from tests.sync.crashing import Experiment
from tests.sync.scenarios import SCENARIOS


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_command_cut_off_at_any_moment_is_completed_by_the_next_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[name]
    for target, value in scenario.patches.items():
        monkeypatch.setattr(target, value)
    experiment = Experiment(scenario)
    failures = []
    try:
        for number, moment in experiment.points():
            operation = experiment.plan.operations[number - 1]
            try:
                experiment.crash(crash_at(number, moment))
                experiment.recover()
            except Exception as error:  # noqa: BLE001 (all failing points are told of together)
                failures.append(f"{moment} {operation}: {type(error).__name__}: {error}")
    finally:
        experiment.close()
    assert not failures, f"{len(failures)} of {len(experiment.points())}:\n" + "\n".join(failures)
