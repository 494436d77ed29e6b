"""Beginning from a snapshot: which may be believed, and what it says into the state.

What is believed: a snapshot that an admin's accepted control event names by its hash, that covers
no segment past a revocation's cut, and whose parts agree with each other. An admin who lies can
mislead who begins from it; ``verify`` compares it with the segments as long as these are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tcfs.content.address import ChunkAddress
from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.chain import KnownSegment, chain_refs
from tcfs.ledger.snapshot import (
    ProgressRecord,
    Record,
    SegmentRecord,
    SnapshotHead,
    SnapshotScope,
    VersionRecord,
    decode_head,
    decode_part,
    object_key,
    open_object,
)
from tcfs.model.event import ChainHead, ContentEvent, SegmentHeader
from tcfs.model.ids import CONTROL, ChunkId, DeviceId, EpochId, NamespaceId
from tcfs.model.upkeep import Progress, SnapshotRecord
from tcfs.state.index import PackLocation
from tcfs.state.snapshot import StoredSegment
from tcfs.store.base import ObjectMissing
from tcfs.sync.branches import uncount_branches
from tcfs.sync.context import Context
from tcfs.sync.judge import judge_anew

AT_ONCE: Final = 5000
"""Records of a snapshot that are put into the state together."""


def scope_of(context: Context, namespace: NamespaceId) -> SnapshotScope:
    """What a namespace's snapshots belong to."""
    encryption = context.format.encryption
    keyring = context.keys(namespace) if encryption else None
    return SnapshotScope(context.repo, namespace, encryption, keyring)


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
        devices = {device for device, _ in self._segments}
        uncount_branches(self._context, self._namespace, devices)
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
