"""``script/sim``: run seeds."""

from __future__ import annotations

import sys
import time

from tests.sim.fleet import remove_scratch
from tests.sim.moves import Drawer, draw_setting
from tests.sim.world import play


def main() -> int:
    first, last = (int(x) for x in sys.argv[1].split(".."))
    started = time.perf_counter()
    total = 0
    bad = 0
    for seed in range(first, last + 1):
        outcome = play(
            draw_setting(seed), lambda world: iter(Drawer(world)), traced="-t" in sys.argv
        )
        total += outcome.operations
        if outcome.failure:
            bad += 1
            print("seed", seed, outcome.failure[:300])
            if "-t" in sys.argv:
                print("\n".join(outcome.trace[-150:]))
                raise outcome.error
    took = time.perf_counter() - started
    print(
        f"{last - first + 1} seeds, {bad} bad, {total} operations, {total / took:.0f}/s, {took:.1f} s"
    )
    remove_scratch()
    return bad > 0


sys.exit(main())
