"""What tools answer where a result of the engine is too much, or where there is none.

As in ``tcfs.sync.results``: paths are escaped text, sizes are bytes, times are unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tcfs.sync import results as r


@dataclass(frozen=True, slots=True)
class VersionBrief:
    """One version of one path, without hashes and clocks (``why`` has them)."""

    id: str
    path: str
    op: str
    kind: str
    size: int
    device: str
    actor: str
    written_at: int
    segment: str
    live: bool
    moved_from: str = ""

    @classmethod
    def of(cls, version: r.VersionInfo) -> VersionBrief:
        """The short form of a version."""
        return cls(
            id=version.id,
            path=version.path,
            op=version.op,
            kind=version.kind,
            size=version.size,
            device=version.device,
            actor=version.actor,
            written_at=version.written_at,
            segment=version.segment,
            live=version.live,
            moved_from=version.moved_from,
        )


@dataclass(frozen=True, slots=True)
class ConflictBrief:
    """A path with more than one live version."""

    path: str
    versions: tuple[VersionBrief, ...]
    local_version: str = ""
    would_win: str = ""

    @classmethod
    def of(cls, conflict: r.ConflictInfo) -> ConflictBrief:
        """The short form of a conflict."""
        return cls(
            path=conflict.path,
            versions=tuple(VersionBrief.of(v) for v in conflict.versions),
            local_version=conflict.local_version,
            would_win=conflict.would_win,
        )


@dataclass(frozen=True, slots=True)
class ConflictList:
    """Conflicts in path order. Give ``next`` back as ``after`` for more; empty at the end."""

    conflicts: tuple[ConflictBrief, ...]
    total: int
    next: str = ""


@dataclass(frozen=True, slots=True)
class LogList:
    """Versions, newest first. Give ``next`` back as ``before`` for more; empty at the end."""

    versions: tuple[VersionBrief, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """The outcome of a push, pull or restore, or the job that is still at it.

    ``status`` is ``planned`` for a dry run and ``running`` if ``job_id`` is to be asked for. The
    lists may be shortened; the counts are of everything.
    """

    summary: str
    status: Literal["done", "planned", "running"]
    job_id: str = ""
    plan: r.Plan = field(default_factory=lambda: r.Plan("", {}, 0, 0, ()))
    transfer: r.Transfer = field(default_factory=r.Transfer)
    conflicts: tuple[ConflictBrief, ...] = ()
    conflict_count: int = 0
    resolved: tuple[str, ...] = ()
    conflict_copies: tuple[str, ...] = ()
    problems: tuple[r.Problem, ...] = ()
    problem_count: int = 0
    segment: str = ""
    remote: str = ""
    local: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchAnswer:
    """What a switch of this machine's configuration did, or would do.

    ``status`` is ``planned`` for a dry run and ``running`` if ``job_id`` is to be asked for.
    ``rollback`` brings the generation before back. ``output`` is the end of what the program said.
    """

    summary: str = ""
    status: Literal["", "done", "planned", "running"] = ""
    job_id: str = ""
    plan: str = ""
    host: str = ""
    manager: str = ""
    command: tuple[str, ...] = ()
    needs: str = ""
    generation: int = 0
    rollback: str = ""
    seconds: float = 0.0
    output: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is. ``total`` is 0 while unknown."""

    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed; all empty if it did not."""

    code: str = ""
    exit_code: int = 0
    message: str = ""
    remedy: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """A job, how far it is, and its result or error once it has ended.

    ``switch`` is the result of fleet_switch, ``result`` that of everything else.
    """

    summary: str
    job_id: str
    tool: str
    state: Literal["running", "done", "failed", "cancelled"]
    cancel_requested: bool
    started_at: int
    seconds: float
    progress: JobProgress = field(default_factory=JobProgress)
    error: JobError = field(default_factory=JobError)
    result: SyncAnswer = field(default_factory=lambda: SyncAnswer("", "running"))
    switch: SwitchAnswer = field(default_factory=SwitchAnswer)
