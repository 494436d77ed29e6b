"""Asking for work that outlasts the call that began it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tcfs.errors import NotFoundError
from tcfs_mcp.answers import JobAnswer
from tcfs_mcp.context import ToolContext
from tcfs_mcp.jobs import Jobs

MAX_WAIT_S = 50
"""Hosts give up on a call after a minute."""

JobId = Annotated[str, Field(min_length=1, description="Job id that push or pull returned.")]


def job_status(
    ctx: ToolContext,
    job_id: JobId,
    wait_s: Annotated[
        int, Field(ge=0, le=MAX_WAIT_S, description="Wait this many seconds for the job to end.")
    ] = 0,
) -> JobAnswer:
    """Tell how far a job is, and its result or error once it has ended."""
    job = _jobs(ctx).get(job_id)
    if wait_s:
        job.wait(wait_s, ctx.cancelled)
    return job.describe()


def job_cancel(ctx: ToolContext, job_id: JobId) -> JobAnswer:
    """Stop a job at its next step. What it finished is kept; the same push or pull goes on."""
    job = _jobs(ctx).get(job_id)
    job.cancel.set()
    job.wait(2.0, ctx.cancelled)
    return job.describe()


def _jobs(ctx: ToolContext) -> Jobs:
    if ctx.jobs is None:
        raise NotFoundError(
            "there are no jobs here: `call` waits for its work",
            remedy="Jobs belong to a running server: add --server URL.",
        )
    return ctx.jobs
