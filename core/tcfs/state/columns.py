"""How values that are not plain are kept in columns, and ranges of paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from tcfs.model.ids import DeviceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import MAX_NAME

ABOVE_ALL: Final = b"\xff" * (MAX_NAME + 1)
"""Greater than every path: no component is that long, and a slash is less."""


def below(prefix: RelPath) -> tuple[bytes, bytes]:
    """The range of paths strictly below a prefix; everything for the root."""
    return (prefix + b"/", prefix + b"0") if prefix else (b"", ABOVE_ALL)


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
