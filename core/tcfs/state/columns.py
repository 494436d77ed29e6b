"""How values that are not plain are kept in columns, and ranges of paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from tcfs.model.ids import ChunkId, DeviceId, RelPath, VersionId
from tcfs.model.manifest import HASH_SIZE, SyncManifest
from tcfs.model.paths import MAX_NAME

ABOVE_ALL: Final = b"\xff" * (MAX_NAME + 1)
"""Greater than every path: no component is that long, and a slash is less."""


def below(prefix: RelPath) -> tuple[bytes, bytes]:
    """The range of paths strictly below a prefix; everything for the root."""
    return (prefix + b"/", prefix + b"0") if prefix else (b"", ABOVE_ALL)


def at_and_below(prefix: RelPath) -> tuple[tuple[bytes, bytes], ...]:
    """Ranges that hold a prefix and what is below it, in the order of paths.

    A range each, since what is in one comes out of an index in order.
    """
    inside = below(prefix)
    return ((prefix, prefix + b"\0"), inside) if prefix else (inside,)


def parted(chunks: bytes) -> tuple[ChunkId, ...]:
    """The chunk ids that stand in one column one after the other."""
    parts = range(0, len(chunks), HASH_SIZE)
    return tuple([ChunkId(chunks[i : i + HASH_SIZE]) for i in parts])


FEW_ROWS: Final = 10_000
"""Versions that are looked through rather than the index of paths."""


def touched_query(rows: tuple[int, int]) -> str:
    """A query for distinct paths, in order, that versions in some rows are of.

    Its parameters are a namespace, a range of paths (the second is outside), the rows (the first is
    outside), and how many paths there may be.
    """
    if rows[1] - rows[0] <= FEW_ROWS:
        where = "NOT INDEXED WHERE +ns = ?"
    else:
        # The index of paths has the rows in it as well.
        where = "INDEXED BY version_path WHERE ns = ?"
    return (
        f"SELECT DISTINCT path FROM version {where} AND path >= ? AND path < ?"
        " AND row > ? AND row <= ? ORDER BY path LIMIT ?"
    )


def parse_ids(text: str) -> tuple[VersionId, ...]:
    """Version ids from their JSON column."""
    if text == "[]":
        return ()
    return tuple([VersionId(DeviceId(device), count) for device, count in orjson.loads(text)])


def dump_ids(ids: Sequence[VersionId]) -> str:
    """Version ids for their JSON column."""
    if not ids:
        return "[]"
    return orjson.dumps([[i.device, i.counter] for i in ids]).decode()


def dump_clock(clocks: Mapping[DeviceId, int]) -> str:
    """A clock for its JSON column."""
    return orjson.dumps(dict(clocks)).decode()


def dump_extra(manifest: SyncManifest) -> str | None:
    if not manifest.extra and not manifest.encrypted_file_key:
        return None
    extra = dict(manifest.extra)
    if manifest.encrypted_file_key:
        extra["encrypted_file_key"] = manifest.encrypted_file_key
    return orjson.dumps(extra).decode()
