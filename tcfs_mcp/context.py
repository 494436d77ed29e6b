"""What a tool is given besides its arguments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tcfs.errors import BusyError
from tcfs_mcp.bound import BUDGET
from tcfs_mcp.policy import Policy

if TYPE_CHECKING:
    from tcfs.config import LoadedConfig
    from tcfs.sync.facade import Cancel, FleetApi, ProgressFn
    from tcfs_mcp.jobs import Jobs

JOB_AFTER_S = 20.0
PATIENCE_S = 3.0
"""How long to wait for another process, or another call, that holds this device's lock."""
_TRY_AGAIN_S = 0.05

T = TypeVar("T")


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
        patience: seconds to wait for another call or process that holds this device's lock.
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
    patience: float = PATIENCE_S

    @contextmanager
    def fleet(self, *, create: bool = False) -> Iterator[FleetApi]:
        """The engine, opened for this call in this thread and closed afterwards."""
        fleet = self.open(create)
        try:
            yield fleet
        finally:
            fleet.close()

    def patiently(self, work: Callable[[], T], cancelled: Cancel | None = None) -> T:
        """Do ``work``; where something else holds the lock for a moment, try again.

        Assistants call several tools at once. The lock is taken before anything is done, so that
        trying again repeats nothing.

        Raises:
            BusyError: it is still held after ``patience``, or by a job, which may take long.
        """
        stop = cancelled or self.cancelled
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return work()
            except BusyError as error:
                if "job_id" in error.details or stop() or time.monotonic() >= deadline:
                    raise
            time.sleep(_TRY_AGAIN_S)
