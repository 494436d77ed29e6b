"""Benchmarks of whole commands: wall and CPU time, peak memory, bytes stored.

    .venv/bin/python bench/run.py [--work DIR] [--runs N] [--only small|random|log|start] ...

Each line is a whole process, measured by the operating system when it ends; the median of the runs
is given with the smallest and the largest. See bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import trees

BIN = Path(sys.executable).parent
TCFS, CALL = str(BIN / "tcfs"), str(BIN / "tcfs-mcp")


@dataclass
class Sample:
    """One run. Seconds, KiB."""

    wall: float
    cpu: float
    peak: int


@dataclass
class Line:
    """One row of the table."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    stored: int = 0
    note: str = ""


def measure(command: list[str], env: dict[str, str]) -> Sample:
    """Run a command and take its figures; peak memory is that of all its processes together."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], family_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    stop.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{complaint.decode()}")
    # Not ru_maxrss: it remembers the size of the process that was forked to start this one.
    return Sample(wall, usage.ru_utime + usage.ru_stime, peak[0])


def family_memory(pid: int) -> int:
    """Resident memory of a process and its descendants, KiB (Linux; 0 elsewhere)."""
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        try:
            with open(f"/proc/{current}/statm") as statm:
                total += int(statm.read().split()[1]) * 4
            tasks = os.listdir(f"/proc/{current}/task")
            for task in tasks:
                with open(f"/proc/{current}/task/{task}/children") as children:
                    waiting += [int(child) for child in children.read().split()]
        except (OSError, ValueError, IndexError):
            continue
    return total


class World:
    """Two devices in a working directory, fresh for each run.

    Nothing large is removed before all is measured: for minutes afterwards ext4 looks at every
    inode that was freed before it takes one, which makes creating files several times slower.
    """

    def __init__(self, top: Path) -> None:
        self.top = self.work = top

    def env(self, device: str) -> dict[str, str]:
        """A device's environment."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("TCFS_")},
            "TCFS_HOME": str(self.work / device),
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def begin(self) -> None:
        """Devices a and b, with a store of a's, in a directory that was never used."""
        self.work = Path(tempfile.mkdtemp(dir=self.top))
        self.run("a", "init", "--name", "a")
        code = self.run("a", "device", "invite").splitlines()[-1]
        self.run("b", "device", "enroll", "--name", "b", "--invite", code)

    def run(self, device: str, *arguments: str) -> str:
        """A command that is not measured."""
        done = subprocess.run(
            [TCFS, *arguments],
            env=self.env(device),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def stored(self) -> int:
        """Bytes in the store."""
        store = self.work / "a" / "data" / "store"
        return sum(f.stat().st_size for f in store.rglob("*") if f.is_file())


def tree_bench(world: World, tree: Path, name: str, edit: object, lines: dict[str, Line]) -> None:
    """First push, no-op push, push after an edit, pull into an empty place, beside `cp -a`."""

    def line(what: str) -> Line:
        return lines.setdefault(f"{name}: {what}", Line(f"{name}: {what}"))

    world.begin()
    a, b = world.env("a"), world.env("b")
    out = world.work / "out"
    first = line("first push")
    first.samples.append(measure([TCFS, "push", str(tree)], a))
    first.stored = world.stored()
    line("push, nothing changed").samples.append(measure([TCFS, "push", str(tree)], a))
    os.sync()
    line("pull").samples.append(measure([TCFS, "pull", f"tcfs/default/{tree.name}", str(out)], b))
    copy = world.work / "copy"
    os.sync()
    line("cp -a, for comparison").samples.append(
        measure(["cp", "-a", str(tree), str(copy)], dict(os.environ))
    )
    edit()  # type: ignore[operator]
    edited = line("push after the edit")
    before = world.stored()
    edited.samples.append(measure([TCFS, "push", str(tree)], a))
    edited.stored = world.stored() - before


def start_bench(world: World, lines: dict[str, Line]) -> None:
    """Commands that do next to nothing."""
    a = world.env("a")
    for name, command in (
        ("tcfs --help", [TCFS, "--help"]),
        ("tcfs status", [TCFS, "status"]),
        ("tcfs-mcp call device_status", [CALL, "call", "device_status"]),
        ("python -c 'import mcp', for comparison", [sys.executable, "-c", "import mcp"]),
    ):
        lines.setdefault(name, Line(name)).samples.append(measure(command, a))


def table(lines: dict[str, Line]) -> str:
    """The results in Markdown."""
    rows = [
        "| what | wall s (min - max) | CPU s | peak MiB | stored MB |",
        "|---|---|---|---|---|",
    ]
    for line in lines.values():
        walls = sorted(s.wall for s in line.samples)
        spread = f"{statistics.median(walls):.2f} ({walls[0]:.2f} - {walls[-1]:.2f})"
        cpu = statistics.median(s.cpu for s in line.samples)
        peak = max(s.peak for s in line.samples) / 1024
        stored = f"{line.stored / 1e6:.1f}" if line.stored else ""
        rows.append(f"| {line.name} | {spread} | {cpu:.2f} | {peak:.0f} | {stored} |")
    return "\n".join(rows)


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tcfs-bench")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", type=int, default=50_000, help="small files (8 KB each)")
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large files")
    parser.add_argument("--only", choices=("small", "random", "log", "start"), default=None)
    parser.add_argument("--json", type=Path, default=None, help="write all samples here")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = Path(tempfile.mkdtemp(dir=options.work))
    world, lines = World(options.work), dict[str, Line]()
    for run in range(options.runs):
        print(f"run {run + 1} of {options.runs}", file=sys.stderr)
        for kind in ("small", "random", "log"):
            if options.only in (None, kind):
                one_tree(world, kind, options, lines)
        if options.only in (None, "start"):
            world.begin()
            for _ in range(5):
                start_bench(world, lines)
    print(table(lines))
    shutil.rmtree(options.work)
    if options.json is not None:
        data = {name: [vars(s) for s in line.samples] for name, line in lines.items()}
        options.json.write_text(json.dumps(data, indent=1))


def one_tree(world: World, kind: str, options: argparse.Namespace, lines: dict[str, Line]) -> None:
    """One kind of tree, made anew (from the same seed) for each run."""
    tree = Path(tempfile.mkdtemp(dir=options.work)) / kind
    tree.mkdir()
    size = options.large << 20
    if kind == "small":
        trees.small_tree(tree, options.small, options.small * 8000)
        name = f"{options.small} small files"
        tree_bench(world, tree, name, lambda: trees.edit_small_tree(tree), lines)
        return
    maker = trees.random_file if kind == "random" else trees.log_file
    maker(tree / f"{kind}.bin", size)
    name = f"{options.large} MiB {kind}"
    edit = trees.insert_bytes
    tree_bench(world, tree, name, lambda: edit(tree / f"{kind}.bin", size // 2, b"x" * 1024), lines)


if __name__ == "__main__":
    main()
