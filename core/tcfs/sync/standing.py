"""How one path stands: disk, base and fleet compared, in the words that front ends show."""

from __future__ import annotations

from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import show
from tcfs.model.plan import BaseEntry
from tcfs.model.tree import Head
from tcfs.sync import operations, places
from tcfs.sync.context import Context
from tcfs.sync.places import Place
from tcfs.sync.results import PathStatus, SyncState
from tcfs.sync.spelling import notices_of


def path_status(
    context: Context,
    shown: str,
    place: Place | None,
    namespace: NamespaceId,
    remote: RelPath,
    warnings: tuple[str, ...],
) -> PathStatus:
    """How a remote path, and the place on this disk that it has if any, stand.

    Call after ``receive``. Raises LocalFileError if the disk cannot be looked at.
    """
    head = context.state.history.head(namespace, remote)
    here = place if place is not None and place.root.id else None
    state, message = _compare(context, namespace, head, here)
    version = head.siblings[0] if head.siblings else None
    return PathStatus(
        path=shown,
        remote=places.remote_text(context, namespace, remote),
        state=state,
        message=message,
        size=version.manifest.file_size if version else 0,
        file_hash=version.manifest.file_hash.hex() if version else "",
        chunks=len(version.manifest.chunks) if version else 0,
        device=show(version.manifest.written_by.encode()) if version else "",
        vclock={str(d): n for d, n in head.clock.clocks.items()},
        warnings=warnings + (notices_of(context, here.root, here.prefix) if here else ()),
    )


def _compare(
    context: Context, namespace: NamespaceId, head: Head, here: Place | None
) -> tuple[SyncState, str]:
    history = context.state.history
    standing = history.conflicted(namespace, head.path)
    if standing:
        return "conflict", f"{len(standing)} conflict(s); see: tcfs conflicts"
    base = context.state.roots.base_of(here.root, here.prefix) if here else None
    changed = here is not None and operations.local_changed(context, here)
    if head.absent and base is None and not history.has_live_below(namespace, head.path):
        if changed or not head.ids:
            return "not_tracked", "not in sync state: neither pushed nor pulled"
        return "not_present", "deleted"
    if base is None and head.path and not head.absent and not changed:
        return "not_present", "in the fleet, and not on this disk"
    behind = here is not None and operations.remote_changed(context, here)
    if changed and behind and not _holds_others(head, base):
        return "conflict", "changed here and in the fleet"
    if changed:
        return "local_newer", "local changes to push" + (", and some to pull" if behind else "")
    if behind:
        return "remote_newer", "changes to pull"
    return "up_to_date", "in sync"


def _holds_others(head: Head, base: BaseEntry | None) -> bool:
    """Whether what changed here and what changed there may be different paths below."""
    kinds = {version.manifest.kind for version in head.siblings}
    return "dir" in kinds or head.absent or (base is not None and base.kind == "dir")
