"""Hashes of content: chunk ids, and the hash of a whole file."""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from tcfs.model.ids import ChunkId

HASH_SIZE: Final = 32


class ChunkHasher:
    """Names chunks: BLAKE3 keyed with the namespace's chunk-id key, plain without encryption.

    The key keeps the store from testing which known files a fleet holds. Can be pickled, for
    workers in other processes; ``repr`` does not show the key.
    """

    __slots__ = ("_key",)

    def __init__(self, chunk_key: bytes | None) -> None:
        if chunk_key is not None and len(chunk_key) != HASH_SIZE:
            raise ValueError("a chunk-id key has 32 bytes")
        self._key = chunk_key

    def chunk_id(self, data: bytes | bytearray | memoryview) -> ChunkId:
        """The id of a chunk with this plaintext."""
        if self._key is None:
            return ChunkId(blake3(data).digest())
        return ChunkId(blake3(data, key=self._key).digest())


def file_hash(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3 of a whole file, 32 bytes."""
    return blake3(data).digest()
