"""Chunks gathered to frames: consecutive small ones share one, a large one has its own."""

from __future__ import annotations

from typing import Final

from tcfs.content.frame import Bytes, Frame, compress
from tcfs.model.ids import ChunkId

FRAME_TARGET: Final = 1 << 20
"""Bytes of plaintext at which a frame is full, and from which a chunk is a frame of its own."""


class Gathered:
    """The plaintext of one frame to be, without copying what already lies side by side."""

    __slots__ = ("_runs", "chunks", "size")

    def __init__(self) -> None:
        self._runs: list[tuple[Bytes, int, int]] = []
        self.chunks: list[tuple[ChunkId, int]] = []
        self.size = 0

    def add(self, chunk: ChunkId, base: Bytes, start: int, length: int) -> None:
        """Append the chunk that lies at ``base[start : start + length]``."""
        end = start + length
        if self._runs and self._runs[-1][0] is base and self._runs[-1][2] == start:
            self._runs[-1] = (base, self._runs[-1][1], end)
        else:
            self._runs.append((base, start, end))
        self.chunks.append((chunk, length))
        self.size += length

    def plaintext(self) -> Bytes:
        """The chunks' bytes, one after the other; a view of their memory where they are one run."""
        parts = [memoryview(base)[start:end] for base, start, end in self._runs]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def detach(self) -> None:
        """Copy the bytes, so that the memory they were cut from can be given back."""
        if self._runs:
            self._runs = [(b"".join([self.plaintext()]), 0, self.size)]

    def compress(self, level: int) -> Frame:
        """The frame. Where it is stored uncompressed, its payload may be a view."""
        codec, payload = compress(self.plaintext(), level)
        return Frame(codec, payload, self.chunks)


class Gatherer:
    """Fills frames up to ``target`` bytes."""

    def __init__(self, target: int = FRAME_TARGET) -> None:
        self._target = target
        self._open = Gathered()

    def add(self, chunk: ChunkId, base: Bytes, start: int, length: int) -> list[Gathered]:
        """Take the chunk at ``base[start : start + length]``; the frames that are full now."""
        if length >= self._target:
            alone = Gathered()
            alone.add(chunk, base, start, length)
            return [alone]
        self._open.add(chunk, base, start, length)
        return self.flush() if self._open.size >= self._target else []

    def flush(self) -> list[Gathered]:
        """What is not a full frame yet, if anything."""
        done, self._open = self._open, Gathered()
        return [done] if done.chunks else []

    def detach(self) -> None:
        """Copy what is gathered and not full, so that its memory can be given back."""
        self._open.detach()
