"""SyncManifest v2: one version of one path, as it is written in a content event.

The format is in FORMAT.md, section History; the field names are those of upstream's manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

from msgspec import Struct
from msgspec.structs import replace

from tcfs.errors import IntegrityError
from tcfs.model.clock import MAX_COUNTER, VectorClock
from tcfs.model.ids import ROOT_DEVICE, ChunkId, DeviceId, RelPath, VersionId, is_uuid
from tcfs.model.paths import from_json_field, remote_path, to_json_field

Kind = Literal["file", "dir", "symlink", "tombstone"]
KINDS: Final = frozenset(get_args(Kind))
MAX_FILE_SIZE: Final = 4 << 40
MAX_TARGET: Final = 4096
HASH_SIZE: Final = 32

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_FIELDS: Final = frozenset(
    (
        *("version", "rel_path", "rel_path_b64", "kind", "file_hash", "file_size", "chunks"),
        *("vclock", "parents", "written_by", "written_at", "mode", "mtime_ns", "target"),
        *("target_b64", "actor", "size_class", "encrypted_file_key"),
    )
)


class SyncManifest(Struct, frozen=True, gc=False):
    """What a path is, as of one version.

    Attributes:
        file_hash: BLAKE3 of the whole content, 32 bytes; empty unless a file.
        file_size: bytes.
        mode: permission bits, 0-4095.
        mtime_ns: nanoseconds since 1970.
        written_at: unix seconds by the writer's clock; for people, never compared.
        extra: fields this version does not know, kept as they came.
    """

    rel_path: RelPath
    kind: Kind
    vclock: VectorClock
    parents: tuple[VersionId, ...]
    written_by: str
    written_at: int
    file_hash: bytes = b""
    file_size: int = 0
    chunks: tuple[ChunkId, ...] = ()
    mode: int = 0
    mtime_ns: int = 0
    target: bytes = b""
    actor: str = ""
    size_class: int = 0
    encrypted_file_key: str = ""
    extra: Mapping[str, Any] = _EMPTY

    @property
    def content(self) -> tuple[Kind, bytes, int, bytes]:
        """What must be equal for two versions not to conflict: kind, bytes, mode, target."""
        mode = self.mode if self.kind in ("file", "dir") else 0
        return (self.kind, self.file_hash, mode, self.target)

    def authored(
        self, vclock: VectorClock, written_by: str, written_at: int, actor: str
    ) -> SyncManifest:
        """This manifest with who wrote it, when, and in which place of history."""
        return replace(
            self, vclock=vclock, written_by=written_by, written_at=written_at, actor=actor
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON values."""
        data: dict[str, Any] = dict(self.extra)
        data["version"] = 2
        data |= to_json_field("rel_path", self.rel_path)
        data["kind"] = self.kind
        data["file_hash"] = self.file_hash.hex()
        data["file_size"] = self.file_size
        data["chunks"] = [chunk.hex() for chunk in self.chunks]
        data["vclock"] = self.vclock.to_json()
        data["parents"] = [[device, counter] for device, counter in self.parents]
        data["written_by"] = self.written_by
        data["written_at"] = self.written_at
        data["mode"] = self.mode
        data["mtime_ns"] = self.mtime_ns
        if self.kind == "symlink":
            data |= to_json_field("target", self.target)
        if self.actor:
            data["actor"] = self.actor
        if self.size_class:
            data["size_class"] = self.size_class
        if self.encrypted_file_key:
            data["encrypted_file_key"] = self.encrypted_file_key
        return data

    @classmethod
    def from_json(cls, data: object) -> SyncManifest:
        """Read and check a manifest of a stranger.

        Raises:
            IntegrityError: a field is missing, of the wrong type, or out of its bounds.
        """
        if not isinstance(data, dict) or data.get("version") != 2:
            raise IntegrityError("not a version 2 manifest")
        get = data.get
        raw_path = from_json_field("rel_path", data)
        if raw_path is None:
            raise IntegrityError("a manifest has no rel_path")
        kind = get("kind", "file")
        if not isinstance(kind, str) or kind not in KINDS:
            raise IntegrityError("a manifest is of an unknown kind")
        chunks = get("chunks", [])
        parents = get("parents", [])
        if not isinstance(chunks, list) or not isinstance(parents, list):
            raise IntegrityError("a manifest's chunks or parents are not a list")
        target = get("target", get("target_b64"))
        # By position, in the order of the fields: names cost as much as the checks here.
        manifest = cls(
            remote_path(raw_path),
            cast(Kind, kind),
            VectorClock.from_json(get("vclock")),
            tuple([_parent(parent) for parent in parents]) if parents else (),
            _text(get("written_by"), "written_by"),
            _integer(get("written_at", 0), "written_at", 0),
            _hash(get("file_hash", "")),
            _integer(get("file_size", 0), "file_size", 0, MAX_FILE_SIZE),
            tuple([ChunkId(_hash(chunk)) for chunk in chunks]) if chunks else (),
            _integer(get("mode", 0), "mode", 0, 0o7777),
            _integer(get("mtime_ns", 0), "mtime_ns"),
            b"" if target is None else from_json_field("target", data) or b"",
            _text(get("actor"), "actor"),
            _integer(get("size_class", 0), "size_class", -63, 63),
            _text(get("encrypted_file_key"), "encrypted_file_key"),
            _EMPTY
            if data.keys() <= _FIELDS
            else {k: v for k, v in data.items() if k not in _FIELDS},
        )
        manifest._check()
        return manifest

    def _check(self) -> None:
        if self.kind == "file":
            if len(self.file_hash) != HASH_SIZE:
                raise IntegrityError("a file's manifest has no file_hash")
            if bool(self.file_size) != bool(self.chunks):
                raise IntegrityError("a manifest's chunks do not make up its size")
            if b"" in self.chunks:
                raise IntegrityError("a manifest has an empty chunk id")
        elif self.file_hash or self.file_size or self.chunks:
            raise IntegrityError(f"a {self.kind}'s manifest has content")
        if self.kind == "symlink":
            if not self.target or len(self.target) > MAX_TARGET or b"\0" in self.target:
                raise IntegrityError("a symlink's manifest has no usable target")
        elif self.target:
            raise IntegrityError(f"a {self.kind}'s manifest has a target")


