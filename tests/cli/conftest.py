"""A command line on a fake engine, in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tcfs.cli import engine as engines
from tcfs.cli.main import main
from tests.cli.fake import FakeEngine, FakeFleet
from tests.rollout.fixtures import lab, machine  # noqa: F401 - fixtures


@dataclass
class Outcome:
    """What a command printed and returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs commands, with nobody at the terminal."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    engine: FakeEngine = field(default_factory=lambda: FakeEngine(FakeFleet()))

    @property
    def fleet(self) -> FakeFleet:
        return self.engine.fleet

    def answers(self, **answers: Any) -> None:
        """Let the engine answer this."""
        self.fleet.answers.update(answers)

    def __call__(self, *argv: str, stdin: str = "") -> Outcome:
        self.monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(argv)
        captured = self.capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def tcfs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    """The command line of a device whose home is a temporary directory."""
    for name in ("TCFS_CONFIG", "TCFS_REMOTE", "TCFS_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TCFS_HOME", str(tmp_path / "home"))
    shell = Shell(monkeypatch, capsys)
    monkeypatch.setattr(engines, "engine", lambda: shell.engine)
    return shell


Run = Callable[..., Outcome]
