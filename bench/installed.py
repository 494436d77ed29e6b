"""tcfs as its users have it: from a wheel, in an environment of its own.

The checkout's own is editable, and what finds the modules of such an installation adds up to a
tenth of a second to each start. Libraries are those of the environment that runs the benchmark.
Each process that measures has one, which ends with it: two may run at once.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


@functools.cache
def programs() -> Path:
    """The directory of ``tcfs``, ``tcfs-mcp`` and ``python``, installed from what stands here now.

    Raises:
        SystemExit: it cannot be installed.
    """
    there = Path(tempfile.mkdtemp(prefix="tcfs-bench-"))
    atexit.register(shutil.rmtree, there, ignore_errors=True)
    python = str(there / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    with tempfile.TemporaryDirectory() as made:
        _run([sys.executable, "-m", "venv", "--without-pip", str(there)])
        _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", made, str(ROOT)])
        (wheel,) = Path(made).glob("*.whl")
        _run([*pip, "--python", python, "install", "--no-deps", "--no-index", str(wheel)])
    paths = {"base": str(there), "platbase": str(there)}
    libraries = Path(sysconfig.get_path("purelib", vars=paths)) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    return there / "bin"


def program(name: str) -> str:
    """The path of one of them."""
    return str(programs() / name)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tcfs cannot be installed:\n{done.stderr}")
