"""Content events from the lines of a segment.

Nearly every event has the plain form that tcfs writes: known fields alone, each of its type and in
its bounds. A typed decoder reads that in a fifth of the time. Whatever it does not take, be it
allowed (unknown fields, names that are not UTF-8, an abridged list of chunks) or wrong, goes to
``read_told``, whose judgement alone counts: the plain form is one part of what it takes, with the
same result.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import orjson
from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from tcfs.errors import IntegrityError
from tcfs.model.abridged import ToldEvent, read_told
from tcfs.model.clock import MAX_COUNTER, VectorClock
from tcfs.model.event import ContentEvent, Op
from tcfs.model.ids import ChunkId, DeviceId, RelPath, VersionId, is_uuid
from tcfs.model.manifest import HASH_SIZE, MAX_FILE_SIZE, MAX_TARGET, SyncManifest
from tcfs.model.paths import path_problem

_Text = Annotated[str, Meta(max_length=1024)]
_Counter = Annotated[int, Meta(ge=1, le=MAX_COUNTER)]


class _Clock(Struct, forbid_unknown_fields=True, gc=False):
    clocks: dict[str, Annotated[int, Meta(ge=0, le=MAX_COUNTER)]]


class _Manifest(Struct, forbid_unknown_fields=True, gc=False):
    version: Literal[2]
    rel_path: str
    kind: Literal["file", "dir", "symlink", "tombstone"]
    file_hash: str
    file_size: Annotated[int, Meta(ge=0, le=MAX_FILE_SIZE)]
    chunks: list[str]
    vclock: _Clock
    parents: list[tuple[str, _Counter]]
    written_by: _Text
    written_at: Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
    mode: Annotated[int, Meta(ge=0, le=0o7777)]
    mtime_ns: Annotated[int, Meta(ge=-MAX_COUNTER, le=MAX_COUNTER)]
    target: str = ""
    actor: _Text = ""
    size_class: Annotated[int, Meta(ge=-63, le=63)] = 0


class _Event(Struct, forbid_unknown_fields=True, gc=False):
    op: Op
    n: _Counter
    manifest: _Manifest


_DECODE: Final = Decoder(_Event).decode
_HEX: Final = 2 * HASH_SIZE


def read_event(line: bytes) -> ToldEvent:
    """Read and check one event of a stranger.

    Raises:
        IntegrityError: not JSON, or not an event.
    """
    try:
        event = _DECODE(line)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        event = None
    found = _plain(event) if event is not None else None
    if found is not None:
        return found
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise IntegrityError("a segment's event is not JSON") from None
    return read_told(data)


def _plain(event: _Event) -> ContentEvent | None:
    """The event, if it keeps every rule; None for what has to be looked at with more care."""
    m = event.manifest
    try:
        path = m.rel_path.encode()
        file_hash = bytes.fromhex(m.file_hash)
        chunks = [ChunkId(bytes.fromhex(chunk)) for chunk in m.chunks]
        target = m.target.encode()
    except ValueError:
        return None
    kind = m.kind
    if kind == "file":
        # Lengths of the text as well as the bytes: spaces between the digits pass fromhex.
        if (
            len(m.file_hash) != _HEX
            or len(file_hash) != HASH_SIZE
            or bool(m.file_size) != bool(chunks)
            or not {_HEX}.issuperset(map(len, m.chunks))
            or not {HASH_SIZE}.issuperset(map(len, chunks))
        ):
            return None
    elif m.file_hash or m.file_size or chunks:
        return None
    linked = kind == "symlink"
    if linked != bool(target) or len(target) > MAX_TARGET or b"\0" in target:
        return None
    if (event.op == "delete") != (kind == "tombstone") or path_problem(path) is not None:
        return None
    clocks = m.vclock.clocks
    if not all(map(is_uuid, clocks)):
        return None
    if m.parents and not all(is_uuid(device) for device, _ in m.parents):
        return None
    manifest = SyncManifest(
        RelPath(path),
        kind,
        VectorClock.of(clocks),
        tuple([VersionId(DeviceId(device), count) for device, count in m.parents]),
        m.written_by,
        m.written_at,
        file_hash,
        m.file_size,
        tuple(chunks),
        m.mode,
        m.mtime_ns,
        target,
        m.actor,
        m.size_class,
    )
    return ContentEvent(event.op, event.n, manifest)
