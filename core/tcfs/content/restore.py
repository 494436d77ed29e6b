"""The CPU stage of a pull: decompress, verify and write files, or a piece of a large one.

The other direction of ``ingest``, and like it run in worker processes. What comes here was unsealed
before: a worker knows the chunk-id key and no other. Files are written under the names it is told,
which nobody else uses yet. A large file is verified by whoever puts its pieces together, before it
gets another name.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

from blake3 import blake3
from msgspec import Struct, msgpack

from tcfs.content.ids import ChunkHasher
from tcfs.content.pack import damaged
from tcfs.content.unpack import Unsealed, inflate, not_its_id
from tcfs.errors import IntegrityError
from tcfs.host.base import FileSystem, Stat
from tcfs.host.room import Room
from tcfs.model.ids import ChunkId, PackId

E = TypeVar("E", bound=Exception)

DISK_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class OtherContent(IntegrityError):
    """Every chunk verifies, and together they are not the file that was signed."""


class Part(Struct, frozen=True, array_like=True, gc=False):
    """A chunk of a file: where it lies in the plaintext of one of the batch's frames. Bytes."""

    frame: int
    offset: int
    length: int
    chunk: ChunkId


class FileOrder(Struct, frozen=True, array_like=True, gc=False):
    """A file or symlink to write: its attributes, its hash, and where its bytes are.

    ``target`` is empty but for a symlink, which has no parts.
    """

    path: bytes
    mode: int
    mtime_ns: int
    size: int
    file_hash: bytes
    parts: list[Part]
    target: bytes = b""


class PieceOrder(Struct, frozen=True, array_like=True, gc=False):
    """Bytes of a large file that is there, from ``start`` bytes on. Their hash is not checked."""

    path: bytes
    start: int
    parts: list[Part]


class RestoreBatch(NamedTuple):
    """Files, or a piece of one, and the frames that hold them. Can be pickled.

    ``serial`` is for the caller. The frames' payloads lie in ``room`` one after the other.
    """

    serial: int
    files: FileSystem
    hasher: ChunkHasher
    room: Room
    frames: list[Unsealed]
    orders: list[FileOrder]
    piece: PieceOrder | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Thousands of small values: pickle takes longer for them than writing the files does.
        frames = [(f.pack, f.offset, f.codec, len(f.payload)) for f in self.frames]
        packed = _PACK((self.orders, self.piece))
        return _unpack_batch, (self.serial, self.files, self.hasher, self.room, frames, packed)


Outcome = Stat | OSError | IntegrityError


class RestoredBatch(NamedTuple):
    """What became of the orders, in their order; fewer if the disk is full. Can be pickled.

    Of a piece there is nothing to tell but what went wrong.
    """

    serial: int
    outcomes: list[Outcome]

    def __reduce__(self) -> tuple[Any, ...]:
        plain = [tuple(o) if isinstance(o, Stat) else o for o in self.outcomes]
        return _unpack_outcomes, (self.serial, plain)


_PACK: Final = msgpack.Encoder().encode
_UNPACK: Final = msgpack.Decoder(tuple[list[FileOrder], PieceOrder | None]).decode


def _unpack_batch(
    serial: int,
    files: FileSystem,
    hasher: ChunkHasher,
    room: Room,
    frames: list[tuple[PackId, int, int, int]],
    packed: bytes,
) -> RestoreBatch:
    held, start = list[Unsealed](), 0
    for pack, offset, codec, length in frames:
        held.append(Unsealed(pack, offset, codec, room.view[start : start + length]))
        start += length
    return RestoreBatch(serial, files, hasher, room, held, *_UNPACK(packed))


def _unpack_outcomes(serial: int, plain: list[Any]) -> RestoredBatch:
    return RestoredBatch(serial, [Stat(*o) if type(o) is tuple else o for o in plain])


def restore(batch: RestoreBatch) -> RestoredBatch:
    """Write the files of a batch; a file that fails leaves nothing, and the others go on.

    A frame's plaintext is kept from its first use to its last.
    """
    frames = _Frames(batch)
    outcomes: list[Outcome] = []
    for order in batch.orders:
        try:
            outcomes.append(_write(batch, frames, order))
        except OSError as error:
            outcomes.append(_told(error))
            if error.errno in DISK_FULL:
                break
        except IntegrityError as error:
            outcomes.append(_told(error))
        frames.used(order.parts)
    if batch.piece is not None:
        try:
            batch.files.write_at(batch.piece.path, batch.piece.start, frames.of(batch.piece.parts))
        except (OSError, IntegrityError) as error:
            outcomes.append(_told(error))
    return RestoredBatch(batch.serial, outcomes)


def _told(error: E) -> E:
    """An error without its traceback, which would keep all that it was about in memory."""
    error.__context__ = None
    return error.with_traceback(None)


def _write(batch: RestoreBatch, frames: _Frames, order: FileOrder) -> Stat:
    if order.target:
        return batch.files.symlink(order.target, order.path, order.mtime_ns)
    parts = [frames.plain(p.frame)[p.offset : p.offset + p.length] for p in order.parts]
    if len(parts) == 1:
        found = blake3(parts[0]).digest()
    else:
        hasher = blake3()
        for part in parts:
            hasher.update(part)
        found = hasher.digest()
    # The hash of the whole is signed: if it is right, so is every chunk. If not, the chunks' own
    # ids tell a damaged pack from a manifest that was wrong when it was written.
    if found != order.file_hash or sum(map(len, parts)) != order.size:
        for part, place in zip(parts, order.parts, strict=True):
            if batch.hasher.chunk_id(part) != place.chunk:
                raise not_its_id(batch.frames[place.frame].pack, place.chunk)
        raise OtherContent("the chunks are not the file that was signed")
    return batch.files.write_new(order.path, parts, order.mode, order.mtime_ns)


class _Frames:
    def __init__(self, batch: RestoreBatch) -> None:
        self._frames = batch.frames
        self._uses = Counter(part.frame for order in batch.orders for part in order.parts)
        if batch.piece is not None:
            self._uses.update(part.frame for part in batch.piece.parts)
        self._plain: dict[int, memoryview | IntegrityError] = {}

    def plain(self, number: int) -> memoryview:
        """A frame's plaintext. Raises IntegrityError."""
        found = self._plain.get(number)
        if found is None:
            try:
                found = memoryview(inflate(self._frames[number]))
            except IntegrityError as error:
                found = error
            self._plain[number] = found
        if isinstance(found, IntegrityError):
            raise found
        return found

    def of(self, parts: list[Part]) -> Iterator[memoryview]:
        """The bytes of these parts, neighbours in a frame together. Raises IntegrityError."""
        run: list[Part] = []
        for part in parts:
            if run and (part.frame, part.offset) != (
                run[-1].frame,
                run[-1].offset + run[-1].length,
            ):
                yield self._of_run(run)
                self.used(run)
                run = []
            run.append(part)
        if run:
            yield self._of_run(run)

    def _of_run(self, run: list[Part]) -> memoryview:
        first, last = run[0], run[-1]
        view = self.plain(first.frame)[first.offset : last.offset + last.length]
        if len(view) != last.offset + last.length - first.offset:
            raise damaged(self._frames[first.frame].pack, "a frame is shorter than was told")
        return view

    def used(self, parts: list[Part]) -> None:
        """Let go of what nothing later needs."""
        for part in parts:
            self._uses[part.frame] -= 1
            if not self._uses[part.frame]:
                self._plain.pop(part.frame, None)
