"""Receiving: what other devices signed since we last looked, verified and added to the state.

No file is touched here. After it, the state says what the fleet is; a pull puts that on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Final

from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.chain import Finding, KnownSegment, SegmentSource
from tcfs.ledger.control import load_control
from tcfs.ledger.fetch import DEFAULT_BUDGET, fetch_in_parts
from tcfs.ledger.segment import Segment
from tcfs.ledger.walk import FetchResult
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId
from tcfs.model.paths import relative_to
from tcfs.state.control import StoredFinding
from tcfs.state.index import PackLocation
from tcfs.store.base import BlobStore
from tcfs.sync.branches import may_fork, uncount_branches
from tcfs.sync.chains import check_own, known_segment, opener
from tcfs.sync.commit import flush_outbox, take_up_segment
from tcfs.sync.context import Context
from tcfs.sync.gc.marks import take_up_marks
from tcfs.sync.gc.trailers import keep_moved, moved_chunks, read_again
from tcfs.sync.judge import rejudge
from tcfs.sync.results import Problem as ReportedProblem
from tcfs.sync.upload import pack_key

PART_BYTES: Final = DEFAULT_BUDGET
"""Bytes of segments that are taken up together; a longer history is in the state part by part."""
PASSING: Final = frozenset(("damaged", "gap", "held", "no-key", "rollback"))
"""Findings that every look at the store makes anew, as long as they hold."""


def refresh_control(context: Context, *, offline: bool = False) -> None:
    """Renew the membership from the store, or from what is kept of it.

    Raises:
        StoreError: the store failed.
    """
    store: BlobStore | None = None if offline else context.store
    view = load_control(
        store,
        repo=context.repo,
        root_key=context.format.root_public_key,
        cached=context.state.control.objects(),
        last=context.view,
    )
    take_up_marks(context, view.state)
    context.state.control.add(view.fresh)
    if store is not None:
        # What is kept may be less than there is: it tells of no gap.
        context.state.findings.forget(CONTROL, PASSING)
        _keep(context, view.findings)
    if view.state.epochs != context.view.state.epochs:
        context.forget_keys()
    context.view = view
    context.forget_outdated_keys()
    _retract_revoked(context)
    rejudge(context)


def _retract_revoked(context: Context) -> None:
    """Take back what was accepted of revoked devices before their cut was known, and of those that
    turned out to be no members at all.

    A file that holds it stays as it is, without a base: it counts as this device's own edit.
    """
    history, void = context.state.history, context.control.void
    for device in (*context.control.devices.values(), *void.values()):
        if device.cut is None and device.device_id not in void:
            continue
        for namespace in context.control.epochs:
            known = history.heads(namespace).get(device.device_id)
            cut = (device.cut or {}).get(namespace)
            last = cut.seq if cut else 0
            if known is None or known.seq <= last:
                continue
            _take_back(context, namespace, device.device_id, last)


def _take_back(context: Context, namespace: NamespaceId, device: DeviceId, last: int) -> None:
    """What a device wrote after this seq counts no longer."""
    history, roots = context.state.history, context.state.roots
    with context.state.transaction():
        paths = history.retract(namespace, device, last)
        context.state.refused.retract(namespace, device, last)
        counter = history.counter(namespace, device)
        for root in roots.all():
            if root.namespace == namespace:
                roots.forget_versions(root, device, counter)
                local = [relative_to(path, root.remote) for path in paths]
                roots.wait(root, [p for p in local if p is not None])


def settle_outbox(context: Context) -> None:
    """Send what an earlier run finished and may not have sent, so that chains go on after it.

    Call after ``refresh_control``, and before this device writes anything.

    Raises:
        StoreError: the store failed; what was not sent stays.
    """
    if CONTROL in flush_outbox(context):
        refresh_control(context)


def receive(
    context: Context,
    namespace: NamespaceId,
    *,
    rebuild: bool = False,
    coming: Callable[[int], None] = lambda events: None,
) -> int:
    """Fetch and take up what is new in a namespace. Returns the number of new segments.

    Args:
        rebuild: the state was lost, and this device's own chain is read like any other. The
            outbox waits until it is known where that chain ends.
        coming: told how many events a part has, before it is taken up.

    Raises:
        AccessError: this device waits to be admitted.
        IdentityError: this device's own chain went on without it.
        StoreError: the store failed; what was taken up before stays.
    """
    refresh_control(context)
    context.require_admitted()
    if not rebuild:
        prepare_to_write(context, namespace)
    context.state.findings.forget(namespace, PASSING)
    if context.control.upkeep.snapshots.get(namespace):
        from tcfs.sync.gc.loading import bootstrap

        bootstrap(context, namespace)
    read_again(context, namespace)
    return take_all(context, namespace, context.store, keep_findings=True, coming=coming)


def prepare_to_write(context: Context, namespace: NamespaceId) -> None:
    """Make sure that this device's chain ends where it thinks, and send what waits in the outbox.

    Not of a device that was let go: it writes no more, and what it wrote past the cut of its chain
    is no sign of another machine.

    Raises:
        IdentityError: this device's own chain went on without it.
        StoreError: the store failed.
    """
    device = context.device
    if device is not None and device.revoked:
        return
    # First, because a segment sent where another stands by now would fork the chain.
    check_own(context, namespace)
    settle_outbox(context)


def take_all(
    context: Context,
    namespace: NamespaceId,
    source: SegmentSource,
    *,
    keep_findings: bool = False,
    coming: Callable[[int], None] = lambda events: None,
) -> int:
    """Fetch and take up what a source has after the known heads; the number of new segments.

    Args:
        keep_findings: whether what is wrong is remembered: not where a source shows only a part.
        coming: told how many events a part has, before it is taken up.

    Raises:
        StoreError: the store failed; what was taken up before stays.
    """
    count = 0
    while True:
        parts = fetch_in_parts(
            source,
            namespace,
            context.state.history.heads(namespace),
            opener(context, namespace),
            known=lambda device, head: known_segment(context, namespace, device, head),
            state=context.control,
            control_known=context.view.knows,
            budget=PART_BYTES,
        )
        astray = False
        with closing(parts):
            for result in parts:
                coming(sum([len(segment.events) for segment in result.segments]))
                _take_up(context, namespace, result)
                count += len(result.segments)
                if keep_findings:
                    _keep(context, result.findings)
                context.report("receive", count, 0, "segments")
                astray = bool(result.astray)
                if astray:
                    break  # Heads are others now: from them on.
                del result
        if not astray:
            return count


def _take_up(context: Context, namespace: NamespaceId, result: FetchResult) -> None:
    """Add what was fetched to the state."""
    if result.segments or result.quarantined:
        moved = moved_chunks(context, namespace, result.segments)
        with context.state.transaction():
            for segment in result.segments:
                take_up_segment(context, segment)
            # After what their chains led to: they name packs that travelled inside that.
            for segment in result.quarantined:
                _take_up_quarantined(context, segment, result.known)
            keep_moved(context, namespace, moved)
            suspects = may_fork(context, result.segments, result.quarantined)
            uncount_branches(context, namespace, suspects)
    for device, last in result.astray.items():
        # Its revocation names the other branch of a fork, which now comes in its place.
        _take_back(context, namespace, device, last)


def stopped_chains(context: Context, namespace: NamespaceId) -> list[ReportedProblem]:
    """Chains whose next segment cannot be had now: what others did since is not known here."""
    return [
        ReportedProblem(
            f"ledger/{finding.namespace}/{finding.device}/{finding.seq}",
            AccessError.code if finding.kind == "no-key" else IntegrityError.code,
            f"the history of this device stops here: {finding.reason}",
            "Everything else was handled. Look closer with: tcfs verify",
        )
        for finding in context.state.findings.all()
        if finding.namespace == namespace and finding.kind in PASSING - {"held"}
    ]


def _take_up_quarantined(
    context: Context,
    segment: Segment,
    known: Mapping[tuple[DeviceId, ChainHead], KnownSegment],
) -> None:
    """Its events do not count, but others may have built on its chunks."""
    header, index = segment.header, context.state.index
    if header.pack is not None:
        index.add_pack(
            header.namespace,
            PackLocation(header.pack.id, segment.key, segment.size - header.pack.size),
        )
    for pack in {address.pack for _, address in segment.addresses}:
        location = index.location(pack)
        index.add_pack(header.namespace, location or PackLocation(pack, pack_key(pack)))
    usable = context.state.garbage.set_aside(header.namespace, segment.addresses)
    index.add_chunks(header.namespace, usable)
    counter = known[header.device, segment.head].last
    context.state.history.add_quarantined(header, segment.hash, counter)


def _keep(context: Context, findings: tuple[Finding, ...]) -> None:
    now = int(context.host.clock.now())
    for finding in findings:
        context.state.findings.add(
            StoredFinding(
                finding.namespace, finding.device, finding.seq, finding.problem, finding.reason, now
            )
        )
