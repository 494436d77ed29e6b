"""Seeds: a fixed set, some that nobody has seen, and that a seed means one run and no other.

Each test is a process of its own, with one order of sets, as ``script/sim`` has it: so a failure is
played again by its seed alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def sim(*arguments: str, timeout: float = 300) -> str:
    """What ``script/sim`` says. Fails with it if a seed failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
    return done.stdout


# Six parts, so that the processes of a test run share them.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("first", range(1, 301, 50))
def test_the_fixed_seeds_hold(first: int) -> None:
    said = sim("--seeds", f"{first}..{first + 49}", "--keep-going")
    assert "50 seeds" in said


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", range(2))
def test_fresh_seeds_hold(part: int) -> None:
    assert "50 seeds" in sim("--fresh", "50", "--keep-going")


def test_every_seed_has_at_least_two_hundred_operations() -> None:
    found = re.search(r"(\d+) operations", sim("--seeds", "7..7"))
    assert found is not None
    assert int(found[1]) >= 200


def test_a_seed_means_the_same_run_in_every_process() -> None:
    one, other = (sim("--seed", "11", "--trace") for _ in range(2))
    assert one == other
    assert one.count("\n") > 200
