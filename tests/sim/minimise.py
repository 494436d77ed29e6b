"""Cutting a failing run down to what it takes to fail (delta debugging, Zeller 1999)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tests.sim.world import Move, Outcome, Setting, World, play


def replay(setting: Setting, moves: list[Move], *, traced: bool = False) -> Outcome:
    """Make exactly these moves. All comes to rest at the end."""

    def all_of_them(_world: World) -> Iterator[Move]:
        yield from moves
        if not moves or moves[-1] != ("settle",):
            yield ("settle",)

    return play(setting, all_of_them, traced=traced)


def minimise(
    setting: Setting,
    moves: list[Move],
    fails: Callable[[Outcome], bool] = lambda outcome: bool(outcome.failure),
    *,
    seconds: float = 60.0,
) -> list[Move]:
    """A shorter list of moves that still fails, as short as can be found in this time."""
    deadline = time.monotonic() + seconds
    size = max(1, len(moves) // 2)
    while time.monotonic() < deadline:
        start, shorter = 0, False
        while start < len(moves) and time.monotonic() < deadline:
            rest = moves[:start] + moves[start + size :]
            if fails(replay(setting, rest)):
                moves, shorter = rest, True
            else:
                start += size
        if not shorter:
            if size == 1:
                break
            size = max(1, size // 2)
    return moves
