"""Packs: many sealed frames in one object. The header, and how a pack is written.

The nonce of a frame is its offset in the pack: it only grows, so that no two frames of a pack
share one, and a reader that knows a chunk's address knows the nonce too. A pack's key is derived
from a salt of its own; a pack that is begun anew takes a new header with a new salt.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from blake3 import blake3
from msgspec import Struct

from tcfs.content.address import MAX_FRAME, MAX_PACK, ChunkAddress
from tcfs.content.frame import Bytes, Codec, plain_size
from tcfs.content.seal import NO_EPOCH, PACK_KIND, Binding, Cipher, Sealer
from tcfs.errors import IntegrityError
from tcfs.model.ids import ChunkId, DeviceId, EpochId, NamespaceId, PackId, is_uuid

PACK_MAGIC: Final = b"TCFSPACK"
PACK_END: Final = b"TCFSPEND"
PACK_VERSION: Final = 1
HEADER_READ: Final = 164
"""Bytes from the start of a pack that hold its header, whatever it says; no pack is shorter."""
FOOTER_SIZE: Final = 12

_HEADER = struct.Struct(">8sBBH16s16sQ16s32sB")
_AAD = struct.Struct(">BQBB")
_FRAME_ENTRY = struct.Struct(">II")
CHUNK_ENTRY: Final = struct.Struct(">32sI")
_FOOTER = struct.Struct(">I8s")


class PackScope(Struct, frozen=True):
    """What a pack must belong to for its reader."""

    repo: UUID
    namespace: NamespaceId
    encrypted: bool


class PackHeader(Struct, frozen=True):
    """The plaintext start of a pack. ``seq`` is that of the segment it was written for."""

    cipher: Cipher
    repo: UUID
    device: DeviceId
    seq: int
    epoch: EpochId
    salt: bytes
    namespace: NamespaceId

    @property
    def size(self) -> int:
        """Bytes up to the first frame."""
        return _HEADER.size + len(self.namespace)

    @property
    def binding(self) -> Binding:
        """What the pack's key is derived for."""
        return Binding(PACK_KIND, self.repo, self.namespace, self.epoch, self.cipher)

    def encode(self) -> bytes:
        """The header's bytes. Raises ValueError if a field does not fit the format."""
        if len(self.salt) != 32 or not is_uuid(self.device) or self.seq < 1:
            raise ValueError("a pack needs a salt of 32 bytes, a device's uuid and a seq from 1")
        if (self.cipher is Cipher.NONE) != (self.epoch == NO_EPOCH):
            raise ValueError("a pack has an epoch if and only if it is sealed")
        space = self.namespace.encode("ascii")
        return (
            _HEADER.pack(
                PACK_MAGIC,
                PACK_VERSION,
                self.cipher,
                self.size,
                self.repo.bytes,
                UUID(self.device).bytes,
                self.seq,
                bytes.fromhex(self.epoch) if self.epoch else bytes(16),
                self.salt,
                len(space),
            )
            + space
        )

    @classmethod
    def parse(cls, data: Bytes, pack: PackId, scope: PackScope) -> PackHeader:
        """Read the start of a pack and check where it belongs.

        Args:
            data: the pack from its start; ``HEADER_READ`` bytes are always enough.
            pack: its id, for errors.
            scope: where it must belong.

        Raises:
            IntegrityError: not a pack, of another version, damaged, of another repository or
                namespace, or sealed where it must not be or not where it must.
        """
        if len(data) < _HEADER.size or len(data) < _HEADER.size + data[_HEADER.size - 1]:
            raise damaged(pack, f"it has only {len(data)} bytes")
        magic, version, cipher, size, repo, device, seq, epoch, salt, named = _HEADER.unpack_from(
            data
        )
        space = bytes(data[_HEADER.size : _HEADER.size + named])
        if magic != PACK_MAGIC:
            raise damaged(pack, "it does not begin like a pack")
        if version != PACK_VERSION:
            raise damaged(pack, f"its version is {version}; this tcfs reads version {PACK_VERSION}")
        if size != _HEADER.size + named:
            raise damaged(pack, "the length of its header is wrong")
        if repo != scope.repo.bytes:
            raise damaged(pack, f"it belongs to repository {UUID(bytes=repo)}")
        if space != scope.namespace.encode():
            raise damaged(pack, f"it belongs to namespace {space!r}, not {scope.namespace!r}")
        if cipher not in (1, 2) if scope.encrypted else cipher != 0:
            raise damaged(pack, f"cipher {cipher} is not allowed in this repository")
        if any(epoch) != scope.encrypted:
            raise damaged(pack, "its epoch does not fit its cipher")
        if seq < 1:
            raise damaged(pack, "its seq is 0")
        return cls(
            cipher=Cipher(cipher),
            repo=scope.repo,
            device=DeviceId(str(UUID(bytes=device))),
            seq=seq,
            epoch=EpochId(epoch.hex()) if scope.encrypted else NO_EPOCH,
            salt=salt,
            namespace=scope.namespace,
        )


def damaged(pack: PackId, what: str, chunk: ChunkId | None = None) -> IntegrityError:
    """An error that names the pack, and the chunk where one is meant."""
    details = {"pack": pack} if chunk is None else {"pack": pack, "chunk": chunk.hex()}
    return IntegrityError(f"pack {pack}: {what}", details=details)


