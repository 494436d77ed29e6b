"""Committing: changes into signed segments, by way of the outbox, into the store and the state.

After each step a crash leaves: packs uploaded - pending packs, which the next push uses; outbox
written - the segment is sent again, byte for byte; segment in the store - the same, and then the
state takes it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from tcfs.content.address import ChunkAddress
from tcfs.content.seal import SALT_SIZE
from tcfs.ledger.segment import Place, Segment, SegmentDraft, open_segment, seal_segment
from tcfs.model.abridged import ToldEvent, as_told
from tcfs.model.clock import VectorClock
from tcfs.model.event import ContentEvent, Op, SegmentHeader
from tcfs.model.ids import (
    CONTROL,
    ChunkId,
    NamespaceId,
    PackId,
    RelPath,
    SegmentHash,
    VersionId,
)
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import relative_to
from tcfs.model.plan import BaseEntry, LocalEntry
from tcfs.state.index import OutboxEntry, PackLocation
from tcfs.state.roots import Root
from tcfs.sync.abridging import abridged, in_full
from tcfs.sync.chains import look_again
from tcfs.sync.context import Context
from tcfs.sync.durable import make_durable
from tcfs.sync.gc.trailers import keep_moved, moved_chunks
from tcfs.sync.judge import Permit, accept
from tcfs.sync.sealing import sealing
from tcfs.sync.upload import Stored, Upload, pack_key

PART_BYTES: Final = 4 << 20
"""Estimated bytes of body at which a large push commits a part; the format's limit is 8 MiB. Who
writes or reads one has all its events in memory, at twenty times the size."""


class Draft(Struct, frozen=True, gc=False):
    """A change that is to become an event.

    Attributes:
        manifest: what the path is; clock, author, time and actor are filled in when it is added.
        parents_clock: the merge of the parents' clocks.
        local: the path within the root, and what the disk holds there, for the base; None where the
            disk does not hold it (yet).
    """

    op: Op
    manifest: SyncManifest
    parents_clock: VectorClock
    moved_from: RelPath | None = None
    local: tuple[RelPath, LocalEntry | None] | None = None


class _Part(NamedTuple):
    """What is to become one segment, once its packs are in the store."""

    events: list[ContentEvent]
    based: list[tuple[RelPath, BaseEntry]]
    unbased: list[RelPath]
    stored: Stored


class Committer:
    """Gathers changes of one namespace and commits them in parts.

    While the packs of one part are on their way (``advance``), more is gathered for the next.

    Args:
        root: whose base the changes come from, or None.
        upload: where the changes' content was stored, or None if it was stored before.
    """

    def __init__(
        self,
        context: Context,
        namespace: NamespaceId,
        *,
        root: Root | None = None,
        upload: Upload | None = None,
    ) -> None:
        self._context = context
        self._namespace = namespace
        self._root = root
        self._upload = upload
        self._writer = context.require_writer()
        self._permit = Permit(context, namespace)
        history = context.state.history
        self._counter = history.counter(namespace, context.identity.device_id)
        self._now = int(context.host.clock.now())
        self._events: list[ContentEvent] = []
        self._based: list[tuple[RelPath, BaseEntry]] = []
        self._unbased: list[RelPath] = []
        self._size = 0
        self._part: _Part | None = None
        self.segments: list[SegmentHash] = []
        self.last = ""
        self.bytes_sent = 0

    def add(self, drafts: Sequence[Draft]) -> list[VersionId]:
        """Take changes that belong together: they will stand in one segment."""
        ids = []
        for draft in drafts:
            self._permit.require(draft.op, draft.manifest.rel_path)
        for draft in drafts:
            self._counter += 1
            version = VersionId(self._context.identity.device_id, self._counter)
            manifest = draft.manifest.authored(
                draft.parents_clock.with_version(version),
                self._writer.name,
                self._now,
                self._context.actor,
            )
            self._events.append(ContentEvent(draft.op, self._counter, manifest, draft.moved_from))
            self._size += _estimate(manifest)
            if draft.local is not None:
                path, entry = draft.local
                if manifest.kind == "tombstone":
                    self._unbased.append(path)
                else:
                    self._based.append((path, base_entry((version,), manifest, entry)))
            ids.append(version)
        return ids

    @property
    def full(self) -> bool:
        """Whether it is time to ``flush``."""
        return self._size >= PART_BYTES

    def advance(self) -> None:
        """Go on with committing, where that takes no waiting for packs of the newest part."""
        part = self._part
        if part is not None and (self._upload is None or self._upload.arrived(part.stored)):
            self.settle()
        if self.full:
            self.settle()
            self._divide()

    def flush(self) -> None:
        """Commit what was gathered. When this returns it is in the store and in the state."""
        self.settle()
        self._divide()
        self.settle()

    def settle(self) -> None:
        """Commit the part that was begun. When this returns it is in the store and in the state."""
        part, self._part = self._part, None
        if part is None:
            return
        if self._upload is not None:
            self._upload.settle(part.stored)
        if part.events:
            self._commit(part)

    def _divide(self) -> None:
        """What was gathered is a part from here on; none is under way."""
        stored = Stored({}, None)
        if self._upload is not None:
            seq = next_place(self._context, self._namespace).seq
            # Without an event there will be no segment of that number.
            stored = self._upload.cut(seq if self._events else seq - 1)
        self._part = _Part(self._events, self._based, self._unbased, stored)
        self._events, self._based, self._unbased, self._size = [], [], [], 0

    def _commit(self, part: _Part) -> None:
        context, namespace = self._context, self._namespace
        events, stored = part.events, part.stored
        distinct = dict.fromkeys(c for event in events for c in event.manifest.chunks)
        new = {chunk: stored.addresses[chunk] for chunk in distinct if chunk in stored.addresses}
        index = context.state.index
        if context.state.garbage.any_marked():
            from tcfs.sync.gc.move import rescue

            rescue(context, namespace, [c for c in distinct if c not in stored.addresses])
        new |= index.unannounced(namespace, (c for c in distinct if c not in stored.addresses))
        later = self._upload.of_later if self._upload is not None else frozenset()
        packs = [p.id for p in index.pending_packs(namespace) if p.id not in later]
        place = next_place(context, namespace)
        sealed_as = sealing(context, namespace)
        sealed = seal_segment(
            SegmentDraft(
                place=place,
                written_at=int(context.host.clock.now()),
                events=abridged(context, namespace, events, new),
                addresses=new,
                packs=packs,
                inline_pack=bytes(stored.inline.data) if stored.inline else None,
            ),
            repo=context.repo,
            signer=context.identity,
            salt=context.host.entropy.token(SALT_SIZE),
            keyring=sealed_as.keyring,
            epoch=sealed_as.epoch,
            cipher=sealed_as.cipher,
        )
        entry = OutboxEntry(
            namespace, place.seq, sealed.key, sealed.data, self._root.id if self._root else None
        )
        context.state.outbox.add(entry)
        context.store.put(sealed.key, sealed.data)
        if self._root is not None and part.based:
            make_durable(context, self._root, [path for path, _ in part.based])
        inline = sealed.header.pack
        with context.state.transaction():
            if inline is not None:
                offset = len(sealed.data) - inline.size
                index.add_pack(namespace, PackLocation(inline.id, sealed.key, offset))
            index.add_chunks(
                namespace,
                ((c, a) for c, a in stored.addresses.items() if c not in new),
                announced=False,
            )
            take_up(context, sealed.header, sealed.hash, events, new.items(), packs)
            if self._root is not None:
                context.state.roots.refresh_base(self._root, part.based)
                context.state.roots.forget_base(self._root, part.unbased)
            context.state.outbox.remove(entry)
        self.segments.append(sealed.hash)
        self.last = f"{context.identity.device_id}/{place.seq}"
        self.bytes_sent += len(sealed.data)


def _estimate(manifest: SyncManifest) -> int:
    """Bytes that an event takes in a body, at least."""
    path = manifest.rel_path
    text = 6 * len(path) if not path.isascii() or path.find(b"\\") >= 0 else len(path)
    return (
        400
        + 2 * text
        + 6 * len(manifest.target)
        + 88 * len(manifest.chunks)
        + 60 * (len(manifest.parents) + len(manifest.vclock.clocks))
    )


def next_place(context: Context, namespace: NamespaceId) -> Place:
    """Where this device's next segment stands.

    Raises:
        IdentityError: its chain went on without it.
        StoreError: the last look at it is some time ago, and the store failed.
    """
    look_again(context, namespace)
    heads = context.state.history.heads(namespace)
    own = heads.get(context.identity.device_id)
    seen = context.state.history.seen(namespace)
    seen.pop(context.identity.device_id, None)
    return Place(
        namespace=namespace,
        seq=own.seq + 1 if own else 1,
        prev=own.hash if own else "",
        lamport=context.state.history.lamport(namespace) + 1,
        seen=seen,
        control=context.control_heads,
    )


def take_up(
    context: Context,
    header: SegmentHeader,
    segment_hash: SegmentHash,
    events: Sequence[ToldEvent],
    addresses: Iterable[tuple[ChunkId, ChunkAddress]],
    packs: Iterable[PackId] = (),
) -> None:
    """Add a verified segment to the state; part of the caller's transaction."""
    state, namespace = context.state, header.namespace
    addresses = list(addresses)
    named = {address.pack for _, address in addresses} | set(packs)
    for pack in sorted(named):
        known = state.index.location(pack)
        state.index.add_pack(namespace, known or PackLocation(pack, pack_key(pack)))
    state.index.add_chunks(namespace, state.garbage.set_aside(namespace, addresses))
    state.garbage.note(header)
    whole = in_full(context, header, events)
    state.history.add_versions(namespace, header, accept(context, header, whole))
    state.history.add_head(header, segment_hash)


