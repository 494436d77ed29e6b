"""Snapshots: taking one, and letting go of old ones.

A snapshot holds all that a namespace's chains had told up to its heads: every segment's place,
every version, where every chunk lies. It leaves nothing out, whatever the retention policy: that is
about content. Who has nothing yet loads it (``loading``) and reads on from its heads, instead of
from the first segment. Marks, members and policies are not in it: the control ledger has them, and
it is read whole.

After each write step a crash leaves: parts put - objects that nothing names, which a collection
finds (``unnamed``); the head put - the same; the event - a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tcfs.content.seal import SALT_SIZE
from tcfs.device.change import require_admin
from tcfs.errors import IntegrityError
from tcfs.ledger.snapshot import (
    LISTED,
    PackRecord,
    ProgressRecord,
    Record,
    SegmentRecord,
    SnapshotHead,
    VersionRecord,
    decode_head,
    encode_head,
    encode_parts,
    object_key,
    open_object,
    seal_object,
)
from tcfs.model.event import ContentEvent
from tcfs.model.ids import NamespaceId
from tcfs.model.upkeep import snapshot_event
from tcfs.sync.context import Context
from tcfs.sync.gc.compaction import compact, empty_segments
from tcfs.sync.gc.loading import candidates, scope_of
from tcfs.sync.gc.marks import acknowledge, publish_upkeep
from tcfs.sync.gc.results import SnapshotResult
from tcfs.sync.gc.survey import check_history
from tcfs.sync.sealing import sealing


def take(context: Context, namespace: NamespaceId) -> SnapshotResult:
    """Write a snapshot of all that is known, and vouch for it. ``receive`` was called.

    Raises:
        AccessError: this device is no admin.
        IntegrityError: not all history is known here, or not where all chunks were moved to.
        StoreError: the store failed; take it again.
    """
    require_admin(context.view, context.identity.device_id)
    check_history(context, namespace)
    _check_places(context, namespace)
    scope, sealed_as = scope_of(context, namespace), sealing(context, namespace)
    counts = {SegmentRecord: 0, VersionRecord: 0}
    chunks = size = 0

    def counted() -> Iterator[Record]:
        nonlocal chunks
        for record in _records(context, namespace):
            if isinstance(record, PackRecord):
                chunks += len(record.chunks)
            elif not isinstance(record, ProgressRecord):
                counts[type(record)] += 1
            yield record

    def put(role: str, plain: bytes) -> str:
        nonlocal size
        digest, data = seal_object(
            "head" if role == "head" else "part",
            plain,
            scope,
            sealed_as.epoch,
            sealed_as.cipher,
            context.host.entropy.token(SALT_SIZE),
        )
        context.store.put(object_key(namespace, digest), data)
        context.report("snapshot", size, 0, "bytes")
        size += len(data)
        return digest

    heads = context.state.history.heads(namespace)
    parts = [put("part", plain) for plain in encode_parts(counted())]
    head = SnapshotHead(heads, tuple(parts), counts[SegmentRecord], counts[VersionRecord], chunks)
    digest = put("head", encode_head(head))
    now = int(context.host.clock.now())
    publish_upkeep(context, [snapshot_event(namespace, digest, heads, now)])
    return SnapshotResult(
        id=digest,
        versions=head.versions,
        segments=head.segments,
        chunks=head.chunks,
        size=size,
    )


def _check_places(context: Context, namespace: NamespaceId) -> None:
    """Who begins from a snapshot never reads the segments that say where chunks were moved to."""
    for pack in context.state.garbage.unread(namespace):
        raise IntegrityError(
            f"no snapshot can be taken: pack {pack}, to which chunks were moved, cannot be read",
            remedy="Try again; if it stays so, see what is wrong with it: tcfs verify",
            details={"namespace": namespace, "pack": pack},
        )


def _records(context: Context, namespace: NamespaceId) -> Iterator[Record]:
    state = context.state
    for segment in state.snapshot.segments(namespace):
        yield SegmentRecord(*segment)
    for device, progress in state.garbage.progress(namespace).items():
        yield ProgressRecord(device, progress.control, progress.seen)
    for pack in state.snapshot.packs(namespace, LISTED):
        yield PackRecord(pack.id, pack.key, pack.offset, tuple(pack.chunks))
    for version in state.snapshot.versions(namespace):
        event = ContentEvent(version.op, version.id.counter, version.manifest, version.moved_from)
        yield VersionRecord(version.id.device, version.seq, version.lamport, event)


def _drop_old(context: Context, namespace: NamespaceId) -> None:
    """Delete all snapshots but the newest two, and the one that stands for deleted segments."""
    found = candidates(context, namespace)
    compacted = context.control.upkeep.compacted
    kept = {record.id for record in found[:2]}
    kept.update([record.id for record in found if record.id in compacted][:1])
    for record in found:
        key = object_key(namespace, record.id)
        if record.id in kept or context.store.head(key) is None:
            continue
        scope = scope_of(context, namespace)
        head = decode_head(open_object("head", record.id, context.store.get(key), scope))
        # The head last, so that a run that is cut off can go on.
        for part in head.parts:
            context.store.delete(object_key(namespace, part))
        context.store.delete(key)


def snapshot(context: Context, *, compaction: bool) -> SnapshotResult:
    """One snapshot of this device's namespace; with ``compaction`` what it allows, before.

    Raises:
        AccessError: this device is no admin.
        IntegrityError: not all history is known here, or a snapshot does not load.
        StoreError: the store failed; run it again.
    """
    from tcfs.sync.receive import receive

    namespace = context.namespace
    receive(context, namespace)
    require_admin(context.view, context.identity.device_id)
    acknowledge(context)
    removed, waited = 0, list[str]()
    if compaction:
        removed, waited = compact(context, namespace)
        empty_segments(context, namespace)
    taken = take(context, namespace)
    if compaction:
        _drop_old(context, namespace)
    return replace(taken, removed_segments=removed, waiting_for=tuple(waited))
