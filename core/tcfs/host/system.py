"""The machine itself: what the engine gets when it is not a test."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from tcfs.host.base import Ahead, Executor, Host
from tcfs.host.executor import ProcessExecutor, SerialExecutor
from tcfs.host.lock import file_lock
from tcfs.host.posix import PosixFileSystem

__all__ = ["SystemClock", "SystemEntropy", "file_lock", "system_executor", "system_host"]


class SystemClock:
    """The system's clocks, in seconds."""

    def now(self) -> float:
        """Unix time. It can jump; for people only."""
        return time.time()

    def monotonic(self) -> float:
        """Never goes back; its zero means nothing."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SystemEntropy:
    """The system's random source, fit for keys."""

    def token(self, size: int) -> bytes:
        """``size`` random bytes."""
        return os.urandom(size)


def system_executor(workers: int) -> Executor:
    """Processes for the CPU stage, or none where one worker is asked for; 0 for one per core."""
    workers = workers or os.cpu_count() or 1
    return ProcessExecutor(workers) if workers > 1 else SerialExecutor()


def _look_ahead(top: bytes, avoided: Sequence[bytes]) -> Ahead | None:
    from tcfs.host.ahead import look_ahead  # few commands look at a large tree

    return look_ahead(top, avoided)


def system_host() -> Host:
    """This machine."""
    return Host(
        files=PosixFileSystem(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        executor=system_executor,
        lock=file_lock,
        ahead=_look_ahead,
    )