def base_entry(
    ids: Iterable[VersionId],
    manifest: SyncManifest,
    entry: LocalEntry | None,
    clock: VectorClock | None = None,
) -> BaseEntry:
    """The base for a path that holds these versions; without an entry its stat is not trusted.

    ``clock`` is the merge of the versions' clocks, where they are not one version alone.
    """
    return BaseEntry(
        ids=tuple(ids),
        clock=clock if clock is not None else manifest.vclock,
        kind=manifest.kind,  # type: ignore[arg-type]
        size=entry.size if entry else manifest.file_size,
        mode=manifest.mode,
        mtime_ns=entry.mtime_ns if entry else manifest.mtime_ns,
        ctime_ns=entry.ctime_ns if entry else 0,
        inode=entry.inode if entry else 0,
        file_hash=manifest.file_hash,
        target=manifest.target,
        size_class=manifest.size_class,
    )


def flush_outbox(context: Context) -> set[NamespaceId]:
    """Send finished segments again that an earlier run may not have sent, and take them up.

    Returns the namespaces that they belong to.

    Raises:
        StoreError: the store cannot take them; they stay.
    """
    entries = context.state.outbox.all()
    for entry in entries:
        context.store.put(entry.key, entry.data)
        if entry.namespace == CONTROL:
            control_sent(context, entry)
            continue
        segment = open_segment(
            entry.key,
            entry.data,
            repo=context.repo,
            sign_key=context.identity.public_key,
            encryption=context.format.encryption,
            keyring=context.keys(entry.namespace) if context.format.encryption else None,
        )
        roots = {root.id: root for root in context.state.roots.all()}
        moved = moved_chunks(context, entry.namespace, [segment])
        with context.state.transaction():
            take_up_segment(context, segment)
            keep_moved(context, entry.namespace, moved)
            root = roots.get(entry.root) if entry.root is not None else None
            if root is not None:
                _base_from(context, root, segment.events)
            context.state.outbox.remove(entry)
    return {entry.namespace for entry in entries}


