"""Moving chunks out of packs that are to go, into new ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tcfs.content.address import ChunkAddress
from tcfs.content.frame import Frame
from tcfs.content.gather import Gatherer
from tcfs.content.pack import Pack, PackBuilder, PackHeader
from tcfs.content.packer import Packer
from tcfs.content.seal import SALT_SIZE
from tcfs.errors import IntegrityError, NotFoundError
from tcfs.ledger.segment import SegmentDraft, seal_segment
from tcfs.model.ids import ChunkId, NamespaceId
from tcfs.state.index import OutboxEntry, PackLocation
from tcfs.store.base import ObjectMissing
from tcfs.sync.commit import next_place, take_up
from tcfs.sync.context import Context
from tcfs.sync.download import Download, have
from tcfs.sync.sealing import sealing
from tcfs.sync.upload import pack_key

WINDOW: Final = 24 << 20
"""Bytes of chunks held in memory at a time."""


def copy_chunks(
    context: Context, namespace: NamespaceId, chunks: Sequence[ChunkId]
) -> list[tuple[ChunkId, ChunkAddress]]:
    """Store these chunks once more, in new packs that the next segment is to name.

    Every chunk is verified on its way. A crash leaves pending packs, or orphans.

    Returns where they are now; nothing local says so yet.

    Raises:
        NotFoundError: a chunk is nowhere.
        IntegrityError: a chunk is damaged.
        StoreError: the store failed.
    """
    place = next_place(context, namespace)
    sealed = sealing(context, namespace)
    key = sealed.keyring.epoch_key(sealed.epoch) if sealed.keyring else b""
    found: list[tuple[ChunkId, ChunkAddress]] = []

    def new_builder() -> PackBuilder:
        header = PackHeader(
            cipher=sealed.cipher,
            repo=context.repo,
            device=context.identity.device_id,
            seq=place.seq,
            epoch=sealed.epoch,
            salt=context.host.entropy.token(SALT_SIZE),
            namespace=namespace,
        )
        return PackBuilder(header, key)

    def put(pack: Pack) -> None:
        context.check_cancel()
        context.store.put(pack_key(pack.id), pack.data)
        context.state.index.add_pack(
            namespace, PackLocation(pack.id, pack_key(pack.id)), pending=True
        )
        found.extend(pack.chunks)

    packer = Packer(new_builder, put)
    for frame in _frames(context, namespace, chunks):
        packer.add(frame)
    packer.flush()
    return found


def _frames(context: Context, namespace: NamespaceId, chunks: Sequence[ChunkId]) -> Iterator[Frame]:
    gatherer = Gatherer()
    download = Download(context, namespace)
    level = context.config.sync.compression_level
    for window in _windows(context, namespace, chunks):
        fetched = download.fetch(window)
        for chunk in window:
            try:
                data = have(fetched, chunk)
            except ObjectMissing as error:
                raise _nowhere(chunk) from error
            for full in gatherer.add(chunk, bytes(data), 0, len(data)):
                yield full.compress(level)
    for last in gatherer.flush():
        yield last.compress(level)


def _windows(
    context: Context, namespace: NamespaceId, chunks: Iterable[ChunkId]
) -> Iterator[list[ChunkId]]:
    window: list[ChunkId] = []
    size = 0
    for chunk in chunks:
        address = context.state.index.address(namespace, chunk)
        if address is None:
            raise _nowhere(chunk)
        if window and size + address.length > WINDOW:
            yield window
            window, size = [], 0
        window.append(chunk)
        size += address.length
    if window:
        yield window


def _nowhere(chunk: ChunkId) -> NotFoundError:
    return NotFoundError(
        f"chunk {chunk.hex()} is in the store no longer",
        remedy="Retention let this version's content go; see: tcfs retention show",
    )


def rescue(context: Context, namespace: NamespaceId, chunks: Sequence[ChunkId]) -> None:
    """Make sure that what is about to be committed counts on no marked pack.

    What lies in marked packs alone is stored anew, for the segment that comes to tell of.

    Raises:
        NotFoundError: a chunk is in the store no longer.
    """
    lost = context.state.garbage.uncounted(namespace, chunks)
    if not lost:
        return
    found = copy_chunks(context, namespace, lost)
    context.state.index.add_chunks(namespace, found, announced=False)


def move(context: Context, namespace: NamespaceId, chunks: Sequence[ChunkId]) -> str:
    """Store these chunks in new packs and tell everybody, with a segment that has no events.

    Returns the segment, as ``<device>/<seq>``.
    """
    found = copy_chunks(context, namespace, chunks)
    state = context.state
    named = [location.id for location in state.index.pending_packs(namespace)]
    place = next_place(context, namespace)
    sealed_as = sealing(context, namespace)
    sealed = seal_segment(
        SegmentDraft(place=place, written_at=int(context.host.clock.now()), packs=named),
        repo=context.repo,
        signer=context.identity,
        salt=context.host.entropy.token(SALT_SIZE),
        keyring=sealed_as.keyring,
        epoch=sealed_as.epoch,
        cipher=sealed_as.cipher,
    )
    entry = OutboxEntry(namespace, place.seq, sealed.key, sealed.data, None)
    state.outbox.add(entry)
    context.store.put(sealed.key, sealed.data)
    with state.transaction():
        take_up(context, sealed.header, sealed.hash, (), (), named)
        state.garbage.prefer(namespace, found)
        state.outbox.remove(entry)
    return f"{context.identity.device_id}/{place.seq}"


def check_readable(
    context: Context, namespace: NamespaceId, wanted: Iterable[tuple[ChunkId, ChunkAddress]]
) -> set[ChunkId]:
    """Those of the chunks whose bytes are where they are said to be. Every one is read."""
    from tcfs.content.fetch import OpenedChunk, open_frames, plan_ranges

    good: set[ChunkId] = set()
    readers = context.readers(namespace)
    for ranged in plan_ranges(wanted).ranges:
        try:
            data = context.read_pack(ranged.pack, ranged.offset, ranged.length)
            reader = readers.reader(ranged.pack, ranged.head(data))
        except (IntegrityError, ObjectMissing):
            continue
        good.update(
            item.id for item in open_frames(data, ranged, reader) if isinstance(item, OpenedChunk)
        )
    return good
