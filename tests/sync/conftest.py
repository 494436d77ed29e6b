"""The world that tests of the engine live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tcfs.host import native
from tests.sync.crashing import Experiment
from tests.sync.kit import Templates, World
from tests.sync.scenarios import SCENARIOS


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Fleets to begin from."""
    return Templates(tmp_path_factory.mktemp("templates"))


@pytest.fixture
def world(tmp_path: Path, templates: Templates, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A fleet without devices yet. Its disk is not waited for: nobody pulls the plug here."""
    monkeypatch.setattr(native, "full_fsync", lambda fd: None)
    monkeypatch.setattr(native, "sync_volume", lambda fd: True)
    made = World(tmp_path, templates)
    yield made
    made.close()


@pytest.fixture(params=SCENARIOS)
def experiment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Experiment]:
    scenario = SCENARIOS[request.param]
    for target, value in scenario.patches.items():
        monkeypatch.setattr(target, value)
    experiment = Experiment(scenario)
    yield experiment
    experiment.close()