def control_sent(context: Context, entry: OutboxEntry) -> None:
    """The store has this device's next control segment: go on after it.

    At once, and without asking the store: were the look at it that follows to fail, the next one
    would be written in the same place, and this device would have forked its own chain.
    """
    from tcfs.sync.receive import refresh_control

    with context.state.transaction():
        context.state.control.add({entry.key: entry.data})
        context.state.outbox.remove(entry)
    refresh_control(context, offline=True)


def take_up_segment(context: Context, segment: Segment) -> None:
    """Add a segment read from the store to the state; part of the caller's transaction."""
    inline = segment.header.pack
    if inline is not None:
        context.state.index.add_pack(
            segment.header.namespace,
            PackLocation(inline.id, segment.key, segment.size - inline.size),
        )
    take_up(
        context,
        segment.header,
        segment.hash,
        segment.events,
        segment.addresses,
        segment.packs,
    )


def _base_from(context: Context, root: Root, events: Sequence[ToldEvent]) -> None:
    """The base that a push left: its content is on disk, the files' stats are forgotten."""
    based: list[tuple[RelPath, BaseEntry]] = []
    unbased: list[RelPath] = []
    device = context.identity.device_id
    for event in map(as_told, events):
        path = relative_to(event.manifest.rel_path, root.remote)
        if path is None:
            continue
        if event.op == "delete":
            unbased.append(path)
        else:
            version = VersionId(device, event.counter)
            based.append((path, base_entry((version,), event.manifest, None)))
    context.state.roots.refresh_base(root, based)
    context.state.roots.forget_base(root, unbased)
