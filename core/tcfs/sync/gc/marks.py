"""Marks: taking them up, acknowledging them, and who has not yet.

A mark is taken up as soon as the control ledger that carries it was read, before this device
decides anything by what it knows of the store. So whatever it signs after that counts on no marked
pack, and says with the heads in its header, or with an acknowledgement, that it had seen the mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tcfs.errors import StoreError
from tcfs.ledger.control import confirmations, control_segment
from tcfs.model.access import ControlState, DeviceRecord
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId, PackId
from tcfs.model.upkeep import Progress, ack_event, is_past
from tcfs.state.control import StoredFinding
from tcfs.state.index import OutboxEntry
from tcfs.store.base import StoreRefused
from tcfs.sync.commit import control_sent
from tcfs.sync.context import Context


def take_up_marks(context: Context, control: ControlState) -> None:
    """Count no longer on packs that were marked since the last look.

    Before that look is kept or used for anything: what is signed after it says that it was seen.
    """
    marks = control.upkeep.marks
    if not marks:
        return
    garbage = context.state.garbage
    known = garbage.marked()
    found: dict[NamespaceId, set[PackId]] = {}
    for mark in marks:
        fresh = set(mark.packs) - known
        if fresh:
            found.setdefault(mark.namespace, set()).update(fresh)
    for namespace, packs in found.items():
        garbage.mark(namespace, packs)


def publish_upkeep(context: Context, events: Sequence[Mapping[str, Any]]) -> None:
    """Append these events to this device's control chain, by way of the outbox.

    Raises:
        StoreError: it is in the outbox, and the next run sends it again; or what was there before
            could not be sent.
    """
    from tcfs.sync.receive import refresh_control, settle_outbox

    device = context.require_member()
    if context.state.outbox.count():
        # An acknowledgement, say, that failed quietly: another segment in its place would fork
        # this device's own chain.
        settle_outbox(context)
    confirmed = confirmations(context.control) if device.role == "admin" else []
    segment = control_segment(
        context.view,
        [*confirmed, *events],
        repo=context.repo,
        signer=context.identity,
        salt=context.host.entropy.token(32),
        written_at=int(context.host.clock.now()),
    )
    entry = OutboxEntry(CONTROL, segment.header.seq, segment.key, segment.data, None)
    context.state.outbox.add(entry)
    try:
        context.store.put(segment.key, segment.data)
    except StoreRefused:
        if device.role == "reader":
            # It has no other business with the store's write side, and must not be stopped by it.
            context.state.outbox.remove(entry)
        raise
    control_sent(context, entry)
    refresh_control(context)


def acknowledge(context: Context) -> None:
    """Say that this device had seen the marks and snapshots that wait for it, if any do.

    Call at the end of an operation, with nothing of it left undone: what is signed after this
    counts on no marked pack. A store that cannot be written to is a finding, for status.
    """
    device = context.device
    if device is None or device.revoked or not _waits(context):
        return
    if context.state.outbox.count():
        return  # Something from before is still to be sent.
    heads = {space: context.state.history.heads(space) for space in context.control.epochs}
    kind = "unacknowledged"
    try:
        publish_upkeep(context, [ack_event(context.control_heads, heads)])
    except StoreError as error:
        context.state.findings.add(
            StoredFinding(
                CONTROL,
                context.identity.device_id,
                0,
                kind,
                f"garbage collection waits for this device, which cannot say so: {error.message}",
                int(context.host.clock.now()),
            )
        )
        return
    context.state.findings.forget(CONTROL, [kind])


def _waits(context: Context) -> bool:
    upkeep, me = context.control.upkeep, context.identity.device_id
    places = [(mark.namespace, mark.author, mark.seq) for mark in upkeep.marks]
    for found in upkeep.snapshots.values():
        places += [(snapshot.namespace, snapshot.author, snapshot.seq) for snapshot in found]
    last: dict[tuple[NamespaceId, DeviceId], int] = {}
    for namespace, author, seq in places:
        last[namespace, author] = max(seq, last.get((namespace, author), 0))
    return any(
        not past(context, me, author, seq, namespace) for (namespace, author), seq in last.items()
    )


def past(
    context: Context,
    device: DeviceId,
    author: DeviceId,
    seq: int,
    namespace: NamespaceId,
    progress: Mapping[DeviceId, Progress] | None = None,
) -> bool:
    """Whether a device has signed that it had seen a control segment; see ``is_past``."""
    known = context.state.garbage.progress(namespace) if progress is None else progress
    return is_past(
        device,
        author,
        seq,
        namespace=namespace,
        progress=known.get(device, Progress()),
        ack=context.control.upkeep.acks.get(device),
        heads=context.state.history.heads(namespace),
        accepted=context.view.known.keys(),
    )


def waited_for(
    context: Context, author: DeviceId, seq: int, namespace: NamespaceId
) -> list[DeviceRecord]:
    """The active devices that have not signed that they had seen a control segment."""
    progress = context.state.garbage.progress(namespace)
    return [
        device
        for device in context.control.active()
        if not past(context, device.device_id, author, seq, namespace, progress)
    ]
