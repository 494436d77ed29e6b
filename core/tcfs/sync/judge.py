"""Access rules at work: what this device may append, and what it folds of what others appended.

Both ask ``model.rules``. What is refused is kept, whole, in the state's table ``refused``: a change
of the rules judges a namespace anew, and moves events in and out of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from blake3 import blake3
from msgspec import Struct, structs

from tcfs.errors import AccessError
from tcfs.model.conflict import conflict_path
from tcfs.model.event import ContentEvent, Op, SegmentHeader, Version
from tcfs.model.ids import DeviceId, NamespaceId, RelPath, VersionId
from tcfs.model.paths import join, relative_to, show
from tcfs.model.rules import NEEDED, Decision, RuleView, describe
from tcfs.model.tree import Head
from tcfs.state.refused import RefusedEvent
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.results import Problem

if TYPE_CHECKING:
    from tcfs.sync.push import Push

REMEDY = "See why with: tcfs acl explain PATH; an admin can change it with: tcfs acl set"

# At the fold


def accept(
    context: Context, header: SegmentHeader, events: Sequence[ContentEvent]
) -> Sequence[ContentEvent]:
    """The events of a verified segment that count; the others are recorded as refused.

    Part of the caller's transaction.
    """
    namespace = header.namespace
    rules = context.control.rules
    if not rules.governs(namespace):
        return events
    view = rules.at(namespace, header.device, header.seq)
    kept: list[ContentEvent] = []
    refused: list[RefusedEvent] = []
    here = {VersionId(header.device, e.counter): e.manifest.rel_path for e in events}

    def path_of(version: VersionId) -> RelPath | None:
        return here.get(version) or context.state.refused.path_of(namespace, version)

    for event in events:
        version = Version(
            VersionId(header.device, event.counter),
            header.lamport,
            header.seq,
            event.op,
            event.manifest,
            event.moved_from,
        )
        reason = _refusal(context, view, version, path_of)
        if reason is None:
            kept.append(event)
        else:
            refused.append(RefusedEvent(namespace, version, reason))
    context.state.refused.add(refused)
    return kept


def _refusal(
    context: Context,
    view: RuleView,
    version: Version,
    path_of: Callable[[VersionId], RelPath | None],
) -> str | None:
    """Why an event does not count, or None if it does."""
    decision = _decide(context, view, version.id.device, version.op, version.manifest.rel_path)
    if not decision.allowed:
        return decision.reason
    for parent in version.manifest.parents:
        # Else a write where its author may would end a version where it may not.
        if path_of(parent) not in (None, version.manifest.rel_path):
            return "it names a version of another path as its parent"
    return None


def _decide(context: Context, view: RuleView, device: DeviceId, op: Op, path: RelPath) -> Decision:
    record = context.control.devices.get(device) or context.control.void.get(device)
    role = record.role if record is not None else "reader"
    return view.decide(device, role, path, NEEDED[op])


def rejudge(context: Context) -> None:
    """Judge anew what was taken up by other rules than those of now.

    Files on this disk are not touched here. The next pull puts the tree there as it is now; what
    this device itself wrote and is refused stays as a local edit.
    """
    for namespace in context.control.epochs:
        if _digest(context, namespace) != context.state.refused.judged_by(namespace):
            judge_anew(context, namespace)


def judge_anew(context: Context, namespace: NamespaceId) -> None:
    """Judge all that is known of a namespace by the rules of now."""
    known = context.state.refused.judged_by(namespace)
    if not known and not context.control.rules.governs(namespace):
        return  # there never were any
    with context.state.transaction():
        _rejudge(context, namespace)
        context.state.refused.set_judged_by(namespace, _digest(context, namespace))


def _digest(context: Context, namespace: NamespaceId) -> str:
    """A hash of the rules of a namespace; empty where there are none."""
    rules = context.control.rules
    changes = rules.concerning(namespace) if rules.governs(namespace) else ()
    return blake3(repr([_stable(c) for c in changes]).encode()).hexdigest() if changes else ""


def _stable(change: Struct) -> str:
    """A change as text that depends on its values alone: sets have no order of their own."""
    fields = []
    for value in structs.astuple(change):
        fields.append(repr(sorted(value) if isinstance(value, frozenset) else value))
    return "|".join(fields)


def _rejudge(context: Context, namespace: NamespaceId) -> None:
    state = context.state
    rules = context.control.rules
    views: dict[tuple[DeviceId, int], RuleView] = {}

    def path_of(version: VersionId) -> RelPath | None:
        return state.refused.path_of(namespace, version)

    def refusal(version: Version) -> str | None:
        key = (version.id.device, version.seq)
        if key not in views:
            views[key] = rules.at(namespace, *key)
        return _refusal(context, views[key], version, path_of)

    back: list[RefusedEvent] = []
    for event in state.refused.all(namespace):
        reason = refusal(event.version)
        if reason is None:
            back.append(event)
        elif reason != event.reason:
            state.refused.add([RefusedEvent(namespace, event.version, reason)])
    out: list[RefusedEvent] = []
    for version_id in state.refused.versions(namespace):
        version = state.history.version(namespace, version_id)
        assert version is not None
        reason = refusal(version)
        if reason is not None:
            out.append(RefusedEvent(namespace, version, reason))
    state.refused.move_in(back)
    state.refused.move_out(out)
    paths = {event.version.manifest.rel_path for event in (*back, *out)}
    state.refused.refold(namespace, sorted(paths))
    _tell_roots(context, namespace, sorted(paths), {event.version.id for event in out})


def _tell_roots(
    context: Context, namespace: NamespaceId, paths: Iterable[RelPath], gone: set[VersionId]
) -> None:
    """Let the next pull look at these paths; own refused edits are local edits again."""
    roots, own = context.state.roots, context.identity.device_id
    for root in roots.all():
        if root.namespace != namespace:
            continue
        local = [p for p in (relative_to(path, root.remote) for path in paths) if p is not None]
        mine: list[RelPath] = []
        for path in local:
            base = roots.base_of(root, path)
            if base is not None and any(i in gone and i.device == own for i in base.ids):
                mine.append(path)
        roots.forget_base(root, mine)
        roots.wait(root, local)


# At the append


class Permit:
    """What this device's next segment in a namespace may say."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._view: RuleView | None = None
        rules = context.control.rules
        if rules.governs(namespace):
            own = context.identity.device_id
            head = context.state.history.heads(namespace).get(own)
            self._view = rules.at(namespace, own, (head.seq if head else 0) + 1)

    @property
    def unlimited(self) -> bool:
        """Whether there are no rules to ask."""
        return self._view is None

    def decide(self, op: Op, path: RelPath) -> Decision:
        """Whether an event of that kind at that path would be accepted, and why."""
        if self._view is None:
            return Decision(True, "there are no rules")
        return _decide(self._context, self._view, self._context.identity.device_id, op, path)

    def may_settle(self, head: Head) -> bool:
        """Whether this device may write what settles a conflict, conflict copies included."""
        if self._view is None:
            return True
        names = {v.manifest.written_by for v in head.siblings}
        copies = [conflict_path(head.path, name, lambda path: False) for name in sorted(names)]
        return all(self.decide("write", path).allowed for path in (head.path, *copies))

    def require(self, op: Op, path: RelPath) -> None:
        """Refuse to append what others would refuse to fold.

        Raises:
            AccessError: this device may not do that there.
        """
        decision = self.decide(op, path)
        if not decision.allowed:
            raise AccessError(
                f"this device ({self._context.identity.name}) may not {NEEDED[op]} {show(path)}: "
                f"{decision.reason}",
                remedy=REMEDY,
                details={"rules": describe(decision.rules)},
            )


def require_write(context: Context, namespace: NamespaceId, path: RelPath) -> None:
    """Raises AccessError if this device may write nothing, or not at this path."""
    context.require_writer()
    Permit(context, namespace).require("write", path)


def withhold(context: Context, root: Root, push: Push) -> list[Problem]:
    """Take out of a push what this device may not send. Returns that as problems."""
    permit = Permit(context, root.namespace)
    if permit.unlimited:
        return []
    problems: list[Problem] = []
    refused: set[RelPath] = set()
    for c in push.candidates:
        path = join(root.remote, c.path)
        decision = permit.decide("delete" if c.entry is None else "write", path)
        if not decision.allowed:
            refused.add(c.path)
            message = f"not sent, and left as it is on this disk: {decision.reason}"
            problems.append(Problem(show(path), AccessError.code, message, REMEDY))
    push.candidates.drop(refused.__contains__)
    return problems
