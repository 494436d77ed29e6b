"""The lines of the aims, and what a run reached of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import clients as c
from bench import peers as p
from bench import start
from bench.ledger import LedgerFigures
from bench.measure import Sample
from bench.memory import Peak
from bench.peers import Key, Results

MB = 1e6
GIB = 1 << 30


@dataclass(frozen=True)
class Aim:
    """One line: what is to be reached, what was, and whether that is enough.

    ``reached`` is None where this run did not measure what it takes.
    """

    what: str
    aim: str
    reached: str | None
    met: bool


@dataclass
class Found:
    """All that a run measured; what was not asked for is empty."""

    results: Results
    starts: dict[str, list[Sample]]
    ledger: LedgerFigures | None = None
    peaks: tuple[Peak, ...] = ()

    def median(self, workload: str, client: str, step: str, figure: str = "wall") -> float | None:
        """A figure's median, or None."""
        samples = self.results.get(Key(workload, client, step), ())
        values = [v for v in (getattr(s, figure) for s in samples) if v is not None]
        return statistics.median(values) if values else None

    def start(self, name: str) -> float | None:
        samples = self.starts.get(name)
        return statistics.median(s.wall for s in samples) if samples else None


Number = float | None
PEERS = tuple(kind.name for kind in c.ALL if not issubclass(kind, c.Tcfs))
OURS = c.TcfsS3.name


def aims(found: Found) -> list[Aim]:
    """Every line, in the order in which they were set."""
    return [*_pushes(found), *_edits(found), *_pulls(found), *_rest(found)]


def at_least(what: str, value: Number, least: float, unit: str = "times") -> Aim:
    return _aim(what, f"at least {least:g} {unit}", value, lambda v: v >= least, unit)


def at_most(what: str, value: Number, most: float, unit: str = "times") -> Aim:
    return _aim(what, f"at most {most:g} {unit}", value, lambda v: v <= most, unit)


def _aim(what: str, aim: str, value: Number, good: Callable[[float], bool], unit: str) -> Aim:
    if value is None:
        return Aim(what, aim, None, False)
    return Aim(
        what, aim, f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}", good(value)
    )


def ratio(one: Number, other: Number) -> Number:
    return None if one is None or not other else one / other


def total(*numbers: Number) -> Number:
    known = [n for n in numbers if n is not None]
    return sum(known) if len(known) == len(numbers) else None


def least(numbers: Iterator[Number]) -> Number:
    return min((n for n in numbers if n is not None), default=None)


def _pushes(found: Found) -> Iterator[Aim]:
    m = found.median
    first = m("SMALL", OURS, p.FIRST)
    yield at_least(
        "SMALL first push: times faster than restic", ratio(m("SMALL", "restic", p.FIRST), first), 3
    )
    yield at_least(
        "SMALL first push: times faster than rclone",
        ratio(m("SMALL", "rclone", p.FIRST), first),
        10,
    )
    parts = total(m("SMALL", p.BARE, p.PARTS), m("SMALL", p.BARE, p.UPLOAD))
    yield at_most("SMALL first push: against the bare parts' sum", ratio(first, parts), 1.5)
    stored = m("SMALL", OURS, p.FIRST, "stored")
    yield at_most(
        "SMALL stored: against restic",
        ratio(stored, m("SMALL", "restic", p.FIRST, "stored")),
        0.8,
    )
    large = m("LARGE", OURS, p.FIRST)
    yield at_least(
        "LARGE first push: speed against a bare upload of the same stored bytes",
        ratio(m("LARGE", p.BARE, p.UPLOAD), large),
        0.9,
    )
    cpu = m("LARGE", OURS, p.FIRST, "cpu")
    theirs = m("LARGE", "restic", p.FIRST, "cpu")
    yield at_most("LARGE first push: client CPU against restic", ratio(cpu, theirs), 1.0)
    nothing = m("SMALL", OURS, p.NOTHING)
    started = m("SMALL", OURS, p.START)
    after = None if nothing is None or started is None else nothing - started
    yield at_most("SMALL no-op push, after start-up", after, 0.6, "s")
    best = least(m("SMALL", peer, p.NOTHING) for peer in PEERS)
    yield at_least("SMALL no-op push: times faster than the best peer", ratio(best, nothing), 5)
    yield at_least(
        "SMALL no-op push into a directory: times faster than the best peer",
        ratio(best, m("SMALL", c.Tcfs.name, p.NOTHING)),
        5,
    )
    wide = least(m("WIDE", client, p.NOTHING) for client in (OURS, c.Tcfs.name))
    yield at_most("WIDE no-op push", wide, 8, "s")


