"""tcfs as its users have it: from a wheel, in an environment of its own.

The checkout's own is editable, and what finds the modules of such an installation adds up to a
tenth of a second to each start. Libraries are those of the environment that runs the benchmark.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "build" / "bench-tcfs"


@functools.cache
def programs() -> Path:
    """The directory of ``tcfs``, ``tcfs-mcp`` and ``python``, installed from what stands here now.

    Raises:
        SystemExit: it cannot be installed.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    with tempfile.TemporaryDirectory() as made:
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(ENVIRONMENT)])
        _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", made, str(ROOT)])
        (wheel,) = Path(made).glob("*.whl")
        there = ["--python", str(ENVIRONMENT / "bin" / "python")]
        _run([*pip, *there, "install", "--no-deps", "--no-index", str(wheel)])
    paths = {"base": str(ENVIRONMENT), "platbase": str(ENVIRONMENT)}
    libraries = Path(sysconfig.get_path("purelib", vars=paths)) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    return ENVIRONMENT / "bin"


def program(name: str) -> str:
    """The path of one of them."""
    return str(programs() / name)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"tcfs cannot be installed:\n{done.stderr}")
