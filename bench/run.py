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
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import clients, memory, report, start
from bench.aims import GIB, Found, aims
from bench.ledger import LedgerFigures
from bench.peers import Bench, workloads
from tcfs.config.units import parse_size

PARTS = ("small", "large", "start", "ledger", "live", "memory", "wide", "huge")
USUAL = PARTS[:6]
ROOM = {"small": 12 * GIB, "large": 15 * GIB, "memory": 8 * GIB, "wide": 40 * GIB, "huge": 60 * GIB}
"""Bytes of disk that a part fills by its end, of the small and large trees in each run."""
HERE = Path(__file__).parent


def main() -> None:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    require_room(options)
    work = Path(tempfile.mkdtemp(dir=options.work))
    begun = time.perf_counter()
    notes = list[str]()
    try:
        found, live = measure_all(options, work, notes)
        text = document(found, live, notes, options, time.perf_counter() - begun)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(text)
        (options.out / "results.svg").write_text(report.plot(found.results))
        (options.out / "results.json").write_text(json.dumps(as_json(found), indent=1))
        print(text, flush=True)
    finally:
        say("removing what was made, which can take minutes")
        shutil.rmtree(work)


def require_room(options: argparse.Namespace) -> None:
    """End now rather than when the disk is full."""
    runs = {"small": options.runs, "large": options.runs}
    needed = sum(ROOM.get(part, 0) * runs.get(part, 1) for part in options.parts) * options.scale
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


def measure_all(
    options: argparse.Namespace, work: Path, notes: list[str]
) -> tuple[Found, dict[str, object]]:
    """Everything that was asked for."""
    parts: list[str] = options.parts
    bench = Bench(work, present(options.clients, notes), options.patience)
    known = workloads(options.scale)
    found = Found(bench.results, {})
    if "start" in parts:
        say("start-up")
        found.starts = start.start_up(work / "start", max(options.runs * 3, 3))
    for number in range(options.runs):
        for name in ("small", "large"):
            if name in parts:
                say(f"{name}, run {number + 1} of {options.runs}")
                bench.round(known[name.upper()])
    if "wide" in parts:
        bench.round(known["WIDE"])
    if "ledger" in parts:
        say("history")
        size = max(int(1_000_000 * options.scale), 1000)
        segments = max(int(10_000 * min(options.scale, 1)), 200)
        found.ledger = LedgerFigures(
            **program(
                "ledger.py",
                *("--segments", str(segments), "--devices", "20" if segments >= 2000 else "4"),
                *("--files", str(size)),
            )
        )
    live: dict[str, object] = {}
    if "live" in parts:
        say("from a save to the other device")
        live = program("live.py", "--saves", str(100 if options.scale >= 1 else 10))
    if "memory" in parts or "huge" in parts:
        say("memory")
        sizes = [int(n * options.scale) << 20 for n in (256, 2048) if n * options.scale >= 1]
        files = [max(int(n * options.scale), 100) for n in (10_000, 100_000)]
        if "memory" not in parts:
            sizes, files = [], []
        if "huge" in parts:
            sizes.append(int(options.huge * options.scale))
        found.peaks = tuple(memory.peaks(work, files, sizes))
    return found, live


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
    """The JSON that another benchmark prints."""
    command = [sys.executable, str(HERE / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
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
    blocks = [head, "### Aims\n\n" + report.aims_table(aims(found))]
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
