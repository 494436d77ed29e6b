"""Progress from the engine's thread to the client, thinned out and always growing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tcfs.sync.facade import Progress
from tcfs_mcp.bound import clean

MIN_INTERVAL_S = 0.1

Send = Callable[[float, "float | None", "str | None"], Awaitable[None]]


class ProgressRelay:
    """Takes progress in any thread (``tell``) and sends the newest from the event loop (``run``).

    The engine counts each stage from zero, while a client must never see a number shrink: stages
    are added up.
    """

    def __init__(self, send: Send, *, interval: float = MIN_INTERVAL_S) -> None:
        self._send = send
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._latest: Progress | None = None
        self._told_at = 0.0
        self._told_stage = ""
        self._before = 0
        self._stage = ""
        self._stage_done = 0
        self._sent = -1.0

    def tell(self, progress: Progress) -> None:
        """Take note of progress. Never blocks the engine."""
        ends = bool(progress.total) and progress.done >= progress.total
        now = time.monotonic()
        if progress.stage == self._told_stage and not ends and now - self._told_at < self._interval:
            return
        self._told_at, self._told_stage = now, progress.stage
        try:
            self._loop.call_soon_threadsafe(self._note, progress)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            return

    def _note(self, progress: Progress) -> None:
        if progress.stage != self._stage:
            self._before += self._stage_done
            self._stage, self._stage_done = progress.stage, 0
        self._stage_done = max(self._stage_done, progress.done)
        self._latest = progress
        self._wake.set()

    async def run(self) -> None:
        """Send what is new, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            latest = self._latest
            value = float(self._before + self._stage_done)
            if latest is None or value <= self._sent:
                continue
            self._sent = value
            total = float(self._before + latest.total) if latest.total else None
            await self._send(value, total, describe(latest))


def describe(progress: Progress) -> str:
    """One line for people."""
    total = f" of {progress.total}" if progress.total else ""
    line = f"{progress.stage}: {progress.done}{total} {progress.unit}"
    return clean(f"{line} ({progress.message})" if progress.message else line, multiline=False)
