"""What scenes found, each as the shortest story that showed it."""

from __future__ import annotations

from tests.sim.stories import hold, whole
from tests.sim.world import WHOLE


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
        *whole("bob", "push"),
        ("arm", "ann", "put", "late"),
        *whole("ann", "push"),
        ("hint", "ann", (0,), False, ""),
        ("run", "ann", WHOLE),
    )
