"""A person at a pseudo-terminal, using the command line on a fake engine."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class Person:
    """Starts a command at a terminal, reads what it shows, and types.

    Args:
        argv: the command's arguments.
        home: the device's home.
        scenario: name of a function in ``tests.cli.child`` that prepares the engine.
        out: file that standard output goes to instead of the terminal.
        environ: more variables.
    """

    def __init__(
        self,
        *argv: str,
        home: Path,
        scenario: str = "plain",
        out: Path | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.record_file = home / "record.json"
        home.mkdir(exist_ok=True)
        ours, theirs = os.openpty()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TCFS_", "NO_COLOR"))}
        env |= {"TCFS_HOME": str(home), "TERM": "xterm", "PYTHONPATH": f"{ROOT / 'core'}:{ROOT}"}
        env |= {"FAKE_SCENARIO": scenario, "FAKE_RECORD": str(self.record_file)}
        env |= environ or {}
        command = [sys.executable, "-W", "error", "-m", "tests.cli.child", *argv]
        stdout: Any = out.open("wb") if out else theirs
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=stdout,
            stderr=theirs,
            cwd=ROOT,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        if out:
            stdout.close()
        self._terminal = ours
        self.screen = ""
        self._seen = 0

    def reads(self, text: str) -> str:
        """Wait until the screen shows ``text`` after what was read before; what came until then."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.screen.find(text, self._seen)) < 0:
            if not self._more(deadline - time.monotonic()):
                raise AssertionError(f"never showed {text!r}:\n{self.screen}")
        start, self._seen = self._seen, found + len(text)
        return self.screen[start : self._seen]

    def types(self, line: str) -> None:
        """Type a line, or with a control character alone just that."""
        os.write(self._terminal, line.encode() if line < " " and line else line.encode() + b"\n")

    def leaves(self) -> int:
        """Wait for the command to end; its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._more(deadline - time.monotonic()):
            pass
        os.close(self._terminal)
        return self._process.wait(PATIENCE_S)

    @property
    def record(self) -> dict[str, Any]:
        """What the fake engine was asked."""
        found: dict[str, Any] = json.loads(self.record_file.read_text())
        return found

    def _more(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], max(timeout, 0))
        if not ready:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.screen += data.decode("utf-8", "replace")
        return bool(data)
