"""The read side: few ranged reads for many chunks, and every chunk verified before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tcfs.content.address import ChunkAddress, check_address
from tcfs.content.frame import Bytes
from tcfs.content.pack import HEADER_READ, damaged
from tcfs.content.unpack import PackReader, Unsealed, inflate
from tcfs.errors import IntegrityError
from tcfs.model.ids import ChunkId, PackId

MAX_GAP: Final = 256 << 10
"""Bytes not wanted that are read along rather than asking twice."""
MAX_RANGE: Final = 8 << 20
"""Bytes of one ranged read, unless a single frame is longer."""


class WantedChunk(NamedTuple):
    """A chunk in a frame's plaintext; ``offset`` and ``length`` in bytes."""

    id: ChunkId
    offset: int
    length: int


class WantedFrame(NamedTuple):
    """A frame by its place in the pack, and what is wanted of it."""

    offset: int
    length: int
    chunks: list[WantedChunk]


class RangePlan(NamedTuple):
    """One ranged read: ``length`` bytes of ``pack`` from ``offset``, and the frames in it."""

    pack: PackId
    offset: int
    length: int
    frames: list[WantedFrame]

    @property
    def sealed(self) -> int:
        """Bytes of its frames as they lie in the pack; their payloads have fewer."""
        return sum([frame.length for frame in self.frames])

    def head(self, data: Bytes) -> Bytes | None:
        """The start of the pack, if the bytes of this range hold it: saves reading the header."""
        return memoryview(data)[:HEADER_READ] if self.offset == 0 else None


class OpenedChunk(NamedTuple):
    """A verified chunk. ``data`` is a view of its frame's plaintext, which it keeps in memory."""

    id: ChunkId
    data: memoryview


class DamagedChunk(NamedTuple):
    """A chunk that could not be had; ``error`` names the pack and the chunk."""

    id: ChunkId
    error: IntegrityError


class FetchPlan(NamedTuple):
    """The ranged reads for a set of chunks, by pack and offset, and the chunks no read can get."""

    ranges: list[RangePlan]
    refused: list[DamagedChunk]


def plan_ranges(
    wanted: Iterable[tuple[ChunkId, ChunkAddress]],
    *,
    max_gap: int = MAX_GAP,
    max_range: int = MAX_RANGE,
) -> FetchPlan:
    """Group wanted chunks by frame, and neighbouring frames into ranges.

    A pair given twice is fetched once. A range near the start of a pack begins at its start, so
    that the header comes along.

    Args:
        wanted: chunk ids and where they lie.
        max_gap: bytes between two frames that are read along.
        max_range: bytes above which a range is not extended.
    """
    (plan,) = plan_together([wanted], max_gap=max_gap, max_range=max_range)
    return plan


def plan_together(
    many: Iterable[Iterable[tuple[ChunkId, ChunkAddress]]],
    *,
    max_gap: int = MAX_GAP,
    max_range: int = MAX_RANGE,
) -> list[FetchPlan]:
    """``plan_ranges`` for several who are served by the same reads, a plan for each.

    Ranges of two plans are equal in pack, offset and length, or have nothing in common. Each names
    the frames that are wanted by its own plan.
    """
    each = [_by_frame(wanted) for wanted in many]
    every: dict[PackId, set[tuple[int, int]]] = {}
    for packs, _ in each:
        for pack, frames in packs.items():
            every.setdefault(pack, set()).update(frames)
    ranges = {pack: list(_ranges(every[pack], max_gap, max_range)) for pack in sorted(every)}
    plans = []
    for packs, refused in each:
        plan = FetchPlan([], refused)
        for pack in sorted(packs):
            mine = packs[pack]
            for start, end, inside in ranges[pack]:
                members = [
                    WantedFrame(*place, sorted(mine[place], key=_by_offset))
                    for place in inside
                    if place in mine
                ]
                if members:
                    plan.ranges.append(RangePlan(pack, start, end - start, members))
        plans.append(plan)
    return plans


_Frames = dict[tuple[int, int], dict[WantedChunk, None]]


