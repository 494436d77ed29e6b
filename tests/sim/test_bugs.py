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
from tests.sim.test_found import TWO_BRANCHES, acknowledged
from tests.sim.test_found_in_long_runs import ACROSS_BRANCHES
from tests.sim.world import WHOLE, Move, Setting

ROOT = Path(__file__).parents[2]


def failure(bug: str, seeds: str) -> str:
    """What the rig says of the first of these seeds that finds a bug; nothing if none does."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--seeds", seeds, "--bug", bug],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr[-2000:]
    return done.stdout if done.returncode else ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SEEDS)
def test_a_planted_bug_is_found(name: str) -> None:
    """By the seed that found it when the table was made, or another within its bound."""
    found, within = SEEDS[name]
    said = failure(name, f"{found}..{found}") or failure(name, f"1..{within}")
    assert said, f"{name} is not found within {within} seeds"
    # Not because the bug itself is broken.
    assert not re.search(r"TypeError|AttributeError|NameError|ImportError", said)


STORIES: dict[str, tuple[Setting, list[Move]]] = {
    # Damage meets bytes that are neither sealed nor compressed.
    "unverified-pack": (
        Setting(0),
        [
            ("share",),
            ("user", "ann", True, "write", b"a", bytes(range(256))),
            ("operation", "ann", "push"),
            ("run", "ann", WHOLE),
            ("arm", "bob", "get_range", "damaged"),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", WHOLE),
        ],
    ),
    # Power is lost after a push of what nobody had made durable.
    "push-not-durable": (
        Setting(0),
        [
            ("share",),
            ("user", "bob", False, "write", b"a", b"first\n"),
            ("operation", "bob", "push"),
            ("run", "bob", WHOLE),
            ("crash", "bob", "all", 5),
        ],
    ),
    # The segment is in the store, and its writer never hears of it.
    "no-outbox": (
        Setting(0),
        [
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("arm", "ann", "put", "late"),
            ("operation", "ann", "push"),
            ("run", "ann", WHOLE),
        ],
    ),
    "branch-kept": (Setting(0, ("ann", "bob", "cy")), TWO_BRANCHES),
    "branches-counted-on": (Setting(0, ("ann", "bob", "cy", "dee")), ACROSS_BRANCHES),
    "control-forgotten": (Setting(0), acknowledged(4)),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_planted_bug_is_found_where_it_is_looked_for(name: str) -> None:
    """What the seeds do not find, or one that they do, at once."""
    setting, moves = STORIES[name]
    assert not replay(setting, moves).failure
    with planted(name):
        assert replay(setting, moves).failure


def test_every_bug_is_found_by_seeds_or_where_it_is_looked_for() -> None:
    assert BUGS.keys() == SEEDS.keys() | STORIES.keys()


def test_the_table_in_the_readme_lists_every_bug_and_its_seeds() -> None:
    table = (Path(__file__).parent / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \| (\S+) \| (\S+) \|", table, re.MULTILINE)
    expected = {
        name: (bug.what, *map(str, SEEDS.get(name, ("-", "-")))) for name, bug in BUGS.items()
    }
    assert {row[0]: (row[1].strip(), *row[2:]) for row in rows} == expected
    assert all(found <= within for found, within in SEEDS.values())
