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

from tests.sim.bugs import BUGS, SEEDS, planted
from tests.sim.minimise import replay
from tests.sim.world import WHOLE, Move, Setting

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
        pytest.param(name, marks=[] if within <= QUICK else [pytest.mark.slow])
        for name, (_, within) in SEEDS.items()
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", params())
def test_a_planted_bug_is_found(name: str) -> None:
    said = first_failure(name, SEEDS[name][1])
    # Not because the bug itself is broken.
    assert not re.search(r"TypeError|AttributeError|NameError|ImportError", said)


def test_a_pack_that_nobody_verifies_is_found_where_it_is_looked_for() -> None:
    """Too rare for the seeds: damage must meet bytes that are neither sealed nor compressed."""
    moves: list[Move] = [
        ("share",),
        ("user", "ann", True, "write", b"a", bytes(range(256))),
        ("operation", "ann", "push"),
        ("run", "ann", WHOLE),
        ("arm", "bob", "get_range", "damaged"),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE),
    ]
    assert not replay(Setting(0), moves).failure
    with planted("unverified-pack"):
        assert replay(Setting(0), moves).failure


def test_the_table_in_the_readme_lists_every_bug_and_its_seeds() -> None:
    table = (Path(__file__).parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| (\S+) \| (\S+) \|", table, re.MULTILINE)
    expected = {
        name: (bug.what, *(str(n) for n in SEEDS.get(name, ("-", "-"))))
        for name, bug in BUGS.items()
    }
    assert {row[0]: (row[1].strip(), *row[2:]) for row in rows} == expected
    assert all(found <= within for found, within in SEEDS.values())