def frame_aad(offset: int, codec: int, *, trailer: bool) -> bytes:
    """What a frame is bound to besides its pack's key."""
    return _AAD.pack(trailer, offset, trailer, codec)


def pack_id(data: Bytes) -> PackId:
    """The id of a pack with these bytes."""
    return PackId(blake3(data).hexdigest())


class Pack(Struct, frozen=True):
    """A finished pack, ready to be stored under its id."""

    id: PackId
    data: bytearray
    chunks: list[tuple[ChunkId, ChunkAddress]]
    """Where each chunk lies, in the order it was added."""


class PackBuilder:
    """Writes one pack in memory. Not for several threads at once.

    Args:
        header: where the pack belongs. Its salt is random and of no other pack.
        epoch_key: the key of the header's epoch; anything where nothing is sealed.
    """

    def __init__(self, header: PackHeader, epoch_key: bytes) -> None:
        self._sealer = Sealer(header.binding, epoch_key, header.salt)
        self._data = bytearray(header.encode())
        self._frames: list[tuple[int, int, Sequence[tuple[ChunkId, int]]]] = []
        self._trailer_size = 4
        self._finished = False

    @property
    def size(self) -> int:
        """Bytes the pack would have if it were finished now (its trailer may compress to less)."""
        ends = 1 + self._trailer_size + self._sealer.overhead + FOOTER_SIZE
        return len(self._data) + ends

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._frames

    def add_frame(
        self, codec: Codec, payload: Bytes, chunks: Sequence[tuple[ChunkId, int]]
    ) -> None:
        """Seal a payload of ``frame.compress`` that holds these chunks (id, length in bytes).

        Raises:
            ValueError: the chunks are not exactly the payload's plaintext, or the frame or the
                pack would be larger than the format allows. The pack is as it was before.
        """
        plain = sum([length for _, length in chunks])
        if not chunks or min([length for _, length in chunks]) < 1:
            raise ValueError("a frame holds at least one chunk, and no empty one")
        if plain != plain_size(codec, payload) or plain > MAX_FRAME:
            raise ValueError(f"a frame's chunks have {plain} bytes, its payload another number")
        entries = _FRAME_ENTRY.size + CHUNK_ENTRY.size * len(chunks)
        growth = 1 + len(payload) + self._sealer.overhead + entries
        if self.size + growth > MAX_PACK or self._trailer_size + entries > MAX_FRAME:
            raise ValueError("a pack cannot hold so much")
        offset = len(self._data)
        self._append(codec, payload, trailer=False)
        self._frames.append((offset, len(self._data) - offset, chunks))
        self._trailer_size += entries

    def _append(self, codec: Codec, payload: Bytes, *, trailer: bool) -> None:
        offset = len(self._data)
        sealed = self._sealer.seal(offset, frame_aad(offset, codec, trailer=trailer), payload)
        self._data.append(codec)
        self._data += sealed

    def finish(self) -> Pack:
        """Write the trailer and name the pack. Nothing can be added after.

        Raises:
            ValueError: it is empty, or finished already.
        """
        if self._finished or not self._frames:
            raise ValueError("a pack is finished once, and not before it holds a frame")
        self._finished = True
        trailer = [len(self._frames).to_bytes(4, "big")]
        trailer += [_FRAME_ENTRY.pack(size, len(chunks)) for _, size, chunks in self._frames]
        entry = CHUNK_ENTRY.pack
        for _, _, chunks in self._frames:
            trailer += [entry(chunk, length) for chunk, length in chunks]
        start = len(self._data)
        # Ids are random and lengths are few: compressing the trailer would gain a tenth at most.
        self._append(Codec.STORED, b"".join(trailer), trailer=True)
        self._data += _FOOTER.pack(len(self._data) - start, PACK_END)
        name = pack_id(self._data)
        located: list[tuple[ChunkId, ChunkAddress]] = []
        for frame_offset, frame_length, chunks in self._frames:
            offset = 0
            for chunk, length in chunks:
                where = ChunkAddress(name, frame_offset, frame_length, offset, length)
                located.append((chunk, where))
                offset += length
        self._frames = []
        return Pack(name, self._data, located)


def trailer_length(footer: Bytes, pack: PackId) -> int:
    """Bytes of the trailer, from the last ``FOOTER_SIZE`` bytes of a pack.

    Raises:
        IntegrityError: the pack is truncated, or is none.
    """
    if len(footer) != FOOTER_SIZE:
        raise damaged(pack, "it is truncated")
    length, end = _FOOTER.unpack(footer)
    if end != PACK_END:
        raise damaged(pack, "it does not end like a pack")
    return int(length)


def decode_trailer(plain: Bytes) -> tuple[list[tuple[int, int]], list[tuple[bytes, int]]]:
    """Split a trailer's plaintext: (length, chunk count) of each frame, (id, length) of each chunk.

    Raises:
        IntegrityError: its parts do not add up.
    """
    view = memoryview(plain)
    count = int.from_bytes(view[:4], "big")
    middle = 4 + _FRAME_ENTRY.size * count
    if len(view) < 4 or not count or middle > len(view) or (len(view) - middle) % CHUNK_ENTRY.size:
        raise IntegrityError("the trailer is malformed")
    frames = list(_FRAME_ENTRY.iter_unpack(view[4:middle]))
    chunks = list(CHUNK_ENTRY.iter_unpack(view[middle:]))
    if sum([number for _, number in frames]) != len(chunks):
        raise IntegrityError("the trailer is malformed")
    return frames, chunks
