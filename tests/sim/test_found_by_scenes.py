"""What scenes found, each as the shortest story that showed it."""

from __future__ import annotations

from tests.sim.minimise import replay
from tests.sim.world import WHOLE, Move, Setting


def hold(*moves: Move, **options: object) -> None:
    """All holds after these moves."""
    outcome = replay(Setting(0, **options), list(moves))  # type: ignore[arg-type]
    assert not outcome.failure, outcome.failure


def test_a_file_that_is_read_once_more_is_not_trusted_before_the_clock_has_ticked() -> None:
    """It was written while a push read it, and again within one tick while it was read again."""
    for steps in range(1, 6):
        hold(
            ("user", "ann", True, "write", b"a", b"first\n"),
            ("operation", "ann", "push"),
            ("run", "ann", WHOLE, "", "read"),
            ("user", "ann", True, "write", b"a", b"second, longer\n"),
            *[("run", "ann", WHOLE, "", "read")] * steps,
            ("user", "ann", True, "write", b"a", b"third, as long\n"),
            tick_ns={"ann": 10_000_000, "bob": 10_000_000},
        )


def test_a_daemon_sends_what_waits_before_it_settles_a_conflict_that_an_event_told_of() -> None:
    """Otherwise the settlement takes the place of the segment that waits: the chain forks."""
    hold(
        ("user", "ann", True, "write", b"a", b"first\n"),
        ("settle",),
        ("user", "ann", True, "write", b"a", b"ann's\n"),
        ("user", "bob", True, "write", b"a", b"bob's\n"),
        ("operation", "bob", "push"),
        ("run", "bob", WHOLE),
        ("arm", "ann", "put", "late"),
        ("operation", "ann", "push"),
        ("run", "ann", WHOLE),
        ("hint", "ann", (0,), False, ""),
        ("run", "ann", WHOLE),
    )
