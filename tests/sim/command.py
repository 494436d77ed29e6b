"""``script/sim``: run seeds of the simulation, one or many, and show what fails.

Exit code 0 if all held, 1 if something did not, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from tests.sim.bugs import BUGS, planted
from tests.sim.fleet import scratch
from tests.sim.minimise import minimise, replay
from tests.sim.moves import Drawer, draw_setting
from tests.sim.world import Outcome, play

SHOWN = 120
"""Lines of a trace that are shown without ``--trace``."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of one seed."""

    seed: int
    operations: int
    failure: str


def run_seed(seed: int, *, traced: bool = False) -> Outcome:
    """Play a seed."""
    return play(draw_setting(seed), lambda world: iter(Drawer(world)), traced=traced)


def _report(job: tuple[int, str]) -> Report:
    seed, bug = job
    with ExitStack() as stack:
        if bug:
            stack.enter_context(planted(bug))
        try:
            outcome = run_seed(seed)
        except Exception as error:
            raise RuntimeError(f"seed {seed} ended the rig itself") from error
    return Report(seed, outcome.operations, outcome.failure)


def run_seeds(seeds: Iterable[int], *, jobs: int = 1, bug: str = "") -> Iterator[Report]:
    """Play seeds, in several processes if asked; reports come in any order."""
    work = ((seed, bug) for seed in seeds)
    if jobs == 1:
        yield from map(_report, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_report, work, chunksize=4)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    scratch()  # before any process is started that is to share it
    if options.seed is not None:
        return _one(options.seed, options.bug, trace=options.trace)
    return _many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/sim", description=(__doc__ or "").split("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="play this seed; cut it down if it fails")
    which.add_argument("--seeds", type=_range, metavar="A..B", help="play these seeds")
    which.add_argument("--fresh", type=int, metavar="N", help="play N seeds nobody has seen")
    which.add_argument("--hours", type=float, help="play fresh seeds for this long")
    parser.add_argument("--trace", action="store_true", help="show every operation")
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="plant this bug first")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    return parser


def _range(text: str) -> range:
    first, dots, last = text.partition("..")
    if not (dots and first.isdigit() and last.isdigit()):
        raise argparse.ArgumentTypeError("should be A..B")
    return range(int(first), int(last) + 1)


def _one(seed: int, bug: str, *, trace: bool) -> int:
    with ExitStack() as stack:
        if bug:
            stack.enter_context(planted(bug))
        outcome = run_seed(seed, traced=trace)
        if trace:
            _say("\n".join(outcome.trace))
        _say(f"seed {seed}: {len(outcome.moves)} moves, {outcome.operations} operations")
        if not outcome.failure:
            _say("all held")
            return 0
        _explain(outcome, trace=trace)
    return 1


def _explain(outcome: Outcome, *, trace: bool) -> None:
    """What failed, and the shortest way there that can be found."""
    _say(f"FAILED: {outcome.failure}")
    _say(f"{outcome.setting}")
    moves = minimise(outcome.setting, outcome.moves)
    shortest = replay(outcome.setting, moves, traced=True)
    _say(f"cut down to {len(moves)} moves, which end with: {shortest.failure}")
    for move in moves:
        _say(f"    {move!r},")
    lines = shortest.trace if trace else shortest.trace[-SHOWN:]
    _say("\n".join(lines))


def _many(options: argparse.Namespace) -> int:
    started = time.monotonic()
    seeds: Iterable[int]
    if options.seeds is not None:
        seeds = options.seeds
    else:
        # Far from the fixed ones; which they were is told with every failure.
        first = 1_000_000 + int.from_bytes(os.urandom(5), "big")
        seeds = itertools.count(first)
        if options.fresh is not None:
            seeds = itertools.islice(seeds, options.fresh)
        else:
            deadline = started + options.hours * 3600
            seeds = itertools.takewhile(lambda _seed: time.monotonic() < deadline, seeds)
    count = operations = 0
    failed: list[Report] = []
    for report in run_seeds(seeds, jobs=options.jobs, bug=options.bug):
        count += 1
        operations += report.operations
        if report.failure:
            failed.append(report)
            _say(f"seed {report.seed}: {report.failure}")
            if not options.keep_going:
                break
    took = time.monotonic() - started
    _say(
        f"{count} seeds, {operations} operations, {operations / took:.0f} a second; "
        f"{len(failed)} failed"
    )
    if failed:
        _say(f"Look closer with: script/sim --seed {min(r.seed for r in failed)} --trace")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
