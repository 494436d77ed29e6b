"""Snapshots: taking one, beginning from one, and letting go of the segments that one covers.

A snapshot holds all that a namespace's chains had told up to its heads: every segment's place,
every version, where every chunk lies. It leaves nothing out, whatever the retention policy: that is
about content. Who has nothing yet loads it and reads on from its heads, instead of from the first
segment. Marks, members and policies are not in it: the control ledger has them, and it is read
whole.

What is believed: a snapshot that an admin's accepted control event names by its hash, that covers
no segment past a revocation's cut, and whose parts agree with each other. An admin who lies can
mislead who begins from it; ``verify`` compares it with the segments as long as these are there.

Compaction deletes segments, and a mistake there cannot be mended, so that it asks for much: an
admin, by name; a snapshot that loads; every active device past it, and past its heads, by what it
signed; what lies inside those segments moved out and marked before. The last segment of each chain
stays.

After each write step a crash leaves: parts put - objects that nothing names; the head put - the
same; the event - a snapshot. Of a compaction: the event that announces it, and
fewer segments, all of them covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from tcfs.content.address import ChunkAddress
from tcfs.content.seal import SALT_SIZE
from tcfs.device.change import require_admin
from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.chain import KnownSegment, chain_refs
from tcfs.ledger.keys import key_of, parse_key
from tcfs.ledger.snapshot import (
    LISTED,
    PackRecord,
    ProgressRecord,
    Record,
    SegmentRecord,
    SnapshotHead,
    SnapshotScope,
    VersionRecord,
    decode_head,
    decode_part,
    encode_head,
    encode_parts,
    object_key,
    open_object,
    seal_object,
)
from tcfs.model.event import ChainHead, ContentEvent, SegmentHeader
from tcfs.model.ids import CONTROL, ChunkId, DeviceId, EpochId, NamespaceId, StoreKey, VersionId
from tcfs.model.upkeep import (
    MAX_MARKED,
    Progress,
    SnapshotRecord,
    compact_event,
    mark_event,
    snapshot_event,
)
from tcfs.state.index import PackLocation
from tcfs.state.snapshot import StoredSegment
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.gc.marks import acknowledge, past, publish_upkeep
from tcfs.sync.gc.move import move
from tcfs.sync.gc.results import SnapshotResult
from tcfs.sync.gc.survey import check_history, rules_of
from tcfs.sync.judge import judge_anew
from tcfs.sync.sealing import sealing

AT_ONCE: Final = 5000
"""Records of a snapshot that are put into the state together."""


def scope_of(context: Context, namespace: NamespaceId) -> SnapshotScope:
    """What a namespace's snapshots belong to."""
    encryption = context.format.encryption
    keyring = context.keys(namespace) if encryption else None
    return SnapshotScope(context.repo, namespace, encryption, keyring)


# Taking one


def take(context: Context, namespace: NamespaceId) -> SnapshotResult:
    """Write a snapshot of all that is known, and vouch for it. ``receive`` was called.

    Raises:
        AccessError: this device is no admin.
        IntegrityError: not all history is known here.
        StoreError: the store failed; take it again.
    """
    require_admin(context.view, context.identity.device_id)
    check_history(context, namespace)
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


# Beginning from one


def usable(context: Context, record: SnapshotRecord) -> bool:
    """Whether a snapshot covers nothing that a revocation cut off."""
    for device, head in record.heads.items():
        member = context.control.devices.get(device)
        if member is None:
            return False
        if member.cut is not None:
            cut = member.cut.get(record.namespace)
            if cut is None or head.seq > cut.seq or (head.seq == cut.seq and head != cut):
                return False
    return True


def candidates(context: Context, namespace: NamespaceId) -> list[SnapshotRecord]:
    """The snapshots that may be believed, the one that covers most first."""
    found = context.control.upkeep.snapshots.get(namespace, ())
    good = [record for record in reversed(found) if usable(context, record)]
    return sorted(good, key=lambda r: -sum(head.seq for head in r.heads.values()))


