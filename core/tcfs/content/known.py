"""Which chunks need not be stored again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from tcfs.model.ids import ChunkId


class KnownChunks(Protocol):
    """Chunks that are already stored, safely enough for a new version to rely on them.

    Where it goes to another process, it can be pickled; a database is then opened there, when
    first asked. Chunks left out are stored once more, which costs space and nothing else; a chunk
    named wrongly is lost, so that whoever cannot answer raises.
    """

    def contains_many(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of ``chunks`` that are stored."""
        ...


class NothingKnown(Struct, frozen=True):
    """No chunk is stored yet."""

    def contains_many(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Always empty."""
        return set()