def _edits(found: Found) -> Iterator[Aim]:
    m = found.median
    for workload, most in (("LARGE", 0.25), ("SMALL", 0.5)):
        ours = m(workload, OURS, p.EDITED, "sent")
        restic = m(workload, "restic", p.EDITED, "sent")
        yield at_most(
            f"{workload} push after edit: bytes sent against restic", ratio(ours, restic), most
        )
        yield at_least(
            f"{workload} push after edit: times faster than restic",
            ratio(m(workload, "restic", p.EDITED), m(workload, OURS, p.EDITED)),
            3,
        )


def _pulls(found: Found) -> Iterator[Aim]:
    m = found.median
    pull = m("SMALL", OURS, p.PULL)
    best = least(m("SMALL", peer, p.PULL) for peer in PEERS)
    yield at_least("SMALL pull: times faster than the best peer", ratio(best, pull), 1)
    yield at_most("SMALL pull: against cp -a", ratio(pull, m("SMALL", p.BARE, p.COPY)), 1.3)
    local = m("SMALL", c.Tcfs.name, p.PULL)
    yield at_least(
        "SMALL pull from a directory: times faster than the best peer", ratio(best, local), 1
    )
    yield at_least(
        "LARGE pull: speed against a bare ranged download of the stored bytes",
        ratio(m("LARGE", p.BARE, p.DOWNLOAD), m("LARGE", OURS, p.PULL)),
        0.8,
    )
    yield at_least(
        "LARGE pull: speed against the same download made durable, as a pull is",
        ratio(m("LARGE", p.BARE, p.DURABLE), m("LARGE", OURS, p.PULL)),
        0.8,
    )


def _rest(found: Found) -> Iterator[Aim]:
    lines = {
        f"{key.workload} {key.client}: {key.step}": max(s.peak for s in samples) / MB
        for key, samples in found.results.items()
        if key.client in (c.Tcfs.name, OURS)
    }
    for peak in found.peaks:
        lines[f"{peak.what}: push"] = peak.push / MB
        lines[f"{peak.what}: pull"] = peak.pull / MB
    highest = max(lines, key=lambda name: lines[name], default=None)
    yield at_most(
        f"peak memory, every line ({highest})", lines[highest] if highest else None, 300, "MB"
    )
    yield at_most(start.CALL, found.start(start.CALL), 0.3, "s")
    yield at_most(start.HELP, found.start(start.HELP), 0.1, "s")
    answer, bare = found.start(start.INITIALIZE), found.start(start.IMPORT)
    over = None if answer is None or bare is None else answer - bare
    yield at_most("MCP initialize, beyond a bare import mcp", over, 0.3, "s")
    ledger = found.ledger
    yield at_most(
        "taking up 100 segments: with a long history against a short one",
        ratio(ledger.few_s, ledger.few_early_s) if ledger else None,
        1.5,
    )
    yield at_least(
        "a new device: times faster from a snapshot than by replaying",
        ratio(ledger.replay_s, ledger.bootstrap_s) if ledger else None,
        1,
    )
    files = ledger.boot_files if ledger else 1_000_000
    yield at_most(
        f"a new device of {files:,} files, before file data",
        ledger.boot_s if ledger else None,
        30,
        "s",
    )
