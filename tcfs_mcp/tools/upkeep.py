"""Keeping the store small. History is kept unless a person set a retention policy."""

from __future__ import annotations

from tcfs.errors import UsageError
from tcfs.sync.gc import results as g
from tcfs_mcp.context import ToolContext
from tcfs_mcp.tools.transfer import DryRun, PlanHash


def gc(ctx: ToolContext, dry_run: DryRun = False, plan: PlanHash = "") -> g.GcResult:
    """Delete from the store what nothing needs, in two steps that every device takes part in.

    What is of no use is marked; a later call, on any device, deletes it when every device has been
    in touch since. Look first with dry_run, then pass the plan's hash: without one nothing is done.
    Devices that keep others waiting are named; expiring one is for a person at a terminal.
    """
    if not dry_run and not plan:
        raise UsageError(
            "gc does only what was looked at",
            remedy="Call it with dry_run=true, and then with the plan that it answers.",
        )

    def once() -> g.GcResult:
        with ctx.fleet() as fleet:
            return fleet.gc.run(
                dry_run=dry_run, plan=plan, progress=ctx.progress, cancel=ctx.cancelled
            )

    return ctx.patiently(once, ctx.cancelled)
