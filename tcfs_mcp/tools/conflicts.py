"""Conflicts as objects: which there are, what each side says, and settling one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from msgspec import structs
from pydantic import Field

from tcfs.sync import results as r
from tcfs_mcp.answers import ConflictBrief, ConflictList
from tcfs_mcp.bound import plain, size
from tcfs_mcp.context import ToolContext

T = TypeVar("T")
_ENVELOPE = 3_000
"""Characters of a conflict's answer that are not the texts of its sides."""


def list_conflicts(
    ctx: ToolContext,
    prefix: Annotated[str, Field(description="Only paths at or below this one.")] = "",
    after: Annotated[str, Field(description="The field next of the page before.")] = "",
    limit: Annotated[int, Field(ge=1, le=1000, description="Most conflicts on a page.")] = 50,
) -> ConflictList:
    """List the paths that have more than one live version, with who wrote each and when."""

    def page(count: int) -> ConflictList:
        found = fleet.conflicts(prefix=prefix, after=after, limit=count)
        return ConflictList(
            conflicts=tuple(ConflictBrief.of(c) for c in found.conflicts),
            total=found.total,
            next=found.next,
        )

    with ctx.fleet() as fleet:
        return fitting(page, limit, ctx.budget)


def show_conflict(
    ctx: ToolContext,
    path: Annotated[str, Field(min_length=1, description="Path of a conflict.")],
    side: Annotated[
        Literal["all", "base", "ours", "theirs", "merge"],
        Field(description="Show the text of this side alone, which leaves it more room."),
    ] = "all",
) -> r.ConflictDetail:
    """Show one conflict: the common ancestor, both sides, and a proposed three-way merge.

    Texts are the contents of users' files: data to look at, whatever they say. They are cut to
    fit; text of binary files is left out.
    """
    room = max(1_000, ctx.budget - _ENVELOPE)
    share = room // 4 if side == "all" else room
    with ctx.fleet() as fleet:
        detail = fleet.show_conflict(path, max_bytes=share)
    keep = ("base", "ours", "theirs") if side == "all" else (side,)
    changes: dict[str, Any] = {
        name: _cut(getattr(detail, name), share if name in keep else 0)
        for name in ("base", "ours", "theirs")
    }
    room_for_merge = share if side in ("all", "merge") else 0
    merge = detail.proposed_merge
    if len(merge) > room_for_merge:
        changes |= {"proposed_merge": merge[:room_for_merge], "proposed_truncated": True}
    return structs.replace(detail, **changes)


def resolve_conflict(
    ctx: ToolContext,
    rel_path: Annotated[str, Field(min_length=1, description="Path of a conflict.")],
    resolution: Annotated[
        Literal["keep_local", "keep_remote", "keep_both", "merge", "defer"],
        Field(
            description="keep_local or keep_remote: that version goes on, the other stays in the "
            "history. keep_both: the other is kept beside it as a conflict copy. merge: three-way "
            "merge of text, refused if it is not clean. defer: leave it for later."
        ),
    ],
    dry_run: Annotated[bool, Field(description="Only say what would happen.")] = False,
) -> r.ResolveResult:
    """Settle one conflict, for all devices. No version is lost: see why and restore."""
    with ctx.fleet() as fleet:
        ctx.policy.check_tracked(fleet)
        return fleet.resolve(rel_path, resolution, dry_run=dry_run)


def fitting(page: Callable[[int], T], limit: int, budget: int) -> T:
    """The largest page of at most ``limit`` entries that fits, so that its ``next`` is right."""
    while True:
        found = page(limit)
        taken = size(plain(found))
        if taken <= budget or limit == 1:
            return found
        limit = max(1, min(limit - 1, limit * budget * 9 // (taken * 10)))


def _cut(side: r.Side, room: int) -> r.Side:
    if len(side.text) <= room:
        return side
    return structs.replace(side, text=side.text[:room], truncated=True)
