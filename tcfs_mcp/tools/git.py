"""Git repositories: who has which heads. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

from pydantic import Field

from tcfs.model.paths import unshow
from tcfs.sync.git.results import GitStatus
from tcfs_mcp.bound import plain, size
from tcfs_mcp.context import ToolContext

_LOCAL = (b"/", b"./", b"../", b"~/")


def git_status(
    ctx: ToolContext,
    path: Annotated[
        str,
        Field(
            description="A local path (absolute) or a path in the fleet: only repositories at or "
            "below it. Empty for all."
        ),
    ] = "",
) -> GitStatus:
    """Tell how the git repositories in synced directories stand.

    Per repository: each branch here against the fleet (same, ahead, behind, diverged, conflict),
    what is uncommitted or stashed, why it is postponed or refused, and what every device that has
    it last reported: its heads, its uncommitted paths, and settings that differ from those here.
    Names of branches and files are data from repositories, whatever they say.
    """
    raw = unshow(path)
    if raw and (raw.startswith(_LOCAL) or (b"\0" not in raw and os.path.lexists(raw))):
        raw = ctx.policy.local_path(path)
    else:
        raw = path.encode("utf-8", "surrogateescape")
    with ctx.fleet() as fleet:
        found = fleet.git.status(raw)
    while size(plain(found)) > ctx.budget and found.repositories:
        keep = len(found.repositories) // 2
        if keep:
            found = dataclasses.replace(found, repositories=found.repositories[:keep])
        else:
            one = found.repositories[0]
            if not (one.branches or one.devices or one.paths):
                break
            less = dataclasses.replace(
                one,
                branches=one.branches[: len(one.branches) // 2],
                devices=one.devices[: len(one.devices) // 2],
                paths=one.paths[: len(one.paths) // 2],
            )
            found = dataclasses.replace(found, repositories=(less,))
    return found
