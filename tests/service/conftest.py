"""Fleets of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.machines import Machine


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Callable[..., list[Machine]]]:
    with ExitStack() as stack:

        def made(environ: dict[str, str], *names: str) -> list[Machine]:
            machines = [Machine(tmp_path, name, environ) for name in names]
            for machine in machines:
                stack.callback(machine.close)
            first = machines[0]
            first.tcfs("init", "--name", first.name, "-q")
            for machine in machines[1:]:
                code = first.tcfs("device", "invite", "-q").splitlines()[-1]
                machine.tcfs("device", "enroll", "--name", machine.name, "--invite", code)
            for machine in machines:
                machine.tcfs("root", "add", str(machine.tree), "--as", "proj")
            return machines

        yield made
