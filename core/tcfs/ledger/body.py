"""What a segment's body holds: events as JSON lines, then where their new chunks lie.

Formats are those of FORMAT.md, section History. Counts are checked against the bytes that are
there before anything is allocated for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, starmap
from operator import add
from typing import Any, Final, NamedTuple

import orjson

from tcfs.content.address import MAX_CHUNK, MAX_FRAME, MAX_PACK, ChunkAddress
from tcfs.errors import IntegrityError
from tcfs.ledger.reading import read_event
from tcfs.model.abridged import ToldEvent, as_told
from tcfs.model.ids import ChunkId, PackId

MAX_BODY: Final = 8 << 20
"""Bytes of a body's plaintext, if it has more than one event."""
MAX_SINGLE_BODY: Final = 40 << 20
"""Bytes of a body's plaintext, whatever it has."""
MAX_PACKS: Final = 0xFFFF
ADDRESS_SIZE: Final = 18
"""Bytes of one address in the table, its pack's id not counted."""

_HASH = 32
_COUNT = struct.Struct(">I")


class Body(NamedTuple):
    """A content segment's body: its events, and the addresses of chunks that are new in it.

    ``packs`` are all that the segment commits, those of the addresses among them.
    """

    events: tuple[ToldEvent, ...]
    addresses: list[tuple[ChunkId, ChunkAddress]]
    packs: tuple[PackId, ...] = ()


def encode_event(event: ToldEvent) -> bytes:
    """The event's line, for those who must know how much a segment will hold."""
    return orjson.dumps(event.to_json(), option=orjson.OPT_APPEND_NEWLINE)


def encode_body(
    events: Sequence[ToldEvent],
    addresses: Mapping[ChunkId, ChunkAddress],
    extra_packs: Iterable[PackId] = (),
) -> bytes:
    """The plaintext of a content segment's body.

    Only the addresses of chunks that the events name are taken; a chunk without one is known to
    readers from an earlier segment. ``extra_packs`` are committed whether or not an address lies in
    them, so that they are no orphans.

    Raises:
        ValueError: an address lies in no possible pack, or there are more than 65,535 packs.
    """
    lines = b"".join(map(encode_event, events))
    distinct = _distinct(events)
    found = [addresses.get(chunk) for chunk in distinct]
    rows = [address for address in found if address is not None]
    named = dict.fromkeys(chain((row[0] for row in rows), extra_packs))
    packs = {pack: number for number, pack in enumerate(named)}
    if len(packs) > MAX_PACKS:
        raise ValueError("the addresses of a segment name too many packs")
    columns = [tuple(column) for column in zip(*rows, strict=True)][1:] if rows else [()] * 4
    if rows and _outside(*columns):
        raise ValueError("an address lies in no possible pack")
    count = len(rows)
    return b"".join(
        (
            _COUNT.pack(len(lines)),
            lines,
            _COUNT.pack(len(packs)),
            *map(bytes.fromhex, packs),
            _COUNT.pack(len(distinct)),
            _bitmap([address is not None for address in found]),
            _COUNT.pack(count),
            struct.pack(f">{count}H", *[packs[row[0]] for row in rows]),
            *(struct.pack(f">{count}I", *column) for column in columns),
        )
    )


def encode_control_body(events: Sequence[Mapping[str, Any]]) -> bytes:
    """The plaintext of a control segment's body."""
    lines = b"".join(
        orjson.dumps(dict(event), option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS)
        for event in events
    )
    return b"".join((_COUNT.pack(len(lines)), lines, bytes(12)))


