"""Times of files that tell what comes after them apart.

A file system's clock goes in steps. A write within the step in which a file was looked at can leave
the very stat that was seen, if the size stays; whoever trusts such a stat never learns of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tcfs.host.base import Clock

TICK_NS: Final = 20_000_000
"""Coarsest step of a local file system's clock: two writes within it can leave equal times."""


def let_the_clock_tick(clock: Clock, ctimes_ns: Iterable[int]) -> None:
    """Wait until the file system's clock has left the newest of these times of files behind.

    Call after the files were looked at, and before what they hold is read.
    """
    now = int(clock.now() * 1e9)
    # A time from before the clock was put back says nothing of the others.
    newest = max((time for time in ctimes_ns if time <= now), default=0)
    ahead = newest + TICK_NS - now
    if ahead > 0:
        clock.sleep(ahead / 1e9)
