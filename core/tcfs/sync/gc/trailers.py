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


def moved_chunks(
    context: Context, namespace: NamespaceId, segments: Iterable[Segment]
) -> list[tuple[ChunkId, ChunkAddress]]:
    """Where chunks are from now on that a collection moved.

    A segment without events moves what the packs that it names hold. A pack that is gone again was
    marked meanwhile, or its chunks are found where they were.

    Raises:
        StoreError: the store failed.
    """
    found: list[tuple[ChunkId, ChunkAddress]] = []
    for segment in segments:
        if segment.events:
            continue
        marked = context.state.garbage.marked_among(segment.packs)
        for pack in segment.packs:
            if pack in marked:
                continue
            key = StoreKey(f"packs/{pack[:2]}/{pack}")
            info = context.store.head(key)
            if info is None:
                continue
            try:
                found += read_ends(context, namespace, pack, key, info.size).chunks
            except (IntegrityError, AccessError, ObjectMissing):
                continue
    return found