def decode_body(data: bytes | bytearray | memoryview) -> Body:
    """Read and check a content segment's body. Raises IntegrityError."""
    read = _Read(data)
    events = tuple(map(read_event, _lines(read.take(read.count()))))
    for event in map(as_told, events):
        if event.manifest.extra:
            _check_writable(event.manifest.extra)
    packs = read.take(read.count() * _HASH)
    pack_ids = [PackId(packs[at : at + _HASH].hex()) for at in range(0, len(packs), _HASH)]
    if len(pack_ids) > MAX_PACKS or len(set(pack_ids)) != len(pack_ids):
        raise IntegrityError("a segment's table names too many packs, or one twice")
    distinct = _distinct(events)
    if read.count() != len(distinct):
        raise IntegrityError("a segment's table is not of its events' chunks")
    mask = _mask(read.take((len(distinct) + 7) // 8), len(distinct))
    count = read.count()
    if count != sum(mask):
        raise IntegrityError("a segment's table has not the addresses its bitmap promises")
    numbers = read.column("H", 2, count)
    columns = [read.column("I", 4, count) for _ in range(4)]
    read.end()
    if count and (max(numbers) >= len(pack_ids) or _outside(*columns)):
        raise IntegrityError("a segment's table has an address that no pack can hold")
    rows = zip([pack_ids[number] for number in numbers], *columns, strict=True)
    addresses = starmap(ChunkAddress, rows)
    found = list(zip(compress(distinct, mask), addresses, strict=True))
    return Body(events, found, tuple(pack_ids))


def decode_control_body(data: bytes | bytearray | memoryview) -> tuple[dict[str, Any], ...]:
    """Read a control segment's body; what its events say is the fold's to judge.

    Raises:
        IntegrityError: not lines of JSON objects, or anything after them.
    """
    read = _Read(data)
    events = tuple(_objects(read.take(read.count())))
    if not all(isinstance(event, dict) for event in events):
        raise IntegrityError("a control event is not an object")
    if read.count() or read.count() or read.count():
        raise IntegrityError("a control segment has a table of chunks")
    read.end()
    return events


class _Read:
    """Takes parts off the front, never more than there is."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) > MAX_SINGLE_BODY:
            raise IntegrityError("a segment's body is larger than any may be")
        self._data = bytes(data)
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise IntegrityError("a segment's body ends early")
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def count(self) -> int:
        number: int = _COUNT.unpack(self.take(4))[0]
        return number

    def column(self, code: str, size: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}{code}", self.take(size * count))

    def end(self) -> None:
        if self._at != len(self._data):
            raise IntegrityError("a segment's body has bytes after its end")


def _lines(data: bytes) -> list[bytes]:
    if data and not data.endswith(b"\n"):
        raise IntegrityError("a segment's last event is cut off")
    return data[:-1].split(b"\n") if data else []


def _objects(data: bytes) -> Iterator[Any]:
    for line in _lines(data):
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise IntegrityError("a segment's event is not JSON") from None
        yield found


def _check_writable(extra: Mapping[str, Any]) -> None:
    # The parser takes deeper nesting than the writer: a field we keep must be one we can write
    # again, or one hostile manifest would stop every later change of its path.
    try:
        orjson.dumps([[[[dict(extra)]]]])
    except (TypeError, ValueError, RecursionError):
        raise IntegrityError("a manifest's unknown fields cannot be kept") from None


def _distinct(events: Iterable[ToldEvent]) -> list[ChunkId]:
    named = (event.manifest.chunks for event in map(as_told, events))
    return list(dict.fromkeys(chain.from_iterable(named)))


def _bitmap(flags: list[bool]) -> bytes:
    size = (len(flags) + 7) // 8
    digits = "".join("1" if flag else "0" for flag in flags).ljust(8 * size, "0")
    return int(digits, 2).to_bytes(size, "big") if flags else b""


def _mask(data: bytes, count: int) -> list[int]:
    mask = [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]
    if any(mask[count:]):
        raise IntegrityError("a segment's bitmap has bits after its end")
    return mask[:count]


def _outside(
    frame_offsets: Sequence[int],
    frame_lengths: Sequence[int],
    offsets: Sequence[int],
    lengths: Sequence[int],
) -> bool:
    # The rules of content.address.check_address, taken by column: a row each is 20 times slower.
    return (
        min(frame_offsets) < 1
        or min(frame_lengths) < 2
        or max(map(add, frame_offsets, frame_lengths)) > MAX_PACK
        or min(offsets) < 0
        or min(lengths) < 1
        or max(lengths) > MAX_CHUNK
        or max(map(add, offsets, lengths)) > MAX_FRAME
    )


__all__ = [
    "ADDRESS_SIZE",
    "MAX_BODY",
    "MAX_SINGLE_BODY",
    "Body",
    "decode_body",
    "decode_control_body",
    "encode_body",
    "encode_control_body",
    "encode_event",
]
