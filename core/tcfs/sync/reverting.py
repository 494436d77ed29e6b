"""Going back: an earlier version of a path, or everything that an actor or a segment did.

Local edits of the paths concerned must be in history first, so that going back loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tcfs.errors import ConflictError, LocalFileError, NotFoundError, UsageError
from tcfs.model.event import Version
from tcfs.model.ids import DeviceId, NamespaceId, RelPath
from tcfs.model.paths import ROOT, show
from tcfs.sync import chronicle, operations, places
from tcfs.sync import results as r
from tcfs.sync import undo as reversals
from tcfs.sync.context import Context
from tcfs.sync.facade import Limits
from tcfs.sync.planning import check_plan
from tcfs.sync.receive import receive


def restore(
    context: Context, namespace: NamespaceId, remote: RelPath, version: str, *, dry_run: bool
) -> r.SyncResult:
    """Bring an earlier version of a path back, as a new one.

    Raises:
        ConflictError: this disk has edits of it that were not pushed.
        NotFoundError, UsageError: which version is not clear.
    """
    receive(context, namespace)
    context.require_writer()
    if not dry_run:
        operations.recover_roots(context, namespace)
    found = chronicle.find_version(context, namespace, remote, version)
    head = context.state.history.head(namespace, remote)
    plan = reversals.plan_of(namespace, [reversals.restoration(head, found)])
    result = r.SyncResult(
        plan=plan, dry_run=dry_run, remote=places.remote_text(context, namespace, remote)
    )
    if dry_run:
        return result
    _require_sent(context, namespace, [remote])
    head = context.state.history.head(namespace, remote)
    segment = reversals.commit(context, namespace, [reversals.restoration(head, found)])
    problems, notices = _materialise(context, namespace)
    return replace(result, segment=segment, problems=problems, notices=notices)


def undo(context: Context, actor: str, segment: str, *, dry_run: bool, plan: str) -> r.UndoResult:
    """Take back what an actor did from this device, or what one segment did.

    Raises:
        ConflictError: this disk has edits of a path concerned that were not pushed.
        NotFoundError, UsageError: there is nothing of the kind, or it is not said which.
    """
    if bool(actor) == bool(segment):
        raise UsageError("say whose changes to take back: an actor, or a segment")
    namespace = context.namespace
    receive(context, namespace)
    context.require_writer()
    if not dry_run:
        operations.recover_roots(context, namespace)
    versions = _versions_of(context, namespace, actor, segment)
    _require_sent(context, namespace, [v.manifest.rel_path for v in versions])
    found, skipped = reversals.reversals(context, namespace, versions)
    made = reversals.plan_of(namespace, found)
    check_plan(made, plan)
    result = r.UndoResult(
        reverted=tuple(show(x.head.path) for x in found)[: r.LIST_LIMIT],
        skipped=tuple(skipped[: r.LIST_LIMIT]),
        dry_run=dry_run,
        plan=made,
    )
    if dry_run:
        return result
    # A run that was cut off may have written all and put only some of it on disk.
    written = reversals.commit(context, namespace, found) if found else ""
    problems, _ = _materialise(context, namespace)
    return replace(result, segment=written, skipped=(*result.skipped, *problems))


def _versions_of(
    context: Context, namespace: NamespaceId, actor: str, segment: str
) -> Sequence[Version]:
    history = context.state.history
    if actor:
        found = history.by_actor(namespace, context.identity.device_id, actor)
    else:
        device, slash, seq = segment.rpartition("/")
        if not slash or not seq.isdigit():
            raise UsageError(f"not a segment: {segment!r}", remedy="Copy one from: tcfs log --json")
        found = history.by_segment(namespace, DeviceId(device), int(seq))
    if not found:
        raise NotFoundError(
            f"no change is by {actor!r}" if actor else f"segment {segment} has no changes",
            remedy="See who did what with: tcfs log",
        )
    return found


def _require_sent(context: Context, namespace: NamespaceId, paths: Sequence[RelPath]) -> None:
    """Raise ConflictError where this disk has edits of paths that are about to change."""
    for path in paths:
        place = operations.place_of_path(context, path, namespace)
        if place is not None and operations.local_changed(context, place):
            raise ConflictError(
                f"{show(path)} has local changes that were not pushed",
                remedy="Push them first: tcfs push; history then keeps them.",
            )


def _materialise(
    context: Context, namespace: NamespaceId
) -> tuple[tuple[r.Problem, ...], tuple[str, ...]]:
    """Put on disk what this device just wrote into history, wherever it has the paths.

    Returns the problems and notices of that.
    """
    problems: list[r.Problem] = []
    notices: list[str] = []
    for root in context.state.roots.all():
        if root.namespace != namespace:
            continue
        try:
            done = operations.pull(
                context,
                places.Place(root, ROOT),
                mode="defer",
                dry_run=False,
                plan="",
                limits=Limits(confirmed=True),
            )
        except LocalFileError as error:
            problems.append(r.Problem(show(root.local), error.code, error.message, error.remedy))
            continue
        problems += done.problems
        notices += done.notices
    return tuple(problems), tuple(notices)
