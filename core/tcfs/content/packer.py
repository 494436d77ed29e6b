"""Frames in, packs out: the one place in a push that seals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tcfs.content.address import ChunkAddress
from tcfs.content.frame import Frame
from tcfs.content.known import KnownChunks, NothingKnown
from tcfs.content.pack import Pack, PackBuilder
from tcfs.model.ids import ChunkId

TARGET: Final = 24 << 20
"""Bytes at which a pack is finished."""
SOFT_LIMIT: Final = 32 << 20
"""Bytes that a pack exceeds only if a single frame does."""


class Packer:
    """Gathers frames into packs and remembers where each chunk went.

    For one thread. It is itself a ``KnownChunks``: what was added in this run, and what ``known``
    says. A chunk's address exists once its pack is finished, and may be told to others once
    ``emit`` made the pack durable.

    Args:
        new_builder: begins a pack, with a fresh salt each time.
        emit: takes a finished pack, to be stored. What it raises comes out of ``add`` or ``flush``.
        target: bytes at which a pack is finished.
        known: chunks stored before this run.
    """

    def __init__(
        self,
        new_builder: Callable[[], PackBuilder],
        emit: Callable[[Pack], None],
        *,
        target: int = TARGET,
        known: KnownChunks | None = None,
    ) -> None:
        self._new_builder = new_builder
        self._emit = emit
        self._target = target
        self._limit = max(target, SOFT_LIMIT)
        self._known = known if known is not None else NothingKnown()
        self._builder: PackBuilder | None = None
        self._open: set[ChunkId] = set()
        self._addresses: dict[ChunkId, ChunkAddress] = {}
        self._leaving: dict[ChunkId, ChunkAddress] = {}

    def contains_many(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of ``chunks`` that were added in this run or were known before it."""
        added, leaving, open_chunks = self._addresses, self._leaving, self._open
        here = {c for c in chunks if c in added or c in open_chunks or c in leaving}
        rest = [chunk for chunk in chunks if chunk not in here]
        return here | self._known.contains_many(rest) if rest else here

    def add(self, frame: Frame) -> None:
        """Take a frame. It is dropped if every chunk of it was added before.

        A frame of which some chunks were added before is kept whole: those few are stored twice,
        which is cheaper than compressing the rest again.
        """
        added, leaving, open_chunks = self._addresses, self._leaving, self._open
        if all(c in added or c in open_chunks or c in leaving for c, _ in frame.chunks):
            return
        if self._builder is not None and self._builder.size + len(frame.payload) > self._limit:
            self.flush()
        if self._builder is None:
            self._builder = self._new_builder()
        self._builder.add_frame(*frame)
        open_chunks.update([chunk for chunk, _ in frame.chunks])
        if self._builder.size >= self._target:
            self.flush()

    def flush(self) -> None:
        """Finish the pack that is being filled, if any, and emit it."""
        builder, self._builder = self._builder, None
        if builder is None:
            return
        self._open.clear()
        pack = builder.finish()
        # Emitted before its addresses count: a pack that was lost here must not be relied on.
        self._emit(pack)
        # Of a chunk stored twice, either copy is good; the first is kept.
        for chunk, address in pack.chunks:
            self._addresses.setdefault(chunk, address)

    def address_of(self, chunk: ChunkId) -> ChunkAddress | None:
        """Where a chunk added in this run lies; None if it was not, or its pack is not finished."""
        return self._addresses.get(chunk)

    def cut(self) -> dict[ChunkId, ChunkAddress]:
        """Hand over the addresses of all packs that were finished since the last time.

        Until ``forget`` these chunks are not taken again.
        """
        self._leaving, self._addresses = self._addresses, {}
        return self._leaving

    def forget(self) -> None:
        """Forget what was handed over, to bound memory.

        From here on ``known`` must know these chunks, or they may be stored again.
        """
        self._leaving = {}
