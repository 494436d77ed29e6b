"""What a device can say happened, and the header of the signed segment that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from msgspec import Struct

from tcfs.errors import IntegrityError
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.ids import (
    DeviceId,
    EpochId,
    NamespaceId,
    PackId,
    RelPath,
    SegmentHash,
    VersionId,
)
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import from_json_field, remote_path, to_json_field

Op = Literal["write", "delete", "setattr"]
OPS: Final = frozenset(get_args(Op))


class ContentEvent(Struct, frozen=True, gc=False):
    """One change of one path. ``counter`` is the writer's count over all that it wrote."""

    op: Op
    counter: int
    manifest: SyncManifest
    moved_from: RelPath | None = None

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values."""
        data: dict[str, Any] = {"op": self.op, "n": self.counter}
        if self.moved_from is not None:
            data |= to_json_field("moved_from", self.moved_from)
        data["manifest"] = self.manifest.to_json()
        return data

    @classmethod
    def from_json(cls, data: object) -> ContentEvent:
        """Read and check an event of a stranger. Raises IntegrityError."""
        op = data.get("op") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(op, str) or op not in OPS:
            raise IntegrityError("an event is of an unknown kind")
        counter = data.get("n")
        if type(counter) is not int or not 0 < counter <= MAX_COUNTER:
            raise IntegrityError("an event has no counter")
        manifest = SyncManifest.from_json(data.get("manifest"))
        if (op == "delete") != (manifest.kind == "tombstone"):
            raise IntegrityError("an event's manifest does not fit its kind")
        moved = from_json_field("moved_from", data)
        return cls(cast(Op, op), counter, manifest, None if moved is None else remote_path(moved))


class ChainHead(NamedTuple):
    """The last verified segment of a chain."""

    seq: int
    hash: SegmentHash


class InlinePack(Struct, frozen=True):
    """A small pack that travels inside a segment. ``size`` in bytes."""

    id: PackId
    size: int


class SegmentHeader(Struct, frozen=True):
    """What is signed of a segment. Field meanings are those of FORMAT.md, section History."""

    repo: str
    namespace: NamespaceId
    device: DeviceId
    seq: int
    prev: str
    lamport: int
    epoch: EpochId
    salt: bytes
    cipher: int
    seen: Mapping[DeviceId, ChainHead]
    control: Mapping[DeviceId, ChainHead]
    first: int
    last: int
    body_size: int
    body_hash: str
    pack: InlinePack | None
    written_at: int


class Version(Struct, frozen=True, gc=False):
    """An accepted content event in its place in history."""

    id: VersionId
    lamport: int
    seq: int
    op: Op
    manifest: SyncManifest
    moved_from: RelPath | None = None

    @property
    def order(self) -> tuple[int, str, int]:
        """A total order that agrees with causality: (Lamport time, device, counter)."""
        return (self.lamport, self.id.device, self.id.counter)