def bootstrap(context: Context, namespace: NamespaceId) -> bool:
    """Load the best snapshot there is, if nothing is known of the namespace yet.

    One that cannot be read is passed over: the segments tell the same, if they are all there.

    Raises:
        StoreError: the store failed.
    """
    if not context.state.snapshot.is_empty(namespace):
        return False
    for record in candidates(context, namespace):
        try:
            with context.state.transaction():
                load(context, record)
        except (IntegrityError, ObjectMissing, AccessError):
            continue
        return True
    return False


def load(context: Context, record: SnapshotRecord) -> None:
    """Take a snapshot into an empty namespace, as one transaction of the caller's.

    Raises:
        IntegrityError: it is damaged, or contradicts itself.
        AccessError: a key of it was not given to this device.
        StoreError: the store failed.
    """
    namespace = record.namespace
    head, records = read(context, record)
    loader = _Loader(context, namespace)
    for item in records:
        loader.add(item)
    loader.done(head)


def read(context: Context, record: SnapshotRecord) -> tuple[SnapshotHead, Iterator[Record]]:
    """A snapshot's head, and its records as they are asked for.

    Raises:
        IntegrityError, AccessError, StoreError: now, or while the records are read.
    """
    namespace, scope = record.namespace, scope_of(context, record.namespace)
    data = context.store.get(object_key(namespace, record.id))
    head = decode_head(open_object("head", record.id, data, scope))
    if head.heads != record.heads:
        raise IntegrityError("a snapshot has other heads than were vouched for")

    def records() -> Iterator[Record]:
        for part in head.parts:
            stored = context.store.get(object_key(namespace, part))
            yield from decode_part(open_object("part", part, stored, scope))

    return head, records()


