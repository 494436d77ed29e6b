"""Where a file is cut into chunks.

Small files are one chunk. Larger ones are cut where their content says (FastCDC), so that an
insertion moves no later cut, or at fixed offsets where the content would not compress and is
therefore hardly ever edited in its middle. The average chunk grows with the square root of the
file, which balances the bytes of a changed chunk, as they are sent, against those of the manifest.

FastCDC is that of Xia et al. 2020 ("The Design of Fast Content-Defined Chunking for Data
Deduplication Based Storage Systems", IEEE TPDS) with normalisation level 1 and the gear table of
its reference code, as in fastcdc-rs ``v2020``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from pyfastcdc import FastCDC

from tcfs.content.frame import shrinks
from tcfs.host.base import Reader

SINGLE: Final = 0
"""The size class of a file that is one chunk."""
SINGLE_MAX: Final = 128 << 10
"""Bytes up to which a file is one chunk, unless the repository says otherwise."""
SAMPLE_SIZE: Final = 64 << 10
"""Bytes from the start of a file that decide whether it is compressible."""
MAX_FILE: Final = 4 << 40
"""Bytes of the largest file."""
MIN_CLASS: Final = 14
MAX_CDC_CLASS: Final = 22
"""The largest class cut by content; its chunks are at most 16 MiB."""
MAX_FIXED_CLASS: Final = 26
"""The largest class cut at fixed offsets: chunks of 64 MiB, 65,536 of them in the largest file."""
WINDOW: Final = 8 << 20
"""Bytes of a large file that are in memory at once, unless its chunks are larger."""

_MAX_CHUNKS_LOG2 = 16
_WINDOWS_KEPT: Final = 4
"""One that is read into, one from which its beginning comes, one that is hashed, one to spare."""


_SHRINKS_TO: Final = 4
"""What is cut by content shrinks to about a quarter: a changed chunk costs that much less than its
share of the manifest, which does not shrink."""


def _ideal(size: int, shrinks_to: int = 1) -> int:
    """log2 of the average chunk for a file of this many bytes, in exact integer arithmetic."""
    # The nearest integer to log2(sqrt(24 * n)): 2^(2k-1) < 24 * n < 2^(2k+1).
    balanced = (24 * shrinks_to * size).bit_length() // 2
    few_enough = (max(size - 1, 0) >> _MAX_CHUNKS_LOG2).bit_length()
    return max(MIN_CLASS, balanced, few_enough)


def size_class(
    size: int, previous: int | None, sample: bytes | memoryview, *, single_max: int = SINGLE_MAX
) -> int:
    """How to cut a file: 0 one chunk, ``k`` FastCDC averaging 2^k bytes, ``-k`` every 2^k bytes.

    Args:
        size: bytes of the file, at most ``MAX_FILE``.
        previous: the class of the version that this one replaces. It is kept while some size
            that would have chosen it is within fourfold of ``size``; cut otherwise, a growing
            file would share no chunk with its last version.
        sample: the first ``SAMPLE_SIZE`` bytes of the file.
        single_max: bytes up to which a file is one chunk.

    Raises:
        ValueError: larger than ``MAX_FILE``.
    """
    if size > MAX_FILE:
        raise ValueError(f"a file of {size} bytes is larger than {MAX_FILE}")
    if size <= single_max:
        return SINGLE
    if previous:
        k, by_content = abs(previous), previous > 0
        largest = MAX_CDC_CLASS if by_content else MAX_FIXED_CLASS
        less = _SHRINKS_TO if by_content else 1
        if k <= largest and _ideal(size // 4, less) <= k <= _ideal(size * 4, less):
            return previous
    k = _ideal(size)
    if k <= MAX_CDC_CLASS and shrinks(sample):
        return min(_ideal(size, _SHRINKS_TO), MAX_CDC_CLASS)
    return -k


class Span(NamedTuple):
    """Consecutive chunks of a file: their bytes, and the length of each."""

    data: memoryview
    lengths: list[int]


class _Windows:
    """Memory for windows: that of earlier ones of which nobody holds any part, or else new memory.

    What was used before is filled several times as fast.
    """

    def __init__(self) -> None:
        self._made: deque[bytearray] = deque(maxlen=_WINDOWS_KEPT)

    def take(self, size: int) -> memoryview:
        """That many bytes, which may hold anything."""
        for buffer in self._made:
            if len(buffer) == size and not _held(buffer):
                return memoryview(buffer)
        buffer = bytearray(size)
        self._made.append(buffer)
        return memoryview(buffer)


def _held(buffer: bytearray) -> bool:
    """Whether a view of it lives, be it of a part: such a buffer cannot change its size."""
    if not buffer:
        return False
    try:
        buffer.pop()
    except BufferError:
        return True
    buffer.append(0)
    return False


def _fill(reader: Reader, buffer: memoryview) -> int:
    """Read until the buffer is full or the file ends; the number of bytes read."""
    filled = 0
    while filled < len(buffer):
        count = reader.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def _fixed(length: int, step: int, *, last: bool) -> list[int]:
    """Lengths of the chunks of ``length`` bytes; a shorter one only at the end of the file."""
    whole, rest = divmod(length, step)
    return [step] * whole + ([rest] if rest and last else [])


def _by_content(chunker: FastCDC, data: memoryview, *, last: bool) -> list[int]:
    """Lengths of the chunks of ``data`` whose ends do not depend on what follows it.

    A cut is decided by at most ``max_size`` bytes from the chunk's start, so that in all but the
    last window a chunk which starts later than that before the window's end is left for the next.
    """
    lengths = []
    decided = len(data) - (0 if last else chunker.max_size)
    for chunk in chunker.cut_buf(data):
        if chunk.offset > decided:
            break
        lengths.append(chunk.length)
    return lengths


def _chunker(k: int) -> FastCDC:
    return FastCDC(1 << k, min_size=1 << (k - 2), max_size=1 << (k + 2))


def cut_bytes(data: bytes | memoryview, chosen: int) -> list[int]:
    """Lengths of the chunks of a file that is in memory, for a class from ``size_class``."""
    if not data:
        return []
    if chosen == SINGLE:
        return [len(data)]
    if chosen < 0:
        return _fixed(len(data), 1 << -chosen, last=True)
    return _by_content(_chunker(chosen), memoryview(data), last=True)


def cut(
    reader: Reader, size: int, chosen: int, *, head: bytes = b"", window: int = WINDOW
) -> Iterator[Span]:
    """Cut the first ``size`` bytes of an open file, a window at a time.

    The chunks are those of ``cut_bytes`` of the whole, whatever the window. Fewer than ``size``
    bytes come if the file ends earlier; what lies beyond them is not read. A span's memory is
    used again once nobody holds any of it, so that it may be kept.

    Args:
        reader: the file, read up to the end of ``head``.
        size: bytes that the file is expected to have.
        chosen: a class from ``size_class``.
        head: what was already read from the start.
        window: bytes in memory at once; raised to what the largest chunk needs.

    Raises:
        OSError: as the system raises it.
    """
    if chosen == SINGLE:
        window = size
    elif chosen < 0:
        step = 1 << -chosen
        window = max(window // step, 1) * step
    else:
        window = max(window, 2 << (chosen + 2))
    chunker = _chunker(chosen) if chosen > 0 else None
    windows = _Windows()
    carried: bytes | memoryview = head
    position = 0
    while True:
        wanted = min(max(window, len(carried)), size - position)
        buffer = windows.take(wanted)
        kept = min(len(carried), wanted)
        buffer[:kept] = carried[:kept]
        filled = kept + _fill(reader, buffer[kept:])
        data = buffer[:filled]
        last = filled < wanted or position + filled == size
        if chunker is not None:
            lengths = _by_content(chunker, data, last=last)
        else:
            lengths = _fixed(filled, 1 << -chosen if chosen else max(size, 1), last=last)
        used = sum(lengths)
        if used:
            yield Span(data[:used], lengths)
        if last:
            return
        carried = data[used:]
        position += used
