"""Where a chunk lies in the store."""

from __future__ import annotations

from typing import Final, NamedTuple

from tcfs.errors import IntegrityError
from tcfs.model.ids import PackId

MAX_CHUNK: Final = 64 << 20
"""Bytes of the largest chunk."""
MAX_FRAME: Final = 64 << 20
"""Bytes of the largest plaintext of a frame."""
MAX_PACK: Final = 96 << 20
"""Bytes of the largest pack."""


class ChunkAddress(NamedTuple):
    """One chunk's place; all numbers are bytes.

    ``frame_offset`` and ``frame_length`` are the frame as it lies in the pack, its codec byte and
    its tag included; ``offset`` and ``length`` are the chunk in the frame's plaintext.
    """

    pack: PackId
    frame_offset: int
    frame_length: int
    offset: int
    length: int


def check_address(address: ChunkAddress) -> None:
    """Refuse an address that no pack can hold, before anything is fetched or allocated for it.

    Raises:
        IntegrityError: the address is outside the limits of the format.
    """
    pack, frame_offset, frame_length, offset, length = address
    if (
        frame_offset > 0
        and frame_length > 1
        and frame_offset + frame_length <= MAX_PACK
        and offset >= 0
        and 0 < length <= MAX_CHUNK
        and offset + length <= MAX_FRAME
    ):
        return
    raise IntegrityError(
        f"pack {pack}: no chunk can be at frame {frame_offset}+{frame_length}, {offset}+{length}",
        details={"pack": pack},
    )
