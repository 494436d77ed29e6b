"""Work that outlasts a call: it goes on in a thread, and a job id asks for it.

Jobs live as long as the server. What a job had finished when the server ended is kept by the
engine, and the same push or pull goes on from there.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from tcfs.errors import BusyError, CancelledError, NotFoundError, TcfsError
from tcfs.sync.facade import Cancel, Progress, ProgressFn
from tcfs_mcp.answers import JobAnswer, JobError, JobProgress, SwitchAnswer, SyncAnswer
from tcfs_mcp.context import Signal

logger = logging.getLogger(__name__)

KEPT = 100
"""Ended jobs that can still be asked for."""

Answer = SyncAnswer | SwitchAnswer
Work = Callable[[ProgressFn, Cancel], Answer]


@dataclass(slots=True)
class Job:
    """One piece of work, in a thread of its own."""

    id: str
    tool: str
    exclusive: bool
    started_at: float
    started: float
    ended: float = 0.0
    cancel: Signal = field(default_factory=Signal)
    done: Signal = field(default_factory=Signal)
    latest: Progress | None = None
    listener: ProgressFn | None = None
    """Whoever still waits for the call that started this job."""
    answer: Answer | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def progress(self, progress: Progress) -> None:
        """Take note of how far the work is, and hand it on."""
        self.latest = progress
        listener = self.listener
        if listener is not None:
            listener(progress)

    @property
    def state(self) -> Literal["running", "done", "failed", "cancelled"]:
        """Where the job is in its life."""
        if not self.done():
            return "running"
        if self.error is None:
            return "done"
        return "cancelled" if isinstance(self.error, CancelledError) else "failed"

    def wait(self, seconds: float, *others: Signal) -> bool:
        """Wait until the job has ended (True), or time is up, or one of ``others`` happened."""
        wake = threading.Event()
        with ExitStack() as stack:
            for signal in (self.done, *others):
                stack.enter_context(signal.told(wake.set))
            wake.wait(seconds)
        return self.done()

    def describe(self) -> JobAnswer:
        """The job as an answer."""
        state = self.state
        error = JobError()
        if isinstance(self.error, TcfsError):
            e = self.error
            error = JobError(e.code, e.exit_code, e.message, e.remedy, e.retryable)
        elif self.error is not None:
            error = JobError(TcfsError.code, TcfsError.exit_code, "unexpected error", "")
        latest = self.latest
        at = JobProgress()
        if latest is not None:
            at = JobProgress(latest.stage, latest.done, latest.total, latest.unit, latest.message)
        result, switch = SyncAnswer("", "running", job_id=self.id), SwitchAnswer()
        if isinstance(self.answer, SwitchAnswer):
            switch, result = self.answer, SyncAnswer(self.answer.summary, "done", job_id=self.id)
        elif self.answer is not None:
            result = self.answer
        summary = f"the {self.tool} is {state}"
        if state == "running" and latest is not None:
            total = f" of {latest.total}" if latest.total else ""
            summary += f": {latest.stage}, {latest.done}{total} {latest.unit}"
        elif self.answer is not None:
            summary += f": {self.answer.summary}"
        elif error.message:
            summary += f": {error.message}"
        return JobAnswer(
            summary=summary,
            job_id=self.id,
            tool=self.tool,
            state=state,
            cancel_requested=self.cancel(),
            started_at=int(self.started_at),
            seconds=round((self.ended or time.monotonic()) - self.started, 3),
            progress=at,
            error=error,
            result=result,
            switch=switch,
        )


class Jobs:
    """The jobs of one server. At most one at a time changes anything."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def start(
        self, tool: str, work: Work, *, exclusive: bool, listener: ProgressFn | None = None
    ) -> Job:
        """Begin ``work`` in a thread.

        Raises:
            BusyError: it is exclusive, and so is a job that is running.
        """
        job = Job(
            id=os.urandom(6).hex(),
            tool=tool,
            exclusive=exclusive,
            started_at=time.time(),
            started=time.monotonic(),
            listener=listener,
        )
        with self._lock:
            for other in self._jobs.values():
                if exclusive and other.exclusive and not other.done():
                    raise BusyError(
                        f"the {other.tool} of job {other.id} is still running",
                        remedy="Wait for it with job_status, or stop it with job_cancel.",
                        details={"job_id": other.id},
                    )
            ended = [job_id for job_id, other in self._jobs.items() if other.done()]
            for job_id in ended[: max(0, len(self._jobs) + 1 - self._kept)]:
                del self._jobs[job_id]
            self._jobs[job.id] = job
        job.thread = threading.Thread(target=self._run, args=(job, work), name=f"job-{job.id}")
        job.thread.start()
        return job

    def _run(self, job: Job, work: Work) -> None:
        try:
            job.answer = work(job.progress, job.cancel)
        except TcfsError as error:
            job.error = error
        except BaseException as error:
            logger.exception("job %s (%s) failed unexpectedly", job.id, job.tool)
            job.error = error
        finally:
            job.ended = time.monotonic()
            job.listener = None
            job.done.set()

    def get(self, job_id: str) -> Job:
        """The job of that id. Raises NotFoundError."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise NotFoundError(
                f"no such job: {job_id[:100]!r}",
                remedy="Jobs live as long as the server. Look at device_status, and start the work "
                "again: it goes on where it stopped.",
            )
        return job

    def all(self) -> list[Job]:
        """Jobs that can be asked for, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def running(self) -> list[Job]:
        """Jobs that have not ended."""
        return [job for job in self.all() if not job.done()]

    def shutdown(self, seconds: float = 30.0) -> None:
        """Stop every job at its next step, and wait for that."""
        deadline = time.monotonic() + seconds
        jobs = self.running()
        for job in jobs:
            job.cancel.set()
        for job in jobs:
            if job.thread is not None:
                job.thread.join(max(0.0, deadline - time.monotonic()))
