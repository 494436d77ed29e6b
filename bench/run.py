"""All benchmarks, in one run: tcfs beside its peers and the bare limits, and what it costs itself.

    .venv/bin/python bench/run.py [--runs 3] [--scale 1] [--parts small,large,start,...]

Writes results.md, results.svg and results.json into ``--out`` and prints the tables. How to read
them is in bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import clients, memory, report, start
from bench.aims import GIB, Found, aims
from bench.ledger import LedgerFigures
from bench.measure import Failed
from bench.peers import Bench, workloads
from tcfs.config.units import parse_size

PARTS = ("small", "large", "start", "ledger", "live", "memory", "wide", "huge")
USUAL = PARTS[:6]
ROOM = {"small": 5 * GIB, "large": 10 * GIB, "memory": 8 * GIB, "wide": 40 * GIB, "huge": 60 * GIB}
"""Bytes of disk that a part fills; of the small trees in each run, since they stay."""
HERE = Path(__file__).parent
PROGRAM_TIMEOUT_S = 900


def main() -> None:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    require_room(options)
    work = Path(tempfile.mkdtemp(dir=options.work))
    run = Run(options)
    try:
        run.all_parts(work)
        run.write()
        print((options.out / "results.md").read_text(), flush=True)
    finally:
        say("removing what was made, which can take minutes")
        shutil.rmtree(work)
    if run.failed:
        sys.exit(1)


class Run:
    """What was measured so far; written whenever there is more, so that a stop loses nothing."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.notes = list[str]()
        self.found = Found({}, {})
        self.live: dict[str, object] = {}
        self.failed = False
        self._begun = time.perf_counter()

    def write(self) -> None:
        """The report, as far as it goes."""
        seconds = time.perf_counter() - self._begun
        out: Path = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        text = document(self.found, self.live, self.notes, self.options, seconds)
        (out / "results.md").write_text(text)
        (out / "results.svg").write_text(report.plot(self.found.results))
        (out / "results.json").write_text(json.dumps(as_json(self.found), indent=1))

    def all_parts(self, work: Path) -> None:
        """Everything that was asked for."""
        options, parts = self.options, self.options.parts
        bench = Bench(
            work,
            present(options.clients, self.notes),
            options.patience,
            results=self.found.results,
            notes=self.notes,
            told=self.write,
        )
        known = workloads(options.scale)
        if "start" in parts:
            self._part("start-up", lambda: self._start_up(work))
        for number in range(options.runs):
            for name in ("small", "large"):
                if name in parts:
                    self._part(
                        f"{name}, run {number + 1} of {options.runs}",
                        lambda name=name: bench.round(known[name.upper()]),  # type: ignore[misc]
                    )
        if "wide" in parts:
            self._part("wide", lambda: bench.round(known["WIDE"]))
        if "ledger" in parts:
            self._part("history", self._ledger)
        if "live" in parts:
            self._part("from a save to the other device", self._live)
        if "memory" in parts or "huge" in parts:
            self._part("memory", lambda: self._memory(work))

    def _part(self, what: str, measure: Callable[[], None]) -> None:
        """One part; if it fails, that is noted, and the others go on."""
        say(what)
        try:
            measure()
        except Failed as failure:
            self.failed = True
            self.notes.append(f"FAILED: {what}: {str(failure).strip().splitlines()[0][:200]}")
            say(str(failure))
        self.write()

    def _start_up(self, work: Path) -> None:
        self.found.starts = start.start_up(work / "start", max(self.options.runs * 3, 3))

    def _ledger(self) -> None:
        scale = self.options.scale
        size = max(int(1_000_000 * scale), 1000)
        segments = max(int(10_000 * min(scale, 1)), 200)
        self.found.ledger = LedgerFigures(
            **program(  # type: ignore[arg-type]
                "ledger.py",
                *("--segments", str(segments), "--devices", "20" if segments >= 2000 else "4"),
                *("--files", str(size)),
            )
        )

    def _live(self) -> None:
        self.live = program("live.py", "--saves", "100" if self.options.scale >= 1 else "10")

    def _memory(self, work: Path) -> None:
        options = self.options
        sizes = [int(n * options.scale) << 20 for n in (256, 2048) if n * options.scale >= 1]
        files = [max(int(n * options.scale), 100) for n in (10_000, 100_000)]
        if "memory" not in options.parts:
            sizes, files = [], []
        if "huge" in options.parts:
            sizes.append(int(options.huge * options.scale))
        self.found.peaks = tuple(memory.peaks(work, files, sizes))


