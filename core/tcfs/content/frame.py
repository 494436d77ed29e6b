"""The codec of a frame: ``codec(1) ‖ payload``, stored or compressed with zstd.

Knows nothing of sealing or of packs. Decompression never allocates more than the payload declares,
and refuses what declares more than its bound before anything is allocated.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from typing import Final, NamedTuple

import zstandard

from tcfs.content.address import MAX_FRAME
from tcfs.errors import IntegrityError
from tcfs.model.ids import ChunkId

DEFAULT_LEVEL: Final = 3
WORTH_IT: Final = 0.97
"""A payload at least this share of its plaintext is stored instead."""

Bytes = bytes | bytearray | memoryview


class Codec(IntEnum):
    """How a payload holds its plaintext, as written in the store."""

    STORED = 0
    ZSTD = 1


class Frame(NamedTuple):
    """Chunks compressed together, not sealed yet: what travels from ingest to the packer."""

    codec: Codec
    payload: Bytes
    chunks: list[tuple[ChunkId, int]]
    """Each chunk's id and length in bytes, in the order they have in the plaintext."""


_SAMPLED_FROM = 256 << 10
_SAMPLES = 8
_SAMPLE_SIZE = 8 << 10

# A zstandard context costs 9 us to make and must not be used by two threads at once.
_contexts = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    made: dict[int, zstandard.ZstdCompressor] = _contexts.__dict__.setdefault("compressors", {})
    if level not in made:
        made[level] = zstandard.ZstdCompressor(level=level, write_content_size=True)
    return made[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor | None = getattr(_contexts, "decompressor", None)
    if made is None:
        made = _contexts.decompressor = zstandard.ZstdDecompressor()
    return made


def shrinks(sample: Bytes) -> bool:
    """Whether zstd at its fastest useful level makes these bytes at least 3 % smaller."""
    return len(_compressor(1).compress(sample)) < WORTH_IT * len(sample)


def compress(plaintext: Bytes, level: int = DEFAULT_LEVEL) -> tuple[Codec, Bytes]:
    """The payload of a frame.

    What does not shrink by 3 % is stored; the payload is then ``plaintext`` itself, not a copy.
    Of a large plaintext, a few samples decide whether compressing the whole is tried at all.
    Releases the GIL while it compresses.
    """
    size = len(plaintext)
    if size >= _SAMPLED_FROM:
        view = memoryview(plaintext)
        step = size // _SAMPLES
        middle = (step - _SAMPLE_SIZE) // 2
        starts = range(middle, middle + step * _SAMPLES, step)
        # One by one: zstd would take them for a single block and judge their mixture.
        if not any(shrinks(view[start : start + _SAMPLE_SIZE]) for start in starts):
            return Codec.STORED, plaintext
    payload = _compressor(level).compress(plaintext)
    if len(payload) >= WORTH_IT * size:
        return Codec.STORED, plaintext
    return Codec.ZSTD, payload


def plain_size(codec: int, payload: Bytes) -> int:
    """Bytes of a payload's plaintext, as it declares them; -1 if it does not.

    Raises:
        IntegrityError: unknown codec, or no zstd frame.
    """
    if codec == Codec.STORED:
        return len(payload)
    if codec != Codec.ZSTD:
        raise IntegrityError(f"a frame has the unknown codec {codec}")
    try:
        return zstandard.frame_content_size(payload)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a frame does not decompress: {error}") from None


def decompress(codec: int, payload: Bytes, *, limit: int = MAX_FRAME) -> Bytes:
    """The plaintext of a frame; at most ``limit`` bytes. Releases the GIL.

    Raises:
        IntegrityError: unknown codec, more than ``limit`` bytes, or not one whole zstd frame that
            declares its true size.
    """
    declared = plain_size(codec, payload)
    # The library ignores its own max_output_size where the frame declares a size, so that size is
    # checked here, and a frame without one is refused: no writer makes such.
    if declared < 0:
        raise IntegrityError("a compressed frame declares no size")
    if declared > limit:
        raise IntegrityError(f"a frame of {declared} bytes, more than {limit}")
    if codec == Codec.STORED:
        return payload
    try:
        return _decompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"a frame does not decompress: {error}") from None
