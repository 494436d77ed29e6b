"""What a tool is given besides its arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcfs_mcp.bound import BUDGET
from tcfs_mcp.policy import Policy

if TYPE_CHECKING:
    from tcfs.config import LoadedConfig
    from tcfs.sync.facade import FleetApi, ProgressFn
    from tcfs_mcp.jobs import Jobs

JOB_AFTER_S = 20.0


class Signal:
    """Something that happens once: a call was cancelled, a job ended. Safe between threads.

    Called, it says whether it happened, so that it can be handed to the engine as its ``Cancel``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    def __call__(self) -> bool:
        return self._set

    def set(self) -> None:
        """Let it happen and tell whoever waits."""
        with self._lock:
            if self._set:
                return
            self._set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def told(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` when it happens (at once if it has) while the context lasts."""
        with self._lock:
            already = self._set
            if not already:
                self._callbacks.append(callback)
        if already:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)


@dataclass(slots=True)
class ToolContext:
    """What a tool works with.

    Attributes:
        load: reads the configuration.
        open: opens this device on its repository; with True it may create the embedded store.
        policy: what this caller may do.
        jobs: where long work goes; None where it has to be waited for (``call``).
        budget: characters of JSON that the answer may take.
        progress: told how far long work is.
        cancelled: true once the caller gave up.
        approved_deletes: deletions that a person agreed to during this call; -1 for none.
        job_after: seconds after which a running push or pull becomes a job.
        notices: what happened by the way, such as a store that was created.
    """

    load: Callable[[], LoadedConfig]
    open: Callable[[bool], FleetApi]
    policy: Policy = field(default_factory=Policy)
    jobs: Jobs | None = None
    budget: int = BUDGET
    progress: ProgressFn | None = None
    cancelled: Signal = field(default_factory=Signal)
    approved_deletes: int = -1
    job_after: float = JOB_AFTER_S
    notices: list[str] = field(default_factory=list)

    @contextmanager
    def fleet(self, *, create: bool = False) -> Iterator[FleetApi]:
        """The engine, opened for this call in this thread and closed afterwards."""
        fleet = self.open(create)
        try:
            yield fleet
        finally:
            fleet.close()
