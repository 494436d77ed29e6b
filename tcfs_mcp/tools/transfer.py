"""push and pull: what changes the store, and what changes this device's files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from tcfs.errors import CancelledError, LimitError
from tcfs.sync import results as r
from tcfs.sync.facade import Cancel, FleetApi, ProgressFn
from tcfs_mcp.answers import ConflictBrief, SyncAnswer
from tcfs_mcp.context import ToolContext
from tcfs_mcp.policy import NOT_GIVEN

DryRun = Annotated[bool, Field(description="Only say what would happen; returns a plan with hash.")]
PlanHash = Annotated[
    str,
    Field(
        description="Hash of a plan from a dry run with the same arguments: do exactly that, or "
        "refuse if anything changed since. Empty: plan and do in one step."
    ),
]
MaxDelete = Annotated[
    int,
    Field(
        ge=-1,
        description="Most deletions to allow in this call; a deliberate yes where more files than "
        "the configured share would go. -1: the configured share.",
    ),
]
MaxBytes = Annotated[
    int, Field(ge=-1, description="Most bytes of content to move in this call. -1: no own limit.")
]
Background = Annotated[
    bool, Field(description="Return a job id at once; ask for the outcome with job_status.")
]


def push(
    ctx: ToolContext,
    local_path: Annotated[
        str,
        Field(
            min_length=1,
            description="File or directory of this device to send: an absolute path, or one below "
            "the working directory of tcfs-mcp. A path inside the sync root keeps its place.",
        ),
    ],
    as_remote: Annotated[
        str,
        Field(
            description="Where it goes, such as docs/notes or tcfs/default/docs/notes. Empty: its "
            "place in the sync root, or else its base name."
        ),
    ] = "",
    dry_run: DryRun = False,
    plan: PlanHash = "",
    max_delete: MaxDelete = NOT_GIVEN,
    max_bytes: MaxBytes = NOT_GIVEN,
    background: Background = False,
) -> SyncAnswer:
    """Send the changes of a local file or directory to the fleet's store.

    New, changed, moved and deleted files are found by comparing with what was last synced;
    unchanged content is not sent again. Concurrent edits of other devices are never overwritten:
    both versions are kept and listed under conflicts. Plan first with dry_run, then pass the
    plan's hash to do exactly that. Work that takes long goes on as a job: see job_status.
    """
    path = ctx.policy.local_path(local_path)

    def send(fleet: FleetApi, progress: ProgressFn | None, cancel: Cancel) -> r.SyncResult:
        ctx.policy.check_path(path)
        return fleet.push(
            [path],
            as_remote=as_remote,
            dry_run=dry_run,
            plan=plan,
            limits=ctx.policy.limits(max_delete, max_bytes, ctx.approved_deletes),
            progress=progress,
            cancel=cancel,
        )

    return _run(ctx, "push", send, dry_run=dry_run, background=background, create=not dry_run)


def pull(
    ctx: ToolContext,
    remote_path: Annotated[
        str,
        Field(
            description="What to fetch, such as docs or tcfs/default/docs. Empty: everything of "
            "the default namespace."
        ),
    ] = "",
    local_path: Annotated[
        str,
        Field(
            description="Where it goes on this device: an absolute path, or one below the working "
            "directory of tcfs-mcp. Empty: its place in the sync root."
        ),
    ] = "",
    dry_run: DryRun = False,
    plan: PlanHash = "",
    mode: Annotated[
        Literal["", "auto", "interactive", "defer"],
        Field(
            description="What to do with conflicts: auto settles them by the namespace's strategy, "
            "defer and interactive leave them standing. Empty: as configured."
        ),
    ] = "",
    max_delete: MaxDelete = NOT_GIVEN,
    max_bytes: MaxBytes = NOT_GIVEN,
    background: Background = False,
) -> SyncAnswer:
    """Fetch the changes of other devices and write them to this device's files.

    Everything is verified before it is used. A local file that changed meanwhile is never
    overwritten: that is a conflict, and both versions are kept. Plan first with dry_run, then
    pass the plan's hash to do exactly that. Work that takes long goes on as a job: see job_status.
    """
    path = ctx.policy.local_path(local_path) if local_path else b""

    def fetch(fleet: FleetApi, progress: ProgressFn | None, cancel: Cancel) -> r.SyncResult:
        if path:
            ctx.policy.check_path(path)
        else:
            ctx.policy.check_tracked(fleet)
        return fleet.pull(
            remote_path,
            path,
            dry_run=dry_run,
            plan=plan,
            limits=ctx.policy.limits(max_delete, max_bytes, ctx.approved_deletes),
            mode=mode,
            progress=progress,
            cancel=cancel,
        )

    return _run(ctx, "pull", fetch, dry_run=dry_run, background=background, create=False)


Step = Callable[[FleetApi, "ProgressFn | None", Cancel], r.SyncResult]


def _run(
    ctx: ToolContext, tool: str, step: Step, *, dry_run: bool, background: bool, create: bool
) -> SyncAnswer:
    """Do the work: here if there are no jobs, else as a job that this call waits for a while."""

    def work(progress: ProgressFn | None, cancel: Cancel) -> SyncAnswer:
        return ctx.patiently(lambda: once(progress, cancel), cancel)

    def once(progress: ProgressFn | None, cancel: Cancel) -> SyncAnswer:
        with ctx.fleet(create=create) as fleet:
            try:
                return sync_answer(tool, step(fleet, progress, cancel), ctx.notices)
            except LimitError as error:
                error.remedy = (
                    "Look at the plan with dry_run=true. If it is what the user wants, call "
                    f"{tool} again with max_delete or max_bytes set to what is needed."
                )
                raise

    if ctx.jobs is None:
        return work(ctx.progress, ctx.cancelled)
    listener = None if background else ctx.progress
    job = ctx.jobs.start(tool, work, exclusive=not dry_run, listener=listener)
    if background:
        return _still_running(job.id, tool)
    job.wait(ctx.job_after, ctx.cancelled)
    if ctx.cancelled() and not job.done():
        # The engine ends at its next step, with everything finished so far kept.
        job.cancel.set()
        raise CancelledError(f"the {tool} was stopped")
    if not job.done():
        job.listener = None
        return _still_running(job.id, tool)
    if job.error is not None:
        raise job.error
    if not isinstance(job.answer, SyncAnswer):
        raise CancelledError(f"the {tool} was stopped")
    return job.answer


def _still_running(job_id: str, tool: str) -> SyncAnswer:
    return SyncAnswer(
        summary=f"the {tool} goes on as job {job_id}: ask job_status for its outcome",
        status="running",
        job_id=job_id,
    )


def sync_answer(tool: str, result: r.SyncResult, notices: list[str]) -> SyncAnswer:
    """The engine's result as an assistant gets it."""
    counts = ", ".join(f"{count} {action}" for action, count in sorted(result.plan.counts.items()))
    parts = [f"{tool}: {counts or 'nothing to do'}"]
    if result.dry_run:
        parts[0] = f"{tool} would do: {counts or 'nothing'}"
    if result.conflicts:
        parts.append(f"{len(result.conflicts)} conflicts stand")
    if result.problems:
        parts.append(f"{len(result.problems)} paths could not be handled")
    return SyncAnswer(
        summary="; ".join(parts),
        status="planned" if result.dry_run else "done",
        plan=result.plan,
        transfer=result.transfer,
        conflicts=tuple(ConflictBrief.of(c) for c in result.conflicts),
        conflict_count=len(result.conflicts),
        resolved=result.resolved,
        conflict_copies=result.conflict_copies,
        problems=result.problems,
        problem_count=len(result.problems),
        segment=result.segment,
        remote=result.remote,
        local=result.local,
        notices=(*notices, *result.notices),
    )
