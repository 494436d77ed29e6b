"""The content side of a pull: chunks from packs, every byte verified before it is handed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from blake3 import blake3

from tcfs.content.address import ChunkAddress
from tcfs.content.fetch import RangePlan, cut_windows, of_chunk, plan_together, unseal_frames
from tcfs.content.ids import ChunkHasher
from tcfs.content.restore import Part
from tcfs.content.unpack import Unsealed, inflate, not_its_id
from tcfs.errors import IntegrityError, LimitError, StoreError, TcfsError
from tcfs.host.room import Room
from tcfs.model.event import Version
from tcfs.model.ids import ChunkId, NamespaceId, PackId
from tcfs.model.paths import show
from tcfs.sync.context import Context

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")

READERS: Final = 4
"""Threads that read packs ahead."""
WINDOW: Final = 24 << 20
"""Plaintext of one large file in one window."""
SEALED_WINDOW: Final = (6 << 20) + (64 << 10)
"""Bytes of packs that one window is made of: a quarter of a usual pack, so that it is one read."""
_LOOKED_UP: Final = 1024
"""Chunks of one large file that are looked up at a time."""

Fetched = dict[ChunkId, memoryview | TcfsError]


Located = tuple[ChunkId, ChunkAddress]


class FetchedFrames(NamedTuple):
    """Frames of packs, where chunks lie in them, and why the other chunks cannot be had.

    The frames' payloads are in ``room``, one after the other.
    """

    room: Room
    frames: list[Unsealed]
    parts: dict[ChunkId, Part]
    failed: dict[ChunkId, TcfsError]


class _Read:
    """One read of a pack, done once for all who want bytes of it, and let go of with the last."""

    def __init__(self, download: Download, read: Callable[[], bytes]) -> None:
        self._download = download
        self._read = read
        self._data: bytes | None = None

    def __call__(self) -> bytes:
        if self._data is None:
            self._data = self._read()
            self._download.bytes_received += len(self._data)
            del self._read
        return self._data


class Begun(NamedTuple):
    """Ranges of packs that are being read, or will be, and chunks that cannot be had."""

    reads: deque[tuple[RangePlan, _Read]]
    failed: dict[ChunkId, TcfsError]

    @property
    def sealed(self) -> int:
        """Bytes that their frames take, at most."""
        return sum([ranged.sealed for ranged, _ in self.reads])


class Download:
    """Fetches chunks of one namespace. ``bytes_received`` counts what was read from the store."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace
        self.bytes_received = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def hasher(self) -> ChunkHasher:
        """What names the namespace's chunks."""
        return ChunkHasher(self._context.keys(self._namespace).chunk_key)

    def locate(self, chunks: Iterable[ChunkId]) -> list[Located]:
        """Where these chunks are, each once; those that no segment told of are left out."""
        distinct = list(dict.fromkeys(chunks))
        return list(self._context.state.index.addresses(self._namespace, distinct).items())

    def begin(self, many: Iterable[Iterable[Located]], *, ahead: bool = False) -> list[Begun]:
        """Plan the reads for several who share them; ``finish`` waits for those of one.

        Args:
            many: the chunks of each.
            ahead: read in threads, from now on.
        """
        reads: dict[tuple[PackId, int, int], _Read | IntegrityError] = {}
        begun = []
        for plan in plan_together(many):
            mine = Begun(deque(), {chunk.id: chunk.error for chunk in plan.refused})
            for ranged in plan.ranges:
                place = ranged[:3]
                if place not in reads:
                    reads[place] = self._read(*place, ahead=ahead)
                read = reads[place]
                if isinstance(read, IntegrityError):
                    _fail(mine.failed, ranged, read)
                else:
                    mine.reads.append((ranged, read))
            begun.append(mine)
        return begun

    def _read(
        self, pack: PackId, offset: int, length: int, *, ahead: bool
    ) -> _Read | IntegrityError:
        try:
            read = self._context.pack_read(pack, offset, length)
        except IntegrityError as error:
            return error
        return _Read(self, self._threads().submit(read).result if ahead else read)

    def read_ahead(
        self, groups: Iterable[list[tuple[T, list[Located]]]], ahead: int
    ) -> Iterator[tuple[T, Begun]]:
        """Each item with its reads, which it shares with its group.

        While ``ahead`` items or fewer wait with reads under way, a further group is begun.
        """
        waiting: deque[tuple[T, Begun]] = deque()
        for group in groups:
            begun = self.begin([located for _, located in group], ahead=ahead > 0)
            waiting.extend(zip([item for item, _ in group], begun, strict=True))
            while len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting

    def windows(
        self, version: Version, sealed: int = SEALED_WINDOW, plain: int = WINDOW
    ) -> Iterator[list[Located]]:
        """A file's chunks in order, cut into what is fetched together.

        Raises:
            IntegrityError: no segment tells where a chunk is.
        """
        return cut_windows(self._locate(version.manifest.chunks), sealed, plain)

    def _locate(self, chunks: Sequence[ChunkId]) -> Iterator[Located]:
        for start in range(0, len(chunks), _LOOKED_UP):
            some = chunks[start : start + _LOOKED_UP]
            known = self._context.state.index.addresses(self._namespace, list(dict.fromkeys(some)))
            for chunk in some:
                if chunk not in known:
                    raise nowhere(chunk)
                yield chunk, known[chunk]

    def finish(self, begun: Begun, room: Callable[[int], Room] = Room.private) -> FetchedFrames:
        """The frames that hold these chunks, still compressed, and where in them each is.

        Args:
            begun: what ``begin`` returned.
            room: gets memory for so many bytes, where the frames are put.

        Raises:
            StoreError: the store failed in a way that trying again may mend.
            CancelledError: the caller asked to stop.
        """
        context, readers = self._context, self._context.readers(self._namespace)
        found = FetchedFrames(room(begun.sealed), [], {}, begun.failed)
        free = found.room.view
        while begun.reads:
            context.check_cancel()
            # What was read is let go of before the next is waited for.
            ranged, read = begun.reads.popleft()
            data = b""
            try:
                data = read()
                del read
                reader = readers.reader(ranged.pack, ranged.head(data))
            except (IntegrityError, StoreError) as error:
                if error.retryable:
                    raise
                _fail(found.failed, ranged, error)
                continue
            for frame, unsealed in unseal_frames(data, ranged, reader, free):
                if isinstance(unsealed, IntegrityError):
                    for want in frame.chunks:
                        found.failed[want.id] = of_chunk(unsealed, ranged.pack, want.id)
                    continue
                number = len(found.frames)
                found.frames.append(unsealed)
                free = free[len(unsealed.payload) :]
                for chunk, offset, length in frame.chunks:
                    found.parts[chunk] = Part(number, offset, length, chunk)
        return found

    def close(self) -> None:
        """End the threads; what they had not begun to read is not read."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent import futures

            self._pool = futures.ThreadPoolExecutor(READERS, thread_name_prefix="tcfs-read")
        return self._pool

    def fetch(self, chunks: Iterable[ChunkId]) -> Fetched:
        """These chunks' bytes, or why each cannot be had. All are in memory at once.

        Raises:
            StoreError: the store failed in a way that trying again may mend.
            CancelledError: the caller asked to stop.
        """
        wanted = list(chunks)
        (begun,) = self.begin([self.locate(wanted)])
        found = self._open(begun)
        return {chunk: found[chunk] if chunk in found else nowhere(chunk) for chunk in wanted}

    def _open(self, begun: Begun) -> Fetched:
        held = self.finish(begun)
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
        windows = ([(window, window)] for window in self.windows(version))
        for window, reads in self.read_ahead(windows, int(manifest.file_size > WINDOW)):
            found = self._open(reads)
            for chunk, _ in window:
                data = have(found, chunk)
                hasher.update(data)
                size += len(data)
                yield data
        if size != manifest.file_size or hasher.digest() != manifest.file_hash:
            raise not_as_signed(version)


def nowhere(chunk: ChunkId) -> IntegrityError:
    """No segment tells of it."""
    return IntegrityError(f"no segment says where chunk {chunk.hex()} is")


def _fail(failed: dict[ChunkId, TcfsError], ranged: RangePlan, error: TcfsError) -> None:
    for frame in ranged.frames:
        for want in frame.chunks:
            failed[want.id] = error


def together(
    items: Iterable[tuple[T, list[Located]]], sealed: int, most: int
) -> Iterator[list[tuple[T, list[Located]]]]:
    """Groups of neighbours.

    Args:
        sealed: bytes of frames up to which items share a group; more where one alone has them.
        most: items of a group.
    """
    group: list[tuple[T, list[Located]]] = []
    frames: dict[tuple[PackId, int], int] = {}
    for item, located in items:
        mine = {(at.pack, at.frame_offset): at.frame_length for _, at in located}
        if group and (len(group) == most or sum((frames | mine).values()) > sealed):
            yield group
            group, frames = [], {}
        group.append((item, located))
        frames |= mine
    if group:
        yield group


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