class _Loader:
    """Takes records in the order in which ``take`` wrote them, and holds them to each other."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace
        self._segments: dict[tuple[DeviceId, int], SegmentRecord] = {}
        self._events: list[ContentEvent] = []
        self._place: tuple[DeviceId, int] | None = None
        # Taken in many at a time: small statements are most of the time otherwise.
        self._new_segments: list[StoredSegment] = []
        self._new_packs: list[PackLocation] = []
        self._new_chunks: list[tuple[ChunkId, ChunkAddress]] = []
        self.segments = self.versions = self.chunks = 0

    def add(self, record: Record) -> None:
        state = self._context.state
        if isinstance(record, SegmentRecord):
            self.segments += 1
            if record.accepted:
                self._segments[record.device, record.seq] = record
            self._new_segments.append(StoredSegment(*record))
        elif isinstance(record, VersionRecord):
            self.versions += 1
            self._version(record)
        elif isinstance(record, ProgressRecord):
            progress = Progress(record.control, record.seen)
            state.garbage.note_progress(self._namespace, record.device, progress)
        else:
            self.chunks += len(record.chunks)
            self._new_packs.append(PackLocation(record.pack, record.key, record.offset))
            self._new_chunks += record.chunks
        waiting = len(self._new_segments) + len(self._new_packs) + len(self._new_chunks)
        if waiting >= AT_ONCE:
            self._take_in()

    def _take_in(self) -> None:
        state, namespace = self._context.state, self._namespace
        state.snapshot.add_segments(namespace, self._new_segments)
        state.index.add_packs(namespace, self._new_packs)
        usable = state.garbage.set_aside(namespace, self._new_chunks)
        state.index.add_chunks(namespace, usable)
        self._new_segments, self._new_packs, self._new_chunks = [], [], []

    def _version(self, record: VersionRecord) -> None:
        place = (record.device, record.seq)
        segment = self._segments.get(place)
        counter = record.event.counter
        if segment is None or segment.lamport != record.lamport or counter > segment.counter:
            raise IntegrityError("a snapshot has a version that is of none of its segments")
        if record.event.manifest.vclock.get(record.device) != counter:
            raise IntegrityError("a snapshot has a version that does not name itself")
        if place != self._place:
            self._flush()
            self._place = place
        self._events.append(record.event)

    def _flush(self) -> None:
        if self._place is None:
            return
        segment = self._segments[self._place]
        header = _header(self._namespace, segment, self._events)
        self._context.state.history.add_versions(self._namespace, header, self._events)
        self._events = []

    def done(self, head: SnapshotHead) -> None:
        self._flush()
        self._take_in()
        if (self.segments, self.versions, self.chunks) != (
            head.segments,
            head.versions,
            head.chunks,
        ):
            raise IntegrityError("a snapshot's parts do not hold what its head says")
        if self._context.state.history.heads(self._namespace) != dict(head.heads):
            raise IntegrityError("a snapshot's segments do not lead to its heads")
        # It holds what access rules refuse as well: each device judges for itself.
        judge_anew(self._context, self._namespace)


def _header(
    namespace: NamespaceId, segment: SegmentRecord, events: Iterable[ContentEvent]
) -> SegmentHeader:
    """What the history has to know of a segment whose own header is not read again."""
    counters = [event.counter for event in events]
    return SegmentHeader(
        repo="",
        namespace=namespace,
        device=segment.device,
        seq=segment.seq,
        prev="",
        lamport=segment.lamport,
        epoch=EpochId(""),
        salt=b"",
        cipher=0,
        seen={},
        control={},
        first=min(counters),
        last=max(counters),
        body_size=0,
        body_hash="",
        pack=None,
        written_at=segment.written_at,
    )


def start_of(
    context: Context, namespace: NamespaceId
) -> tuple[dict[DeviceId, ChainHead], dict[tuple[DeviceId, ChainHead], KnownSegment]]:
    """Where reading every chain again has to begin: nowhere, unless compaction was here.

    Raises:
        IntegrityError: segments are gone, and the snapshot that covers them does not load.
        StoreError: the store failed.
    """
    compacted = context.control.upkeep.compacted
    for record in candidates(context, namespace):
        if record.id not in compacted and not _let_go(context, record):
            continue
        known: dict[tuple[DeviceId, ChainHead], KnownSegment] = {}
        _, records = read(context, record)
        for item in records:
            if isinstance(item, SegmentRecord):
                known[item.device, ChainHead(item.seq, item.hash)] = KnownSegment(
                    item.lamport, item.counter, item.accepted
                )
        return dict(record.heads), known
    return {}, {}


def _let_go(context: Context, record: SnapshotRecord) -> bool:
    """Whether an admin let segments go before it heard of its own revocation.

    That they are of no use any more is not believed then, and need not be: the snapshot is.
    """
    if not any(
        device.cut is not None
        and CONTROL in device.cut
        and device.cut[CONTROL] != context.control_heads.get(device.device_id)
        for device in context.control.devices.values()
    ):
        return False
    for device in record.heads:
        first = min(chain_refs(context.store, record.namespace, device, 0)[0], default=1)
        if 1 < first <= record.heads[device].seq:
            return True
    return False


# Compaction


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
    found = {place.key for place in garbage.inline_packs(namespace)}
    for chunk in garbage.stranded(namespace):
        found.update(place.key for place in garbage.marked_homes(namespace, chunk))
    return found


def empty_segments(context: Context, namespace: NamespaceId) -> None:
    """Move what is needed out of the segments that a snapshot taken now covers, and mark the rest.

    Raises:
        StoreError: the store failed; what was moved is in two places.
    """
    garbage = context.state.garbage
    heads = context.state.history.heads(namespace)
    packs = []
    for place in garbage.inline_packs(namespace):
        ref = parse_key(place.key)
        head = heads.get(ref.device)
        if head is not None and ref.seq < head.seq:
            packs.append(place.id)
    garbage.find_needed(namespace, rules_of(context, namespace))
    chunks = [chunk for pack in packs for chunk in garbage.needed_in(namespace, pack)]
    if chunks:
        move(context, namespace, chunks)
    now = int(context.host.clock.now())
    empty = [pack for pack in packs if not garbage.needed_in(namespace, pack)]
    for start in range(0, len(empty), MAX_MARKED):
        batch = empty[start : start + MAX_MARKED]
        publish_upkeep(context, [mark_event(namespace, batch, now)])


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
