"""The rig is tested: every planted bug is found, within the seeds that it is given.

A seed that found a bug finds it again as long as neither the engine nor the draws change, so it is
asked first.
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


def failure(bug: str, seeds: str) -> str:
    """What the rig says of the first of these seeds that finds a bug; nothing if none does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seeds", seeds, "--bug", bug],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0", "TCFS_SIM_SCRATCH": f"bug-{os.getpid()}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr[-2000:]
    return done.stdout if done.returncode else ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    """By the seed that found it when the table was made, or another within its bound."""
    found, within = SEEDS[name]
    said = failure(name, f"{found}..{found}") or failure(name, f"1..{within}")
    assert said, f"{name} is not found within {within} seeds"
    # Not because the bug itself is broken.
    assert not re.search(r"TypeError|AttributeError|NameError|ImportError", said)


def test_a_pack_that_nobody_verifies_is_found_where_it_is_looked_for() -> None:
    """Damage meets bytes that are neither sealed nor compressed."""
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
    expected = {name: (bug.what, *map(str, SEEDS[name])) for name, bug in BUGS.items()}
    assert {row[0]: (row[1].strip(), *row[2:]) for row in rows} == expected
    assert all(found <= within for found, within in SEEDS.values())
