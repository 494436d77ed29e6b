"""The content side of a pull: chunks from packs, every byte verified before it is handed on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from tcfs.content.fetch import of_chunk, plan_ranges, unseal_frames
from tcfs.content.ids import ChunkHasher
from tcfs.content.restore import Part
from tcfs.content.unpack import Unsealed, inflate, not_its_id
from tcfs.errors import IntegrityError, LimitError, StoreError, TcfsError
from tcfs.model.event import Version
from tcfs.model.ids import ChunkId, NamespaceId
from tcfs.model.paths import show
from tcfs.sync.context import Context

WINDOW: Final = 24 << 20
"""Plaintext of one large file held in memory at a time."""

Fetched = dict[ChunkId, memoryview | TcfsError]


class FetchedFrames(NamedTuple):
    """Frames of packs, where chunks lie in them, and why the other chunks cannot be had."""

    frames: list[Unsealed]
    parts: dict[ChunkId, Part]
    failed: dict[ChunkId, TcfsError]


class Download:
    """Fetches chunks of one namespace. ``bytes_received`` counts what was read from the store."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace
        self.bytes_received = 0

    @property
    def hasher(self) -> ChunkHasher:
        """What names the namespace's chunks."""
        return ChunkHasher(self._context.keys(self._namespace).chunk_key)

    def frames(self, chunks: Iterable[ChunkId]) -> FetchedFrames:
        """The frames that hold these chunks, still compressed, and where in them each is.

        Raises:
            StoreError: the store failed in a way that trying again may mend.
            CancelledError: the caller asked to stop.
        """
        context, found = self._context, FetchedFrames([], {}, {})
        distinct = list(dict.fromkeys(chunks))
        known = context.state.index.addresses(self._namespace, distinct)
        for chunk in distinct:
            if chunk not in known:
                found.failed[chunk] = IntegrityError(
                    f"no segment says where chunk {chunk.hex()} is"
                )
        plan = plan_ranges(known.items())
        for refused in plan.refused:
            found.failed[refused.id] = refused.error
        readers = context.readers(self._namespace)
        for ranged in plan.ranges:
            context.check_cancel()
            try:
                data = context.read_pack(ranged.pack, ranged.offset, ranged.length)
                self.bytes_received += len(data)
                reader = readers.reader(ranged.pack, ranged.head(data))
            except (IntegrityError, StoreError) as error:
                if error.retryable:
                    raise
                for frame in ranged.frames:
                    for want in frame.chunks:
                        found.failed[want.id] = error
                continue
            for frame, unsealed in unseal_frames(data, ranged, reader):
                if isinstance(unsealed, IntegrityError):
                    for want in frame.chunks:
                        found.failed[want.id] = of_chunk(unsealed, ranged.pack, want.id)
                    continue
                number = len(found.frames)
                found.frames.append(unsealed)
                for chunk, offset, length in frame.chunks:
                    found.parts[chunk] = Part(number, offset, length, chunk)
        return found

    def fetch(self, chunks: Iterable[ChunkId]) -> Fetched:
        """These chunks' bytes, or why each cannot be had. All are in memory at once.

        Raises:
            StoreError: the store failed in a way that trying again may mend.
            CancelledError: the caller asked to stop.
        """
        held = self.frames(chunks)
        found: Fetched = dict(held.failed)
        hasher = self.hasher
        plain: list[memoryview | IntegrityError] = []
        for frame in held.frames:
            try:
                plain.append(memoryview(inflate(frame)))
            except IntegrityError as error:
                plain.append(error)
        for chunk, part in held.parts.items():
            opened, pack = plain[part.frame], held.frames[part.frame].pack
            if isinstance(opened, IntegrityError):
                found[chunk] = of_chunk(opened, pack, chunk)
                continue
            data = opened[part.offset : part.offset + part.length]
            right = hasher.chunk_id(data) == chunk
            found[chunk] = data if right else not_its_id(pack, chunk)
        return found

    def stream(self, version: Version) -> Iterator[memoryview]:
        """A file's content, a window at a time; the end is only reached if the whole verifies.

        Raises:
            IntegrityError: a chunk is damaged, or the chunks are not the file that was signed.
            StoreError: the store failed.
        """
        manifest = version.manifest
        hasher = blake3()
        size = 0
        average = max(manifest.file_size // max(len(manifest.chunks), 1), 1)
        step = max(WINDOW // average, 1)
        for start in range(0, len(manifest.chunks), step):
            window = manifest.chunks[start : start + step]
            found = self.fetch(window)
            for chunk in window:
                data = have(found, chunk)
                hasher.update(data)
                size += len(data)
                yield data
        if size != manifest.file_size or hasher.digest() != manifest.file_hash:
            raise not_as_signed(version)


def have(found: Fetched, chunk: ChunkId) -> memoryview:
    """A chunk's bytes. Raises what kept them from being had."""
    data = found[chunk]
    if isinstance(data, TcfsError):
        raise data
    return data


def not_as_signed(version: Version) -> IntegrityError:
    """The chunks verify and do not make up the file: its author's manifest is wrong."""
    return IntegrityError(
        f"the chunks of version {version.id} of {show(version.manifest.rel_path)} are not the "
        f"file that {version.manifest.written_by} signed"
    )


def read_content(
    context: Context, namespace: NamespaceId, version: Version, limit: int = 64 << 20
) -> bytes:
    """All bytes of a version that is small enough to hold.

    Raises:
        LimitError: it is larger than ``limit`` bytes.
        IntegrityError, StoreError: it cannot be had.
    """
    if version.manifest.file_size > limit:
        raise LimitError(
            f"{show(version.manifest.rel_path)} has {version.manifest.file_size} bytes; "
            f"at most {limit} are read at once"
        )
    return b"".join(Download(context, namespace).stream(version))


def read_start(context: Context, namespace: NamespaceId, version: Version, limit: int) -> bytes:
    """The first ``limit`` bytes of a version, or all of it; only those chunks are fetched."""
    out = bytearray()
    download = Download(context, namespace)
    for chunk in version.manifest.chunks:
        out += have(download.fetch((chunk,)), chunk)
        if len(out) >= limit:
            break
    return bytes(out[:limit])
