"""The signed history: what happened, why a file is as it is, and going back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tcfs.errors import UsageError
from tcfs.sync import results as r
from tcfs_mcp.answers import LogList, SyncAnswer, VersionBrief
from tcfs_mcp.context import ToolContext
from tcfs_mcp.tools.conflicts import fitting
from tcfs_mcp.tools.transfer import DryRun, PlanHash, sync_answer


def log(
    ctx: ToolContext,
    path: Annotated[str, Field(description="Only this path; empty for all.")] = "",
    before: Annotated[str, Field(description="The field next of the page before.")] = "",
    limit: Annotated[int, Field(ge=1, le=1000, description="Most entries on a page.")] = 50,
) -> LogList:
    """List what was written, newest first: which path, by which device and actor, and when."""

    def page(count: int) -> LogList:
        found = fleet.log(path, before=before, limit=count)
        return LogList(tuple(VersionBrief.of(v) for v in found.versions), found.next)

    with ctx.fleet() as fleet:
        return fitting(page, limit, ctx.budget)


def why(
    ctx: ToolContext,
    path: Annotated[str, Field(min_length=1, description="A path in the fleet.")],
) -> r.Why:
    """Explain one path: the chain of signed entries that made it so, newest first.

    Says for each who wrote it, when, what became of it, and where a version that lost is kept.
    """
    with ctx.fleet() as fleet:
        return fleet.why(path)


def restore(
    ctx: ToolContext,
    path: Annotated[str, Field(min_length=1, description="A path in the fleet.")],
    version: Annotated[
        str, Field(min_length=1, description="Id of the version to bring back, from log or why.")
    ],
    dry_run: DryRun = False,
) -> SyncAnswer:
    """Bring an earlier version of a file back, as a new version. Nothing is lost."""
    with ctx.fleet() as fleet:
        ctx.policy.check_tracked(fleet)
        result = fleet.restore(path, version, dry_run=dry_run)
    return sync_answer("restore", result, ctx.notices)


def undo(
    ctx: ToolContext,
    actor: Annotated[
        str, Field(description="Revert everything this actor wrote, such as mcp:some-client.")
    ] = "",
    segment: Annotated[
        str, Field(description="Revert one segment: <device id>/<seq>, from log or a push.")
    ] = "",
    dry_run: DryRun = False,
    plan: PlanHash = "",
) -> r.UndoResult:
    """Revert changes as a unit, by new versions: all of an actor, or those of one segment.

    Paths that someone changed since are skipped and listed. Give either actor or segment.
    """
    if bool(actor) == bool(segment):
        raise UsageError(
            "undo needs either an actor or a segment",
            remedy="Find them with log: every entry names its actor and its segment.",
        )
    with ctx.fleet() as fleet:
        ctx.policy.check_tracked(fleet)
        return fleet.undo(actor=actor, segment=segment, dry_run=dry_run, plan=plan)
