"""Running a command and taking its figures."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.02
"""Seconds between two looks at memory."""


@dataclass(frozen=True)
class Command:
    """A program to run, in a directory and with variables beside this process's own."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    cwd: Path | None = None


@dataclass(frozen=True)
class Sample:
    """Figures of one run: seconds, bytes, requests. None where nothing was counted.

    Attributes:
        cpu: user and system time of the client's processes, without any server's.
        peak: resident memory of all the client's processes together.
        sent, received, requests: as the server counted them: bodies, without headers.
        stored: what the store grew by.
    """

    wall: float
    cpu: float
    peak: int
    sent: int | None = None
    received: int | None = None
    requests: int | None = None
    stored: int | None = None


@dataclass(frozen=True)
class Ran:
    """A run with what it printed."""

    sample: Sample
    output: str


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without tcfs's, and these. Bytecode is kept, as for users."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**inherited, **own}


def run(command: Command) -> str:
    """Run what is not measured; what it printed. Raises Failed if it fails."""
    done = subprocess.run(
        list(command.argv),
        env=environment(command.environ),
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        _failed(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


def measure(command: Command) -> Ran:
    """Run a command and take its figures. Raises Failed if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command.argv),
        env=environment(command.environ),
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(EVERY_S):
            peak[0] = max(peak[0], family_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert process.stdout is not None
        output = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    finally:
        stop.set()
        watcher.join()
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        _failed(command, process.returncode, output)
    # Not ru_maxrss: it remembers the size of the process that was forked to start this one.
    return Ran(Sample(wall, usage.ru_utime + usage.ru_stime, peak[0]), output)


class Failed(SystemExit):
    """What was to be measured did not work; ends a program that nobody asked to go on."""


def _failed(command: Command, code: int, output: str) -> None:
    raise Failed(f"{' '.join(command.argv[:3])} ...: exit {code}\n{output[-3000:]}")


def family_memory(pid: int) -> int:
    """Resident memory of a process and its descendants, bytes (Linux; 0 elsewhere)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, waiting = 0, [pid]
    while waiting:
        current = waiting.pop()
        try:
            with open(f"/proc/{current}/statm") as statm:
                total += int(statm.read().split()[1]) * page
            for task in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{task}/children") as children:
                    waiting += [int(child) for child in children.read().split()]
        except (OSError, ValueError, IndexError):
            continue
    return total
