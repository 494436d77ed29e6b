"""Devices that run ``tcfs`` as programs, for tests of the daemon as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tcfs.service.daemon import report as reports

PATIENCE_S = 60.0
TCFS = str(Path(sys.executable).with_name("tcfs"))


class Machine:
    """A device that runs ``tcfs`` as programs."""

    def __init__(self, top: Path, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self.home = top / name / "home"
        self.tree = top / name / "tree"
        self.tree.mkdir(parents=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
        self.environ = {**inherited, "TCFS_HOME": str(self.home), **environ}
        self.log = top / name / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def tcfs(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            [TCFS, *arguments], env=self.environ, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == expect, done.stderr + done.stdout
        return done.stdout

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [TCFS, "daemon"], env=self.environ, stdin=subprocess.DEVNULL, stderr=log
            )

    def end(self, number: int = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        return process.wait(PATIENCE_S)

    @property
    def report(self) -> reports.Report:
        return reports.read(self.home / "state")

    def in_sync(self, live: str = "live") -> bool:
        report = self.report
        return report.live == live and [root.state for root in report.roots] == ["in sync"]

    def read(self, name: str) -> str:
        try:
            return (self.tree / name).read_text()
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)
