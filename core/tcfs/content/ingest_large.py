"""The CPU stage of a push for large files: frames come as the file is read, in bounded memory."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from blake3 import blake3

from tcfs.content.chunker import MAX_FILE, SAMPLE_SIZE, WINDOW, Span, cut, size_class
from tcfs.content.frame import Frame
from tcfs.content.gather import Gathered, Gatherer
from tcfs.content.ids import ChunkHasher
from tcfs.content.ingest import Recipe, RefusedFile, SourceFile, StoredFile, refused, same_file
from tcfs.content.known import KnownChunks
from tcfs.host.base import FileSystem, Reader
from tcfs.model.ids import ChunkId

DEFAULT_THREADS: Final = 2


class _Compressing:
    """Compresses frames in other threads, at most two a thread ahead of the consumer."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int, level: int) -> None:
        self._pool = pool
        self._ahead = 2 * threads
        self._level = level
        self._pending: deque[Future[Frame]] = deque()

    def add(self, full: list[Gathered]) -> Iterator[Frame]:
        """Begin with these; the frames that are ready, and those that must be waited for."""
        for gathered in full:
            self._pending.append(self._pool.submit(gathered.compress, self._level))
        while self._pending and (len(self._pending) > self._ahead or self._pending[0].done()):
            yield self._pending.popleft().result()

    def ahead(self, spans: Iterator[Span]) -> Iterator[Span]:
        """The same, each read and cut while the one before is hashed, if there may be threads."""
        if self._ahead <= 2:
            yield from spans
            return
        following = self._pool.submit(next, spans, None)
        while (span := following.result()) is not None:
            following = self._pool.submit(next, spans, None)
            yield span

    def drain(self) -> Iterator[Frame]:
        """All that are left."""
        while self._pending:
            yield self._pending.popleft().result()


def ingest_large(
    files: FileSystem,
    source: SourceFile,
    recipe: Recipe,
    known: KnownChunks,
    *,
    threads: int = DEFAULT_THREADS,
    window: int = WINDOW,
) -> Iterator[Frame | StoredFile | RefusedFile]:
    """The frames of a file's new chunks as they are made; last, what became of the file.

    With more than one thread, a further one reads and cuts a window ahead.

    The last item is a ``StoredFile`` or a ``RefusedFile``. Frames before a ``RefusedFile`` are
    sound and may be stored: the next attempt finds their chunks. Memory is bounded by a few
    windows, and by the frames that ``threads`` compress ahead of the consumer. Closing the iterator
    early ends the threads.

    Args:
        files: where the file is.
        source: the file.
        recipe: how content is prepared.
        known: asked once a window which chunks need not be stored.
        threads: how many compress.
        window: bytes in memory at once, raised where chunks are large.
    """
    if source.expected.size > MAX_FILE:
        yield RefusedFile(source.ref, errno.EFBIG)
        return
    try:
        reader = files.open(source.path)
    except OSError as error:
        yield refused(source, error)
        return
    # One more than compress: it reads and cuts.
    with reader, ThreadPoolExecutor(threads + 1, thread_name_prefix="tcfs-compress") as pool:
        compressing = _Compressing(pool, threads, recipe.level)
        try:
            yield from _ingest(reader, source, recipe, known, compressing, window)
        except OSError as error:
            yield from compressing.drain()
            yield refused(source, error)


def _ingest(
    reader: Reader,
    source: SourceFile,
    recipe: Recipe,
    known: KnownChunks,
    compressing: _Compressing,
    window: int,
) -> Iterator[Frame | StoredFile | RefusedFile]:
    expected = source.expected
    if not same_file(reader.fstat(), expected):
        yield RefusedFile(source.ref, None)
        return
    head = reader.read(min(SAMPLE_SIZE, expected.size))
    chosen = size_class(expected.size, source.previous_class, head, single_max=recipe.single_max)
    hasher = ChunkHasher(recipe.chunk_key)
    whole = blake3()
    gatherer = Gatherer(recipe.frame_target)
    ids: list[ChunkId] = []
    seen: set[ChunkId] = set()
    size = 0
    spans = cut(reader, expected.size, chosen, head=head, window=window)
    for span in compressing.ahead(spans):
        whole.update(span.data)
        size += len(span.data)
        found = _ids(span, hasher)
        ids += found
        stored = known.contains_many(list(set(found) - seen))
        start = 0
        for chunk, length in zip(found, span.lengths, strict=True):
            if chunk not in seen and chunk not in stored:
                yield from compressing.add(gatherer.add(chunk, span.data, start, length))
            seen.add(chunk)
            start += length
        # A few chunks waiting for their frame must not keep whole windows in memory.
        gatherer.detach()
    yield from compressing.add(gatherer.flush())
    yield from compressing.drain()
    grown = size == expected.size and reader.read(1) != b""
    if size != expected.size or grown or not same_file(reader.fstat(), expected):
        yield RefusedFile(source.ref, None)
        return
    yield StoredFile(source.ref, whole.digest(), size, ids, chosen)


def _ids(span: Span, hasher: ChunkHasher) -> list[ChunkId]:
    ids: list[ChunkId] = []
    start = 0
    for length in span.lengths:
        ids.append(hasher.chunk_id(span.data[start : start + length]))
        start += length
    return ids
