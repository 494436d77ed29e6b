"""What packs hold, read from their ends: a header and a trailer, and none of the frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from tcfs.content.address import MAX_PACK, ChunkAddress
from tcfs.content.pack import FOOTER_SIZE, HEADER_READ, PackHeader, damaged, trailer_length
from tcfs.content.unpack import PackReader, addresses
from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.segment import Segment
from tcfs.model.ids import ChunkId, NamespaceId, PackId, StoreKey
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.upload import pack_key

TAIL: Final = 64 << 10
"""Bytes read from the end at first: enough for the trailer of a pack of 1,500 chunks."""


class PackEnds(NamedTuple):
    """A pack's header, and where each chunk lies by its trailer; no frame was looked at."""

    header: PackHeader
    chunks: list[tuple[ChunkId, ChunkAddress]]


def read_ends(
    context: Context, namespace: NamespaceId, pack: PackId, key: StoreKey, size: int
) -> PackEnds:
    """Read a pack's header and trailer in two or three ranged reads.

    Args:
        size: bytes of the object, which holds the pack and nothing else.

    Raises:
        IntegrityError: it is no whole pack of this namespace.
        AccessError: this device has no key of its epoch.
        StoreError: it cannot be read.
    """
    if not HEADER_READ <= size <= MAX_PACK:
        raise damaged(pack, f"its object has {size} bytes")
    store = context.store
    head = store.get_range(key, 0, HEADER_READ)
    reader = PackReader(pack, head, context.scope(namespace), context.keys(namespace))
    got = min(size, TAIL)
    tail = store.get_range(key, size - got, got)
    length = trailer_length(tail[-FOOTER_SIZE:], pack)
    offset = size - FOOTER_SIZE - length
    if offset < reader.header.size:
        raise damaged(pack, "its trailer is longer than itself")
    if length + FOOTER_SIZE > got:
        tail = store.get_range(key, offset, length + FOOTER_SIZE)
    frames = reader.open_trailer(offset, memoryview(tail)[-FOOTER_SIZE - length : -FOOTER_SIZE])
    return PackEnds(reader.header, list(addresses(pack, frames)))


class Moved(NamedTuple):
    """Where chunks are from now on that collections moved, and the packs that do not tell yet."""

    chunks: list[tuple[ChunkId, ChunkAddress]]
    unread: list[PackId]


def moved_chunks(context: Context, namespace: NamespaceId, segments: Iterable[Segment]) -> Moved:
    """What segments tell that were written by collections: those have no events.

    They move what the packs that they name hold.

    Raises:
        StoreError: the store failed.
    """
    packs = [pack for segment in segments if not segment.events for pack in segment.packs]
    return _read(context, namespace, packs)


def _read(context: Context, namespace: NamespaceId, packs: list[PackId]) -> Moved:
    """What the packs hold, but for marked ones: that was moved on, or is not needed."""
    found = Moved([], [])
    marked = context.state.garbage.marked_among(packs)
    for pack in packs:
        if pack in marked:
            continue
        key = pack_key(pack)
        try:
            info = context.store.head(key)
            if info is None:
                raise ObjectMissing(f"the store has no object {key}")
            found.chunks.extend(read_ends(context, namespace, pack, key, info.size).chunks)
        except (IntegrityError, AccessError, ObjectMissing):
            # Not shown yet, perhaps, or damaged on its way; once old places are gone it is the only
            # one there is.
            found.unread.append(pack)
    return found


def keep_moved(context: Context, namespace: NamespaceId, moved: Moved) -> None:
    """Remember it; part of the transaction that takes the segments up."""
    context.state.garbage.prefer(namespace, moved.chunks)
    context.state.garbage.note_unread(namespace, moved.unread)


def read_again(context: Context, namespace: NamespaceId) -> None:
    """Ask once more for the packs that did not tell what was moved to them.

    Raises:
        StoreError: the store failed.
    """
    packs = context.state.garbage.unread(namespace)
    if not packs:
        return
    moved = _read(context, namespace, packs)
    with context.state.transaction():
        context.state.garbage.note_read(set(packs) - set(moved.unread))
        context.state.garbage.prefer(namespace, moved.chunks)
