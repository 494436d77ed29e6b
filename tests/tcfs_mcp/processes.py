"""The real ``tcfs-mcp`` as a process, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters

MAIN = (sys.executable, "-m", "tcfs_mcp.main")


def environment(home: Path) -> dict[str, str]:
    """Variables of a device whose things all lie below ``home``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TCFS_", "AWS_", "XDG_"))
    }
    return {**kept, "HOME": str(home), "TCFS_HOME": str(home / "tcfs"), "PYTHONWARNINGS": "error"}


def run(home: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``tcfs-mcp`` to its end."""
    return subprocess.run(
        [*MAIN, *words],
        env={**environment(home), **options.pop("env", {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def call(home: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """Run ``tcfs-mcp call`` and return its answer, or its error where ``code`` is not 0."""
    done = run(home, "call", *words)
    assert done.returncode == code, done
    if done.stdout:
        return dict(json.loads(done.stdout))
    return dict(json.loads(done.stderr.splitlines()[-1])["error"])


def stdio(home: Path, *words: str) -> StdioServerParameters:
    """How a client starts a server over stdio."""
    return StdioServerParameters(
        command=MAIN[0], args=[*MAIN[1:], "serve", *words], env=environment(home)
    )


@contextmanager
def http(home: Path, *words: str) -> Iterator[str]:
    """A server over HTTP on a free port; gives its URL once it listens."""
    with serving(home, *words) as (_server, url):
        yield url


@contextmanager
def serving(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same, with its process."""
    server = subprocess.Popen(
        [*MAIN, "serve", "--http", "0", *words],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if "serving http" in line:
                yield server, line.split()[-1]
                break
        else:
            raise AssertionError(f"the server ended with code {server.wait()}")
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=20)
        assert out == "", "stdout is for the protocol alone"
