"""Programs from npm, pinned, in a cache outside the repository; without Node tests are skipped."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

LEAST_NODE = 20


def installed(package: str) -> Path:
    """The folder ``node_modules`` with this package (``name@version``) in it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"node and npm are not installed: {package} was not run")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < LEAST_NODE:
        pytest.skip(f"node {version.strip()} is older than {LEAST_NODE}: {package} was not run")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "tcfs-tests" / package.rpartition("/")[2]
    modules = folder / "node_modules"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (modules / package.rpartition("@")[0]).exists():
            command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.skip(f"npm could not install {package}: {done.stderr[-300:]}")
    return modules
