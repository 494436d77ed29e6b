"""Showing how far a long operation is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tcfs.cli.terminal import Terminal, clean

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from tcfs.sync.facade import Progress, ProgressFn

PATIENCE_S: Final = 0.4
"""Work that ends sooner shows no bar, and does not pay for importing rich."""
INTERVAL_S: Final = 0.1


class ProgressBar:
    """A bar on standard error: one line, showing the current stage. Safe to call from threads."""

    def __init__(self, *, colours: bool = True) -> None:
        self._colours = colours
        self._lock = threading.Lock()
        self._start = self._shown = time.monotonic()
        self._stage = ""
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._unit = ""

    def __call__(self, progress: Progress) -> None:
        """Take note of progress, and show it now and then."""
        now = time.monotonic()
        if now - self._start < PATIENCE_S:
            return
        with self._lock:
            same = progress.stage == self._stage
            if same and now - self._shown < INTERVAL_S and progress.done != progress.total:
                return
            self._shown, self._stage = now, progress.stage
            self._show(progress)

    def close(self) -> None:
        """Take the bar away."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = self._task = None
            self._start = float("inf")

    def pause(self) -> None:
        """Take the bar away until the next report, so that a line can be written."""
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = self._task = None

    def _show(self, progress: Progress) -> None:
        if self._bars is None or self._unit != progress.unit:
            if self._bars is not None:
                self._bars.stop()
            self._bars, self._unit = _bars(progress.unit, self._colours), progress.unit
            self._task = self._bars.add_task("", total=None)
            self._bars.start()
        assert self._task is not None
        label = clean(progress.stage)
        if progress.message:
            label += f": {clean(progress.message)[-40:]}"
        self._bars.update(
            self._task,
            description=label,
            completed=progress.done,
            total=progress.total or None,
        )


def _bars(unit: str, colours: bool) -> Bars:
    """Columns for bytes or for counted things. What they show is plain text, never markup."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    if unit == "bytes":
        columns += [DownloadColumn(binary_units=True), TransferSpeedColumn()]
    else:
        columns += [MofNCompleteColumn(), TextColumn(clean(unit), markup=False)]
    columns.append(TimeRemainingColumn(compact=True))
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, no_color=not colours)
    return Bars(*columns, console=console, transient=True, refresh_per_second=8)


@contextmanager
def progress_bar(terminal: Terminal) -> Iterator[ProgressFn | None]:
    """What to pass as ``progress``: a bar at a terminal, None where nobody would see it."""
    if not terminal.shows_progress:
        yield None
        return
    bar = ProgressBar(colours=terminal.colours)
    terminal.before_err = bar.pause
    try:
        yield bar
    finally:
        terminal.before_err = None
        bar.close()