def parse_manifest_v1(text: str) -> tuple[ChunkId, ...]:
    """Chunk ids of upstream's first manifests: hex, one a line. Raises IntegrityError."""
    return tuple(
        ChunkId(_required_hash(line.strip())) for line in text.splitlines() if line.strip()
    )


def is_manifest_v1(text: str) -> bool:
    """Whether this text is a v1 manifest: corrupt JSON is not."""
    return not text[:1].isspace() and not text.startswith("{")


def _required_hash(text: object) -> bytes:
    value = _hash(text)
    if not value:
        raise IntegrityError("a hash is missing")
    return value


def _hash(text: object) -> bytes:
    if isinstance(text, str) and len(text) in (0, 2 * HASH_SIZE):
        try:
            found = bytes.fromhex(text)
        except ValueError:
            found = b" "
        # Spaces between the digits pass fromhex.
        if 2 * len(found) == len(text):
            return found
    raise IntegrityError("a hash is not 64 hex digits")


def _parent(data: object) -> VersionId:
    if isinstance(data, list) and len(data) == 2:
        device, counter = data
        if (
            type(counter) is int
            and 0 < counter <= MAX_COUNTER
            and isinstance(device, str)
            and (is_uuid(device) or device == ROOT_DEVICE)
        ):
            return VersionId(DeviceId(device), counter)
    raise IntegrityError("a manifest's parent is not a version id")


def _text(value: object, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1024:
        raise IntegrityError(f"a manifest's {name} is not a short text")
    return value


def _integer(value: object, name: str, low: int = -MAX_COUNTER, high: int = MAX_COUNTER) -> int:
    if type(value) is not int or not low <= value <= high:
        raise IntegrityError(f"a manifest's {name} is not an integer in bounds")
    return value
