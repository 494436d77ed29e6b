"""Looking back: the log, and why a path is what it is."""

from __future__ import annotations

from tcfs.errors import NotFoundError, UsageError
from tcfs.model.conflict import conflict_path
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath, VersionId, parse_version_id
from tcfs.model.paths import show
from tcfs.sync.context import Context
from tcfs.sync.describe import version_info
from tcfs.sync.results import LIST_LIMIT, LogPage, SyncState, Why, WhyStep


def log(
    context: Context, namespace: NamespaceId, prefix: RelPath, *, before: str, limit: int
) -> LogPage:
    """Versions at and below a prefix, newest first.

    Raises:
        UsageError: ``before`` is not what an earlier page gave as ``next``.
    """
    if before and not before.isdigit():
        raise UsageError(f"not a place in the log: {before!r}")
    limit = max(1, min(limit, LIST_LIMIT))
    rows = context.state.history.log(
        namespace, prefix, before=int(before) if before else None, limit=limit + 1
    )
    more = len(rows) > limit
    page = rows[:limit]
    return LogPage(
        versions=tuple(version_info(context, namespace, version) for _, version in page),
        next=str(page[-1][0]) if more else "",
    )


def find_version(context: Context, namespace: NamespaceId, path: RelPath, text: str) -> Version:
    """The version of a path that a user named: its id, or the beginning of its file hash.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several, or the text is no version.
    """
    if ":" in text:
        found = context.state.history.version(namespace, parse_version_id(text))
        if found is None or found.manifest.rel_path != path:
            raise NotFoundError(
                f"{show(path)} has no version {text}",
                remedy=f"See its versions with: tcfs log {show(path)}",
            )
        return found
    matches = [
        version
        for version in context.state.history.of_path(namespace, path)
        if len(text) >= 4 and version.manifest.file_hash.hex().startswith(text.lower())
    ]
    if not matches:
        raise NotFoundError(
            f"{show(path)} has no version {text!r}",
            remedy=f"See its versions with: tcfs log {show(path)}",
        )
    if len({version.manifest.file_hash for version in matches}) > 1:
        raise UsageError(f"{text!r} is the beginning of several versions")
    return matches[0]


def why(context: Context, namespace: NamespaceId, path: RelPath) -> Why:
    """The chain of signed entries behind a path.

    Raises:
        NotFoundError: nothing was ever there.
    """
    versions = context.state.history.of_path(namespace, path)
    if not versions:
        raise NotFoundError(
            f"nothing was ever at {show(path)}", remedy="See what there is with: tcfs log"
        )
    head = context.state.history.head(namespace, path)
    representatives = {version.id for version in head.siblings}
    superseded_by: dict[VersionId, Version] = {}
    for version in versions:
        for parent in version.manifest.parents:
            superseded_by.setdefault(parent, version)
    steps = []
    for version in versions[:LIST_LIMIT]:
        live = version.id in head.ids
        info = version_info(context, namespace, version, live=live)
        if live and version.manifest.kind == "tombstone":
            role, text = (
                "deleted",
                "deleted the path"
                if head.absent
                else "deleted the path; a concurrent write outlived that",
            )
        elif live and head.conflicted:
            role, text = "conflicting", "one of several concurrent versions that stand"
        elif live:
            role = "current"
            text = (
                "what the path is now"
                if version.id in representatives
                else "wrote the same content at the same time"
            )
        else:
            role, text = _superseded(version, superseded_by.get(version.id))
        steps.append(
            WhyStep(
                version=info,
                role=role,  # type: ignore[arg-type]
                explanation=_explain(version, info.imported) + text,
                kept_at=_kept_at(context, namespace, version) if role == "lost" else "",
            )
        )
    state: SyncState = (
        "conflict" if head.conflicted else "not_present" if head.absent else "up_to_date"
    )
    return Why(path=show(path), state=state, steps=tuple(steps))


def _explain(version: Version, imported: str) -> str:
    if version.moved_from:
        return f"moved here from {show(version.moved_from)}; "
    if imported:
        return f"{imported}; "
    if version.op == "setattr":
        return "changed mode or time; "
    return ""


def _superseded(version: Version, by: Version | None) -> tuple[str, str]:
    if by is None:
        return "superseded", "replaced"
    who = show(by.manifest.written_by.encode())
    if len(by.manifest.parents) > 1 and by.manifest.content != version.manifest.content:
        return "lost", f"lost a conflict that {who} settled with {by.id}"
    return "superseded", f"replaced by {who} with {by.id}"


def _kept_at(context: Context, namespace: NamespaceId, version: Version) -> str:
    """Where a loser's bytes can be found without asking history for them."""
    manifest = version.manifest
    seen: list[RelPath] = []

    def other(path: RelPath) -> bool:
        seen.append(path)
        head = context.state.history.head(namespace, path)
        return not head.absent and head.group_of(manifest.content) is None

    path = conflict_path(manifest.rel_path, manifest.written_by, other)
    if context.state.history.head(namespace, path).group_of(manifest.content):
        return show(path)
    return "history"
