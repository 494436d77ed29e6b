"""Compaction: letting go of the segments that a snapshot covers.

It deletes segments, and a mistake there cannot be mended, so that it asks for much: an
admin, by name; a snapshot that loads; every active device past it, and past its heads, by what it
signed; what lies inside those segments moved out and marked before. The last segment of each chain
stays.

A crash leaves the event that announces it, and fewer segments, all of them covered.
"""

from __future__ import annotations

from collections.abc import Mapping

from tcfs.device.change import require_admin
from tcfs.errors import IntegrityError
from tcfs.ledger.chain import chain_refs
from tcfs.ledger.keys import key_of, parse_key
from tcfs.ledger.snapshot import SegmentRecord, VersionRecord
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, NamespaceId, StoreKey, VersionId
from tcfs.model.upkeep import MAX_MARKED, Progress, SnapshotRecord, compact_event, mark_event
from tcfs.state.index import PackLocation
from tcfs.sync.context import Context
from tcfs.sync.gc.loading import candidates, read
from tcfs.sync.gc.marks import past, publish_upkeep
from tcfs.sync.gc.move import move
from tcfs.sync.gc.survey import check_history, rules_of


def compact(context: Context, namespace: NamespaceId) -> tuple[int, list[str]]:
    """Delete segments that a snapshot covers which every active device is past.

    Returns how many were deleted, and the names of devices that are not past the newest snapshot.

    Raises:
        AccessError: this device is no admin.
        IntegrityError: not all history is known here, or the snapshot does not load.
        StoreError: the store failed; what was deleted is covered.
    """
    require_admin(context.view, context.identity.device_id)
    check_history(context, namespace)
    waited: list[str] = []
    for record in candidates(context, namespace):
        missing = _not_past(context, record)
        if not missing:
            return _delete_covered(context, record), waited
        waited = waited or missing
    return 0, waited


def _not_past(context: Context, record: SnapshotRecord) -> list[str]:
    namespace = record.namespace
    progress = context.state.garbage.progress(namespace)
    mine = context.state.history.heads(namespace)
    names = []
    for device in context.control.active():
        name = device.device_id
        if name == context.identity.device_id:
            seen: Mapping[DeviceId, ChainHead] = mine
        else:
            ack = context.control.upkeep.acks.get(name)
            seen = dict(progress.get(name, Progress()).seen)
            told = ack.heads.get(namespace, {}) if ack else {}
            seen |= {d: h for d, h in told.items() if d not in seen or h.seq > seen[d].seq}
            if name in mine:
                seen[name] = mine[name]
        behind = any(
            chain not in seen or seen[chain].seq < head.seq for chain, head in record.heads.items()
        )
        own = name == context.identity.device_id
        if behind or not (own or past(context, name, record.author, record.seq, namespace)):
            names.append(device.name)
    return names


def _delete_covered(context: Context, record: SnapshotRecord) -> int:
    namespace = record.namespace
    covered = {
        key_of(namespace, device, ref.seq, ref.hash): ref
        for device, head in record.heads.items()
        for refs in chain_refs(context.store, namespace, device, 0)[0].values()
        for ref in refs
        if ref.seq < head.seq
    }
    if not covered:
        return 0
    known = _proven(context, record)
    holding = _holding(context, namespace)
    # A segment that the snapshot does not know, of a fork say, is evidence: it stays.
    chosen = [
        key
        for key, ref in sorted(covered.items())
        if (ref.device, ChainHead(ref.seq, ref.hash)) in known and key not in holding
    ]
    if chosen and record.id not in context.control.upkeep.compacted:
        publish_upkeep(context, [compact_event(namespace, record.id)])
        # Another admin may have revoked this one meanwhile.
        require_admin(context.view, context.identity.device_id)
    for done, key in enumerate(chosen):
        context.report("compact", done, len(chosen), "segments")
        context.store.delete(key)
    return len(chosen)


def _proven(context: Context, record: SnapshotRecord) -> set[tuple[DeviceId, ChainHead]]:
    """The accepted segments of a snapshot, once all of it was read and is what is known here.

    Raises:
        IntegrityError: it does not hold what this device knows.
    """
    namespace, history = record.namespace, context.state.history
    head, records = read(context, record)
    found: set[tuple[DeviceId, ChainHead]] = set()
    versions = 0
    for item in records:
        if isinstance(item, SegmentRecord):
            place = ChainHead(item.seq, item.hash)
            known = history.known(namespace, item.device, place)
            if known is None or known[:2] != (item.lamport, item.counter):
                raise IntegrityError("a snapshot has a segment that is not known here")
            if item.accepted:
                found.add((item.device, place))
        elif isinstance(item, VersionRecord):
            versions += 1
            wanted = VersionId(item.device, item.event.counter)
            mine = history.version(namespace, wanted)
            mine = mine or context.state.refused.version(namespace, wanted)
            if mine is None or mine.manifest != item.event.manifest or mine.op != item.event.op:
                raise IntegrityError("a snapshot has a version that is another one here")
    expected = context.state.snapshot.count_versions(namespace, record.heads)
    if versions != head.versions or versions != expected:
        raise IntegrityError("a snapshot lacks versions that are known here")
    return found


def _holding(context: Context, namespace: NamespaceId) -> set[StoreKey]:
    """Segments with a pack inside that somebody may count on, or that only they hold."""
    garbage = context.state.garbage
    garbage.find_needed(namespace, rules_of(context, namespace))
    found = {place.key for place in _unmarked(context, namespace)}
    for chunk in garbage.stranded(namespace):
        found.update(place.key for place in garbage.marked_homes(namespace, chunk))
    return found


def _unmarked(context: Context, namespace: NamespaceId) -> list[PackLocation]:
    """The packs inside segments that no mark names.

    One on which this device counts no longer, since it lies past a fork, others may count on.
    """
    marked = {pack for mark in context.control.upkeep.marks for pack in mark.packs}
    packs = context.state.index.packs(namespace)
    return [place for place in packs if place.offset and place.id not in marked]


def empty_segments(context: Context, namespace: NamespaceId) -> None:
    """Move what is needed out of the segments that a snapshot taken now covers, and mark the rest.

    Raises:
        StoreError: the store failed; what was moved is in two places.
    """
    garbage = context.state.garbage
    heads = context.state.history.heads(namespace)
    packs = []
    for place in _unmarked(context, namespace):
        ref = parse_key(place.key)
        head = heads.get(ref.device)
        if head is not None and ref.seq < head.seq:
            packs.append(place.id)
    inside = set(packs)
    garbage.find_needed(namespace, rules_of(context, namespace))
    chunks = [chunk for pack in packs for chunk in garbage.needed_in(namespace, pack)]
    chunks += [
        chunk
        for chunk in garbage.stranded(namespace)
        if any(place.id in inside for place in garbage.marked_homes(namespace, chunk))
    ]
    if chunks:
        move(context, namespace, chunks)
    now = int(context.host.clock.now())
    empty = [pack for pack in packs if not garbage.needed_in(namespace, pack)]
    for start in range(0, len(empty), MAX_MARKED):
        batch = empty[start : start + MAX_MARKED]
        publish_upkeep(context, [mark_event(namespace, batch, now)])
