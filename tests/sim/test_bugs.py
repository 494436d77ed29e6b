"""The rig is tested: every planted bug is found, within the seeds that it is given.

The bugs that a few seeds find are looked for in every run, the others in the slow ones.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.bugs import BUGS

ROOT = Path(__file__).parents[2]
QUICK = 12
"""Seeds that are no trouble."""


def first_failure(bug: str, most: int) -> str:
    """What the rig says of the first seed that finds a bug; fails if none does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seeds", f"1..{most}", "--bug", bug],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0", "TCFS_SIM_SCRATCH": f"bug-{os.getpid()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, f"{bug} was not found: {done.stdout}{done.stderr[-2000:]}"
    return done.stdout


def params() -> list[object]:
    return [
        pytest.param(name, marks=[] if bug.found_by <= QUICK else [pytest.mark.slow])
        for name, bug in BUGS.items()
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", params())
def test_a_planted_bug_is_found(name: str) -> None:
    said = first_failure(name, BUGS[name].found_by)
    # Not because the bug itself is broken.
    assert not re.search(r"TypeError|AttributeError|NameError|ImportError", said)


def test_the_table_in_the_readme_lists_every_bug_and_its_seeds() -> None:
    table = (Path(__file__).parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| (\d+) \| (\d+) \|", table, re.MULTILINE)
    assert {row[0]: (row[1].strip(), int(row[3])) for row in rows} == {
        name: (bug.what, bug.found_by) for name, bug in BUGS.items()
    }
    assert all(int(found) <= int(most) for _, _, found, most in rows)
