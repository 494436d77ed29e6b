"""The CPU stage of a push for small files: read, check, hash, cut and compress a batch.

Runs in worker processes. Nothing is sealed here: a worker knows the chunk-id key and no other.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct

from tcfs.content.address import MAX_CHUNK
from tcfs.content.chunker import SAMPLE_SIZE, SINGLE_MAX, cut_bytes, size_class
from tcfs.content.frame import DEFAULT_LEVEL, Bytes, Frame
from tcfs.content.gather import FRAME_TARGET, Gathered, Gatherer
from tcfs.content.ids import ChunkHasher, file_hash
from tcfs.content.known import KnownChunks
from tcfs.host.base import FileSystem, Stat
from tcfs.model.ids import ChunkId


class SourceFile(NamedTuple):
    """A file to push.

    ``expected`` is what the scan saw, ``ref`` what the caller knows the file by, and
    ``previous_class`` the size class of the version it replaces.
    """

    path: bytes
    expected: Stat
    ref: int
    previous_class: int | None = None


class StoredFile(NamedTuple):
    """A file whose every chunk is known or in the frames that came along."""

    ref: int
    file_hash: bytes
    size: int
    chunks: list[ChunkId]
    size_class: int


class RefusedFile(NamedTuple):
    """A file that was not taken.

    ``errno`` says why it could not be read; it is None where the file is not what the scan saw, or
    changed while it was read.
    """

    ref: int
    errno: int | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How content is prepared; the same for every file of a push. Sizes are in bytes."""

    chunk_key: bytes | None = field(repr=False)
    single_max: int = SINGLE_MAX
    level: int = DEFAULT_LEVEL
    frame_target: int = FRAME_TARGET

    def __post_init__(self) -> None:
        if not 0 <= self.single_max <= MAX_CHUNK:
            raise ValueError(f"single_max is 0 to {MAX_CHUNK} bytes, not {self.single_max}")


class SmallBatch(Struct, frozen=True):
    """Files whose bytes together fit in memory twice: some MiB. Can be pickled."""

    files: FileSystem
    sources: list[SourceFile]
    recipe: Recipe
    known: KnownChunks


class SmallResult(NamedTuple):
    """What became of a batch. Can be pickled."""

    stored: list[StoredFile]
    refused: list[RefusedFile]
    frames: list[Frame]


def same_file(found: Stat, expected: Stat) -> bool:
    """Whether an open file is the regular file that the scan saw, unchanged."""
    return (
        found.kind == "file"
        and found.size == expected.size
        and found.mtime_ns == expected.mtime_ns
        and found.ctime_ns == expected.ctime_ns
        and found.inode == expected.inode
    )


def refused(source: SourceFile, error: OSError) -> RefusedFile:
    """The report of a file that the system would not read."""
    return RefusedFile(source.ref, error.errno if error.errno is not None else errno.EIO)


def _read(files: FileSystem, source: SourceFile) -> bytes | RefusedFile:
    """All bytes of a file that is what the scan saw before and after they were read."""
    expected = source.expected
    changed = RefusedFile(source.ref, None)
    try:
        with files.open(source.path) as reader:
            if not same_file(reader.fstat(), expected):
                return changed
            # One byte more than expected, so that growth shows.
            data = reader.read(expected.size + 1)
            while len(data) < expected.size:
                more = reader.read(expected.size + 1 - len(data))
                if not more:
                    return changed
                data += more
            if len(data) != expected.size or not same_file(reader.fstat(), expected):
                return changed
            return data
    except OSError as error:
        return refused(source, error)


class _Chunk(NamedTuple):
    id: ChunkId
    base: bytes
    start: int
    length: int


class _Batch:
    """Frames of a batch: asks which chunks are known a frame's worth at a time."""

    def __init__(self, recipe: Recipe, known: KnownChunks) -> None:
        self._recipe = recipe
        self._known = known
        self._gatherer = Gatherer(recipe.frame_target)
        self._seen: set[ChunkId] = set()
        self._waiting: list[_Chunk] = []
        self._waiting_size = 0
        self.frames: list[Frame] = []

    def add(self, chunk: _Chunk) -> None:
        if chunk.id in self._seen:
            return
        self._seen.add(chunk.id)
        self._waiting.append(chunk)
        self._waiting_size += chunk.length
        if self._waiting_size >= self._recipe.frame_target:
            self._settle()

    def _settle(self) -> None:
        stored = self._known.contains_many([chunk.id for chunk in self._waiting])
        for chunk in self._waiting:
            if chunk.id not in stored:
                self._emit(self._gatherer.add(*chunk))
        self._waiting, self._waiting_size = [], 0

    def _emit(self, full: list[Gathered]) -> None:
        for gathered in full:
            codec, payload, chunks = gathered.compress(self._recipe.level)
            self.frames.append(Frame(codec, _picklable(payload), chunks))

    def finish(self) -> list[Frame]:
        if self._waiting:
            self._settle()
        self._emit(self._gatherer.flush())
        return self.frames


def _picklable(payload: Bytes) -> Bytes:
    return bytes(payload) if isinstance(payload, memoryview) else payload


def ingest_small(batch: SmallBatch) -> SmallResult:
    """Read, check, hash, cut and compress the files of a batch.

    A file that is unreadable or not what the scan saw is reported, and the others go on. Memory
    is a few times the largest file and the frames of the batch. Chunks of a file that was refused
    are in no frame.
    """
    recipe = batch.recipe
    chunk_id = ChunkHasher(recipe.chunk_key).chunk_id
    frames = _Batch(recipe, batch.known)
    stored: list[StoredFile] = []
    refusals: list[RefusedFile] = []
    for source in batch.sources:
        data = _read(batch.files, source)
        if isinstance(data, RefusedFile):
            refusals.append(data)
            continue
        chosen = size_class(
            len(data),
            source.previous_class,
            memoryview(data)[:SAMPLE_SIZE],
            single_max=recipe.single_max,
        )
        ids: list[ChunkId] = []
        start = 0
        for length in cut_bytes(data, chosen):
            whole = length == len(data)
            chunk = chunk_id(data if whole else memoryview(data)[start : start + length])
            frames.add(_Chunk(chunk, data, start, length))
            ids.append(chunk)
            start += length
        stored.append(StoredFile(source.ref, file_hash(data), len(data), ids, chosen))
    return SmallResult(stored, refusals, frames.finish())