def require_room(options: argparse.Namespace) -> None:
    """End now rather than when the disk is full."""
    wanted = {part: ROOM.get(part, 0) for part in options.parts}
    stays = wanted.pop("small", 0) * options.runs
    needed = (stays + max(wanted.values(), default=0)) * options.scale
    free = shutil.disk_usage(options.work).free
    if needed > free:
        sys.exit(
            f"{options.work} has {free / GIB:.0f} GiB free, and {needed / GIB:.0f} may be needed: "
            "give another --work, fewer --parts, --runs or --clients, or a smaller --scale"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tcfs-bench")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the trees; 0.02 to try it out")
    parser.add_argument(
        "--parts",
        default=",".join(USUAL),
        help=f"any of {', '.join(PARTS)}; wide and huge take long and are left out by default",
    )
    parser.add_argument(
        "--clients",
        default="",
        help="names as in the tables with ; between them; tcfs on file:// always takes part",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=15.0,
        help="a peer other than restic whose first push took longer, in seconds, is measured once",
    )
    parser.add_argument(
        "--huge",
        default="20 GiB",
        help="bytes of the huge file; the disk takes it twice, and the store's half of it",
    )
    options = parser.parse_args()
    options.huge = parse_size(options.huge)
    options.parts = options.parts.split(",")
    wrong = set(options.parts) - set(PARTS)
    if wrong:
        parser.error(f"no part is called {', '.join(sorted(wrong))}")
    return options


def present(names: str, notes: list[str]) -> tuple[type[clients.Client], ...]:
    """The clients that take part and are here; what is missing is noted."""
    wanted = [name.strip() for name in names.split(";")] if names else []
    chosen = [
        kind
        for kind in clients.ALL
        if kind is clients.Tcfs
        or kind.name in wanted
        or (not wanted and kind not in clients.ASKED_FOR)
    ]
    wheels = [kind for kind in chosen if f"{kind.program}-bin" in clients.WHEELS]
    problem = clients.install_wheels() if wheels else ""
    if problem:
        notes.append(f"not installed: {problem}")
    here = [kind for kind in chosen if not kind.missing()]
    notes += [f"not here, and left out: {kind.name}" for kind in chosen if kind not in here]
    notes += [kind.version() for kind in here if not issubclass(kind, clients.TcfsS3)]
    return tuple(here)


def program(name: str, *arguments: str) -> dict[str, object]:
    """The JSON that another benchmark prints. Raises Failed."""
    command = [sys.executable, str(HERE / name), *arguments]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=PROGRAM_TIMEOUT_S
        )
    except subprocess.SubprocessError as error:
        raise Failed(f"{name}: {error}") from None
    told: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    return told


def document(
    found: Found,
    live: dict[str, object],
    notes: list[str],
    options: argparse.Namespace,
    seconds: float,
) -> str:
    """The whole report in Markdown."""
    what = workloads(options.scale)
    head = (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{options.runs} runs, {seconds / 60:.0f} minutes in all. {'; '.join(notes)}."
    )
    blocks = [
        head,
        "### Wall seconds, median (smallest - largest)\n\n" + report.summary(found.results),
        "### Aims\n\n" + report.aims_table(aims(found)),
    ]
    for workload in dict.fromkeys(key.workload for key in found.results):
        blocks.append(
            f"### {workload}: {what[workload].what}\n\n"
            + report.results_table(found.results, workload)
        )
    blocks.append(report.others(found))
    if live:
        rows = [(key, str(value)) for key, value in live.items()]
        blocks.append(
            "### From a save to the bytes on another device\n\n"
            + report.table(rows, ("what", "measured"))
        )
    return "\n\n".join(block for block in blocks if block) + "\n"


def as_json(found: Found) -> dict[str, object]:
    """All samples."""
    return {
        "results": [
            {**key._asdict(), "samples": [asdict(s) for s in samples]}
            for key, samples in found.results.items()
        ],
        "starts": {name: [s.wall for s in samples] for name, samples in found.starts.items()},
        "ledger": asdict(found.ledger) if found.ledger else None,
        "peaks": [peak._asdict() for peak in found.peaks],
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
