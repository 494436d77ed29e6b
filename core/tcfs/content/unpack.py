"""Reading packs: single frames, the trailer, and the whole for verification."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

from tcfs.content.address import MAX_FRAME, ChunkAddress
from tcfs.content.frame import Bytes, decompress
from tcfs.content.ids import ChunkHasher
from tcfs.content.keys import KeyRing
from tcfs.content.pack import (
    FOOTER_SIZE,
    HEADER_READ,
    PackHeader,
    PackScope,
    damaged,
    decode_trailer,
    frame_aad,
    pack_id,
    trailer_length,
)
from tcfs.content.seal import Cipher, Sealer
from tcfs.errors import AccessError, IntegrityError
from tcfs.model.ids import ChunkId, PackId


class FrameEntry(NamedTuple):
    """A frame as the trailer lists it; offsets and lengths in bytes."""

    offset: int
    length: int
    chunks: list[tuple[ChunkId, int]]


class Unsealed(NamedTuple):
    """A frame that was authenticated and is still compressed. Can be pickled."""

    pack: PackId
    offset: int
    codec: int
    payload: Bytes


def inflate(frame: Unsealed, *, limit: int = MAX_FRAME, what: str = "frame") -> Bytes:
    """The plaintext of a frame, at most ``limit`` bytes; its chunks are not verified yet.

    Raises:
        IntegrityError: it does not decompress, or is too large.
    """
    try:
        return decompress(frame.codec, frame.payload, limit=limit)
    except IntegrityError as error:
        raise damaged(frame.pack, f"the {what} at {frame.offset}: {error.message}") from None


def not_its_id(pack: PackId, chunk: ChunkId) -> IntegrityError:
    """The error for bytes that are another chunk than they should be."""
    return damaged(pack, f"chunk {chunk.hex()} has other bytes than its id says", chunk)


def addresses(pack: PackId, frames: list[FrameEntry]) -> Iterator[tuple[ChunkId, ChunkAddress]]:
    """Where each chunk of a pack lies, to rebuild an index."""
    for frame in frames:
        offset = 0
        for chunk, length in frame.chunks:
            yield chunk, ChunkAddress(pack, frame.offset, frame.length, offset, length)
            offset += length


class PackReader:
    """Opens the frames of one pack, from whichever of its bytes were fetched.

    Safe to use from several threads at once.

    Args:
        pack: the pack's id.
        head: the pack from its start; ``HEADER_READ`` bytes are always enough.
        scope: where it must belong.
        keys: the secrets of that namespace.

    Raises:
        IntegrityError: the header is damaged or belongs elsewhere.
        AccessError: this device has no key of the pack's epoch.
    """

    def __init__(self, pack: PackId, head: Bytes, scope: PackScope, keys: KeyRing) -> None:
        self.pack = pack
        self.header = PackHeader.parse(head, pack, scope)
        sealed = self.header.cipher is not Cipher.NONE
        key = keys.epoch_key(self.header.epoch) if sealed else b""
        self._sealer = Sealer(self.header.binding, key, self.header.salt)
        self._hasher = ChunkHasher(keys.chunk_key)
        self._proven = False
        self.doubtful = False
        """Whether frames failed and none was ever right: the head may be what was damaged."""

    def unseal(
        self,
        offset: int,
        frame: Bytes,
        *,
        trailer: bool = False,
        into: memoryview | None = None,
    ) -> Unsealed:
        """Authenticate and decrypt the frame at ``offset``.

        Args:
            offset: where the frame begins in the pack.
            frame: exactly the frame's bytes.
            into: where to put the payload; no shorter than the frame.

        Raises:
            IntegrityError: damaged, moved or truncated.
        """
        if len(frame) < 1 + self._sealer.overhead:
            raise damaged(self.pack, f"the frame at {offset} is truncated")
        view = memoryview(frame)
        codec = view[0]
        try:
            payload: Bytes
            aad = frame_aad(offset, codec, trailer=trailer)
            if into is None:
                payload = self._sealer.open(offset, aad, view[1:])
            else:
                payload = into[: self._sealer.open_into(offset, aad, view[1:], into)]
        except IntegrityError as error:
            self.doubtful = not self._proven
            what = "trailer" if trailer else "frame"
            raise damaged(self.pack, f"the {what} at {offset}: {error.message}") from None
        self._proven, self.doubtful = True, False
        return Unsealed(self.pack, offset, codec, payload)

    def open_frame(self, offset: int, frame: Bytes, *, limit: int = MAX_FRAME) -> memoryview:
        """The plaintext of the frame at ``offset``, whose chunks are not verified yet.

        Args:
            offset: where the frame begins in the pack.
            frame: exactly the frame's bytes.
            limit: bytes of plaintext above which the frame is refused.

        Raises:
            IntegrityError: damaged, moved, truncated or too large.
        """
        return memoryview(inflate(self.unseal(offset, frame), limit=limit))

    def check_chunk(self, chunk: ChunkId, data: Bytes) -> None:
        """Verify that these bytes are that chunk. Raises IntegrityError."""
        if self._hasher.chunk_id(data) != chunk:
            raise not_its_id(self.pack, chunk)

    def open_trailer(self, offset: int, frame: Bytes) -> list[FrameEntry]:
        """The frames that the trailer lists.

        Args:
            offset: where the trailer begins: size of the pack - ``FOOTER_SIZE`` - its length.
            frame: exactly the trailer's bytes.

        Raises:
            IntegrityError: damaged, or not what lies before it.
        """
        plain = memoryview(inflate(self.unseal(offset, frame, trailer=True), what="trailer"))
        try:
            frames, chunks = decode_trailer(plain)
        except IntegrityError as error:
            raise damaged(self.pack, error.message) from None
        entries: list[FrameEntry] = []
        position, first = self.header.size, 0
        for length, count in frames:
            mine = [(ChunkId(chunk), size) for chunk, size in chunks[first : first + count]]
            total = sum([size for _, size in mine])
            if not mine or min([size for _, size in mine]) < 1 or total > MAX_FRAME:
                raise damaged(self.pack, f"the trailer lists an impossible frame at {position}")
            entries.append(FrameEntry(position, length, mine))
            position += length
            first += count
        if position != offset:
            raise damaged(self.pack, "the frames of its trailer do not fill it")
        return entries

    def read_trailer(self, data: Bytes) -> list[FrameEntry]:
        """The frames of a whole pack, from its bytes. Raises IntegrityError."""
        view = memoryview(data)
        length = trailer_length(view[-FOOTER_SIZE:], self.pack)
        offset = len(view) - FOOTER_SIZE - length
        if offset < self.header.size:
            raise damaged(self.pack, "its trailer is longer than itself")
        return self.open_trailer(offset, view[offset:-FOOTER_SIZE])

    def frame_problems(self, data: Bytes) -> Iterator[IntegrityError]:
        """What is wrong with the frames, chunks and trailer of a whole pack's bytes.

        One frame's plaintext is in memory at a time.
        """
        try:
            entries = self.read_trailer(data)
        except IntegrityError as error:
            yield error
            return
        view = memoryview(data)
        for entry in entries:
            expected = sum([length for _, length in entry.chunks])
            stored = view[entry.offset : entry.offset + entry.length]
            try:
                plain = self.open_frame(entry.offset, stored, limit=expected)
                if len(plain) != expected:
                    raise damaged(self.pack, f"the frame at {entry.offset} is too short")
            except IntegrityError as error:
                yield error
                continue
            offset = 0
            for chunk, length in entry.chunks:
                try:
                    self.check_chunk(chunk, plain[offset : offset + length])
                except IntegrityError as error:
                    yield error
                offset += length


def pack_problems(
    pack: PackId, data: Bytes, scope: PackScope, keys: KeyRing
) -> Iterator[IntegrityError]:
    """Everything that is wrong with a whole pack: id, header, trailer, frames, every chunk's id.

    Nothing comes if the pack is as it was written. What comes after a wrong id says which chunks
    the damage hit.

    Raises:
        AccessError: this device has no key of the pack's epoch.
    """
    intact = pack_id(data) == pack
    if not intact:
        yield damaged(pack, "its bytes do not have its id")
    try:
        reader = PackReader(pack, data, scope, keys)
    except IntegrityError as error:
        yield error
        return
    except AccessError:
        # Of a damaged pack, the epoch may be what is damaged.
        if intact:
            raise
        return
    yield from reader.frame_problems(data)


def verify_pack(pack: PackId, data: Bytes, scope: PackScope, keys: KeyRing) -> None:
    """Verify a whole pack down to every chunk id.

    Raises:
        IntegrityError: the first thing that is wrong with it, naming the pack.
        AccessError: this device has no key of the pack's epoch.
    """
    for problem in pack_problems(pack, data, scope, keys):
        raise problem


class PackReaders:
    """Readers of many packs, so that a pack's header is fetched and its key derived once.

    Safe to use from several threads at once; keeps the ``capacity`` last used.

    Args:
        scope: where the packs must belong.
        keys: the secrets of that namespace.
        fetch_head: gets the first ``HEADER_READ`` bytes of a pack.
    """

    def __init__(
        self,
        scope: PackScope,
        keys: KeyRing,
        fetch_head: Callable[[PackId], bytes],
        *,
        capacity: int = 1024,
    ) -> None:
        self._scope = scope
        self._keys = keys
        self._fetch_head = fetch_head
        self._capacity = capacity
        self._readers: OrderedDict[PackId, PackReader] = OrderedDict()
        self._lock = Lock()

    def reader(self, pack: PackId, head: Bytes | None = None) -> PackReader:
        """The reader of a pack; ``head`` is its start, if the caller happens to have it.

        Raises:
            IntegrityError, AccessError: as ``PackReader``; also what ``fetch_head`` raises.
        """
        with self._lock:
            known = self._readers.get(pack)
            if known is not None and not known.doubtful:
                self._readers.move_to_end(pack)
                return known
        if head is None:
            head = self._fetch_head(pack)
        made = PackReader(pack, bytes(head[:HEADER_READ]), self._scope, self._keys)
        with self._lock:
            self._readers[pack] = made
            while len(self._readers) > self._capacity:
                self._readers.popitem(last=False)
        return made
