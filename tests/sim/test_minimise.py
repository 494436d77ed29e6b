"""A failing run is cut down to what it takes, and still fails."""

from __future__ import annotations

from tests.sim.bugs import planted
from tests.sim.minimise import minimise, replay
from tests.sim.world import WHOLE, Move, Setting

SETTING = Setting(0)
STORY: list[Move] = [
    ("user", "ann", True, "write", b"a", b"first\n"),
    ("settle",),
    ("user", "ann", True, "delete", b"a"),
    ("operation", "ann", "push"),
    ("run", "ann", WHOLE),
    ("user", "bob", True, "write", b"a", b"an edit\n"),
    ("operation", "bob", "pull", "auto"),
    ("run", "bob", WHOLE),
]


def test_what_has_no_part_in_a_failure_is_left_out() -> None:
    noise: list[Move] = [("user", "bob", True, "mkdir", b"d%d" % number) for number in range(6)]
    moves = [move for pair in zip(STORY, [*noise, *noise], strict=False) for move in pair]
    with planted("tombstone-wins"):
        assert replay(SETTING, moves).failure
        shortest = minimise(SETTING, moves, seconds=300)
        assert replay(SETTING, shortest).failure
    assert len(shortest) <= len(STORY)
    assert not set(shortest) & set(noise)


def test_a_story_without_a_bug_holds() -> None:
    assert not replay(SETTING, STORY).failure


def test_the_trace_of_a_run_tells_every_operation() -> None:
    outcome = replay(SETTING, STORY, traced=True)
    told = [line for line in outcome.trace if " -- " not in line]
    assert len(told) == outcome.operations
    assert any("store.put ledger/" in line for line in told)
