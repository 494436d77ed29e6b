"""Who may do what, and who did what: questions only, no tool here changes anything."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field

from tcfs.sync.access import AclExplanation
from tcfs.sync.audit import AuditReport
from tcfs_mcp.context import ToolContext


def audit(
    ctx: ToolContext,
    since_hours: Annotated[
        float, Field(ge=0, description="Only the last so many hours; 0 for all of history.")
    ] = 0,
    device: Annotated[str, Field(description="Only what this device did: a name or id.")] = "",
    actor: Annotated[
        str, Field(description="Only what this actor asked for, such as mcp:some-client.")
    ] = "",
    limit: Annotated[int, Field(ge=1, le=200, description="Most entries: the newest.")] = 50,
    verify: Annotated[
        bool, Field(description="Read every chain again from the store and check it.")
    ] = False,
) -> AuditReport:
    """Tell who did what, and what was refused and why: changes of files, members, keys and rules.

    Entries come from the signed history, the newest last. Times are what each device's clock said.
    """
    since = int(time.time() - since_hours * 3600) if since_hours else 0
    with ctx.fleet() as fleet:
        return fleet.audit.report(
            since=since, device=device, actor=actor, limit=limit, verify=verify
        )


def explain_access(
    ctx: ToolContext,
    path: Annotated[str, Field(min_length=1, description="A path in the fleet.")],
    device: Annotated[str, Field(description="A device's name or id; empty for this one.")] = "",
) -> AclExplanation:
    """Tell what a device may do at a path (read, write, delete, admin), and which rules say so."""
    with ctx.fleet() as fleet:
        return fleet.access.explain(path, device=device)