def _by_frame(
    wanted: Iterable[tuple[ChunkId, ChunkAddress]],
) -> tuple[dict[PackId, _Frames], list[DamagedChunk]]:
    """What is wanted of each frame of each pack, and the chunks that no pack can hold."""
    refused: list[DamagedChunk] = []
    packs: dict[PackId, _Frames] = {}
    for chunk, address in wanted:
        try:
            check_address(address)
        except IntegrityError as error:
            refused.append(DamagedChunk(chunk, damaged(address.pack, error.message, chunk)))
            continue
        frames = packs.setdefault(address.pack, {})
        frame = frames.setdefault((address.frame_offset, address.frame_length), {})
        frame[WantedChunk(chunk, address.offset, address.length)] = None
    return packs, refused


def _ranges(
    frames: Iterable[tuple[int, int]], max_gap: int, max_range: int
) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Start and end of the ranges that frames of one pack are read in, and which are in each."""
    start, end, inside = 0, 0, list[tuple[int, int]]()
    for offset, length in sorted(frames):
        if offset - end > max_gap or max(end, offset + length) - start > max_range:
            if inside:
                yield start, end, inside
            start, end, inside = offset, offset, []
        inside.append((offset, length))
        end = max(end, offset + length)
    yield start, end, inside


def _by_offset(chunk: WantedChunk) -> tuple[int, int]:
    return chunk.offset, chunk.length


def cut_windows(
    located: Iterable[tuple[ChunkId, ChunkAddress]], sealed: int, plain: int
) -> Iterator[list[tuple[ChunkId, ChunkAddress]]]:
    """Runs of a file's chunks that are fetched together, in order.

    They end where a frame does, lest it be fetched for the next as well.

    Args:
        located: the chunks and where they lie.
        sealed: bytes of frames above which a window is not extended by a frame.
        plain: bytes of chunks from which a window is not extended.
    """
    window: list[tuple[ChunkId, ChunkAddress]] = []
    frames: set[tuple[PackId, int]] = set()
    stored = size = 0
    for chunk, address in located:
        frame = (address.pack, address.frame_offset)
        new = frame not in frames
        if window and (size >= plain or (new and stored + address.frame_length > sealed)):
            yield window
            window, frames, stored, size, new = [], set(), 0, 0, True
        if new:
            frames.add(frame)
            stored += address.frame_length
        window.append((chunk, address))
        size += address.length
    if window:
        yield window


def unseal_frames(
    data: Bytes, plan: RangePlan, reader: PackReader, into: memoryview | None = None
) -> Iterator[tuple[WantedFrame, Unsealed | IntegrityError]]:
    """The wanted frames of a range, each authenticated, or what is wrong with it.

    Args:
        data: the bytes of the range.
        plan: what they are.
        reader: of the range's pack.
        into: where the payloads are put, one after the other; has ``plan.sealed`` bytes.
    """
    view = memoryview(data)
    for frame in plan.frames:
        start = frame.offset - plan.offset
        sealed = view[start : start + frame.length]
        try:
            unsealed = reader.unseal(frame.offset, sealed, into=into)
            if into is not None:
                into = into[len(unsealed.payload) :]
            yield frame, unsealed
        except IntegrityError as error:
            yield frame, error


def open_frames(
    data: Bytes, plan: RangePlan, reader: PackReader
) -> Iterator[OpenedChunk | DamagedChunk]:
    """The wanted chunks of a range, each verified against its id before it is handed out.

    A damaged chunk or frame is reported, and the others still come. One frame is opened at a time.

    Args:
        data: the bytes of the range.
        plan: what they are.
        reader: of the range's pack.
    """
    for frame, unsealed in unseal_frames(data, plan, reader):
        try:
            if isinstance(unsealed, IntegrityError):
                raise unsealed
            plain = memoryview(inflate(unsealed))
        except IntegrityError as error:
            for chunk in frame.chunks:
                yield DamagedChunk(chunk.id, of_chunk(error, plan.pack, chunk.id))
            continue
        for chunk in frame.chunks:
            part = plain[chunk.offset : chunk.offset + chunk.length]
            try:
                reader.check_chunk(chunk.id, part)
            except IntegrityError as error:
                yield DamagedChunk(chunk.id, error)
            else:
                yield OpenedChunk(chunk.id, part)


def of_chunk(error: IntegrityError, pack: PackId, chunk: ChunkId) -> IntegrityError:
    """The error of a frame, naming a chunk that was in it."""
    return IntegrityError(error.message, details={"pack": pack, "chunk": chunk.hex()})
