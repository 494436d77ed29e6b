"""What others can read of a running daemon: a small file that it keeps up to date, and its lock.

The lock says whether a daemon runs, whatever the file says; the file says how it is. Reading takes
neither the engine nor its libraries.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Final, Literal

from msgspec import MsgspecError, Struct, convert, field, to_builtins
from msgspec.structs import replace

FILE: Final = "daemon.json"
LOCK: Final = "daemon.lock"
FRESH_S: Final = 60.0
"""A daemon writes its report every few seconds; one older than this hangs, or is stopped."""

State = Literal["running", "not running", "not responding"]
LiveMode = Literal["live", "polling"]


class RootReport(Struct, frozen=True):
    """How one enrolled directory stands. Times are unix seconds, 0 for never."""

    local: str
    remote: str
    state: str
    """``starting``, ``in sync``, ``pending``, ``waiting`` (for what the fleet has), ``problem``."""
    tracked: int = 0
    pending: int = 0
    """Local paths that are to be pushed."""
    last_push: float = 0.0
    last_pull: float = 0.0
    problem: str = ""
    remedy: str = ""


class Report(Struct, frozen=True):
    """A daemon at a glance."""

    state: State = "not running"
    message: str = ""
    pid: int = 0
    version: str = ""
    started_at: float = 0.0
    updated_at: float = 0.0
    live: LiveMode = "polling"
    """Whether changes of other devices are told of at once, or found by looking at the store."""
    live_message: str = ""
    store_problem: str = ""
    warnings: tuple[str, ...] = ()
    """What will be a problem soon: certificates that expire."""
    roots: tuple[RootReport, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)


def write(directory: Path, report: Report) -> None:
    """Replace the report. Raises OSError."""
    path = directory / FILE
    temp = directory / f".{FILE}.new"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        # ASCII: a path in a message may hold bytes that are no text.
        file.write(json.dumps(to_builtins(report)).encode())
    os.replace(temp, path)


def read(directory: Path) -> Report:
    """How the daemon of a state directory is now."""
    pid = running_pid(directory)
    if pid is None:
        return Report(
            message="No daemon runs for this device. Files move when push, pull or sync is called; "
            "to keep directories in sync, run: tcfs daemon"
        )
    try:
        report = convert(json.loads((directory / FILE).read_bytes()), type=Report)
    except (OSError, ValueError, MsgspecError):
        report = Report()
    if report.pid != pid:
        return Report(state="running", pid=pid, message="The daemon is starting.")
    age = time.time() - report.updated_at
    if age > FRESH_S:
        return replace(
            report,
            state="not responding",
            message=f"The daemon (process {pid}) has not reported for {age:.0f} s.",
        )
    return report


def running_pid(directory: Path) -> int | None:
    """The process that holds the daemon's lock, 0 if it does not say; None if none does."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two who look at once do not take each other for a daemon.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 20, 0).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None
