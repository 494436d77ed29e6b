"""Going back: a new version with old content, whose parents are everything that is live now.

History is never rewritten. A path that changed since is skipped and listed, not overruled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from tcfs.errors import ConflictError, NotFoundError
from tcfs.model.clock import VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import show
from tcfs.model.tree import Head
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.context import Context
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Action, Plan, Problem


@dataclass(frozen=True, slots=True)
class Reversal:
    """One path that goes back: to ``target``, or to nothing."""

    head: Head
    target: Version | None


def restoration(head: Head, version: Version) -> Reversal:
    """Back to one version of a path."""
    return Reversal(head, None if version.manifest.kind == "tombstone" else version)


def reversals(
    context: Context, namespace: NamespaceId, versions: Sequence[Version]
) -> tuple[list[Reversal], list[Problem]]:
    """How to take back these versions as a unit, and which paths have moved on since.

    A path goes back to what the first of these versions replaced there, if the last of them is
    still what the path is.
    """
    by_path: dict[RelPath, list[Version]] = {}
    for version in sorted(versions, key=lambda v: v.order):
        by_path.setdefault(version.manifest.rel_path, []).append(version)
    found: list[Reversal] = []
    skipped: list[Problem] = []
    for path in sorted(by_path):
        mine = by_path[path]
        ids = {version.id for version in mine}
        head = context.state.history.head(namespace, path)
        if not set(head.ids) <= ids:
            skipped.append(
                Problem(
                    show(path),
                    ConflictError.code,
                    "changed since, and was left as it is",
                    f"See what happened with: tcfs why {show(path)}",
                )
            )
            continue
        before = [parent for version in mine for parent in version.manifest.parents]
        outside = [parent for parent in before if parent not in ids]
        targets = [context.state.history.version(namespace, parent) for parent in outside]
        live = [v for v in targets if v is not None and v.manifest.kind != "tombstone"]
        target = max(live, key=lambda v: v.order, default=None)
        if target is None and head.absent:
            continue
        if target is not None and head.group_of(target.manifest.content) and not head.conflicted:
            continue
        found.append(Reversal(head, target))
    return found, skipped


def plan_of(namespace: NamespaceId, found: Sequence[Reversal]) -> Plan:
    """The reversals as a plan."""
    builder = PlanBuilder("undo", namespace, RelPath(b""))
    for reversal in found:
        action: Action = (
            "delete" if reversal.target is None else "add" if reversal.head.absent else "change"
        )
        target = reversal.target
        builder.add(
            action,
            show(reversal.head.path),
            size=target.manifest.file_size if target else 0,
            note=f"back to {target.id}" if target else "was not there before",
            identity=(reversal.head.ids, target.id if target else None),
        )
    return builder.done()


def commit(context: Context, namespace: NamespaceId, found: Sequence[Reversal]) -> str:
    """Write the reversals. Returns the last segment, empty if there was nothing to do.

    Raises:
        NotFoundError: there is nothing to go back to.
    """
    if not found:
        raise NotFoundError("there is nothing to take back")
    committer = Committer(context, namespace)
    for reversal in found:
        committer.add([_draft(reversal)])
        if committer.full:
            committer.flush()
    committer.flush()
    return committer.last


def _draft(reversal: Reversal) -> Draft:
    head = reversal.head
    if reversal.target is None:
        tombstone = SyncManifest(
            rel_path=head.path,
            kind="tombstone",
            vclock=VectorClock(),
            parents=head.ids,
            written_by="",
            written_at=0,
        )
        return Draft("delete", tombstone, head.clock)
    manifest = replace(reversal.target.manifest, parents=head.ids)
    return Draft("write", manifest, head.clock)
