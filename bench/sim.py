"""How many simulated operations a second of one core makes, with the seeds of `tests/sim`.

PYTHONHASHSEED=0 .venv/bin/python bench/sim.py [SEEDS]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.sim.command import run_seed


def main() -> None:
    """Play the seeds and print the figures."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    run_seed(0)  # what is loaded and made once is not counted
    started, cpu = time.perf_counter(), time.process_time()
    operations = sum(run_seed(seed).operations for seed in range(1, seeds + 1))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(
        f"{seeds} seeds, {operations} operations: {operations / cpu:.0f} a second of CPU, "
        f"{operations / wall:.0f} a second of wall time, {1000 * cpu / seeds:.0f} ms a seed"
    )


if __name__ == "__main__":
    main()
