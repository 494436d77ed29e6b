"""The process that a ``Person`` starts: ``tcfs`` on a fake engine prepared by a scenario."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import termios
import threading
from pathlib import Path
from typing import Any

from tcfs.cli import engine as engines
from tcfs.cli.main import main
from tcfs.errors import CancelledError
from tcfs.sync.facade import Progress
from tests.cli import fake


def plain() -> fake.FakeEngine:
    """A repository that is there."""
    return fake.FakeEngine(fake.FakeFleet())


def absent() -> fake.FakeEngine:
    """No repository yet."""
    return fake.FakeEngine(fake.FakeFleet(), absent=True)


def conflicting() -> fake.FakeEngine:
    """A pull that finds two conflicts."""
    found = fake.done(conflicts=(fake.conflict("a.txt"), fake.conflict("b.txt")))
    return fake.FakeEngine(fake.FakeFleet(pull=found))


def deleting() -> fake.FakeEngine:
    """A push that would delete a lot."""
    return fake.FakeEngine(fake.FakeFleet(push=fake.within_share))


def endless() -> fake.FakeEngine:
    """A push that goes on until it is told to stop."""

    def push(*_args: Any, cancel: Any, **_kwargs: Any) -> Any:
        sys.stderr.write("pushing\n")
        sys.stderr.flush()
        tick = threading.Event()
        while not cancel():
            tick.wait(0.01)
        return CancelledError("the push was stopped")

    return fake.FakeEngine(fake.FakeFleet(push=push))


def slow() -> fake.FakeEngine:
    """A push that reports progress for long enough to show it, then warns."""
    from tcfs.cli import progress

    progress.PATIENCE_S = 0.0  # type: ignore[misc]
    progress.INTERVAL_S = 0.0  # type: ignore[misc]
    fleet = fake.FakeFleet()
    fleet.reports = [Progress("hash\x1b[2Jing", n, 4, "bytes", "a\x1b]0;b") for n in range(5)]
    fleet.reports += [Progress("committing", n, 2, "files") for n in range(3)]
    return fake.FakeEngine(fleet)


def run() -> int:
    """Take the terminal, run, and write down what the engine was asked."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    engine = globals()[os.environ["FAKE_SCENARIO"]]()
    engines.engine = lambda: engine
    code = main(sys.argv[1:])
    asked = {
        "calls": [[name, [str(a) for a in args]] for name, args, _ in engine.fleet.calls],
        "plans": [kwargs.get("plan") for _, _, kwargs in engine.fleet.calls],
        "joined": engine.joined,
    }
    Path(os.environ["FAKE_RECORD"]).write_text(json.dumps(asked))
    return code


if __name__ == "__main__":
    sys.exit(run())
