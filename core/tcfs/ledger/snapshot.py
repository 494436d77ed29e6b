"""Snapshots: what a namespace's chains had told up to some heads, in a form that loads at once.

Formats are those of FORMAT.md, section *Snapshots*. A snapshot is a head object and its parts, each
under the hash of its bytes; an admin's control event names the head's hash, and that is its
signature. Nothing here decides whether it is to be believed: see ``tcfs.sync.gc.loading``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import orjson
from blake3 import blake3

from tcfs.content.address import ChunkAddress, check_address
from tcfs.content.frame import compress, decompress
from tcfs.content.keys import KeyRing
from tcfs.content.seal import NO_EPOCH, SALT_SIZE, Binding, Cipher, Sealer
from tcfs.errors import IntegrityError
from tcfs.ledger.keys import MAX_SEQ, is_device, parse_key
from tcfs.ledger.strict import hex_bytes, integer, parse_object
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.event import ChainHead, ContentEvent
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    EpochId,
    NamespaceId,
    PackId,
    SegmentHash,
    StoreKey,
    is_uuid,
)

MAGIC: Final = b"TCFSSNAP"
SNAPSHOT_KIND: Final = b"tcfs/snapshot/v1"
MAX_OBJECT: Final = 48 << 20
"""Bytes of the largest object of a snapshot."""
PART: Final = 4 << 20
"""Bytes of plaintext at which a part is finished; a single record may be larger."""
MAX_PLAIN: Final = 40 << 20
"""Bytes of the largest plaintext."""
MAX_PARTS: Final = 100_000
LISTED: Final = 500
"""Chunks in one record at most."""

_START = len(MAGIC) + 2 + 16 + SALT_SIZE
Role = Literal["head", "part"]
_ROLES: Final[Mapping[Role, bytes]] = {"head": b"\0", "part": b"\1"}


@dataclass(frozen=True, slots=True)
class SnapshotScope:
    """What a snapshot's objects belong to, and the keys that open them."""

    repo: UUID
    namespace: NamespaceId
    encryption: bool
    keyring: KeyRing | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """The head object: what the parts together hold. Counts are of records."""

    heads: Mapping[DeviceId, ChainHead]
    parts: tuple[str, ...]
    segments: int
    versions: int
    chunks: int


class SegmentRecord(NamedTuple):
    """A verified segment, quarantined ones included."""

    device: DeviceId
    seq: int
    hash: SegmentHash
    lamport: int
    counter: int
    written_at: int
    accepted: bool


class VersionRecord(NamedTuple):
    """An accepted event with its place."""

    device: DeviceId
    seq: int
    lamport: int
    event: ContentEvent


class PackRecord(NamedTuple):
    """A pack that the chains name, and chunks that are told to be in it."""

    pack: PackId
    key: StoreKey
    offset: int
    chunks: tuple[tuple[ChunkId, ChunkAddress], ...]


class ProgressRecord(NamedTuple):
    """What a device's last accepted segment had seen."""

    device: DeviceId
    control: Mapping[DeviceId, ChainHead]
    seen: Mapping[DeviceId, ChainHead]


Record = SegmentRecord | VersionRecord | PackRecord | ProgressRecord


def object_key(namespace: NamespaceId, digest: str) -> StoreKey:
    """Where an object of a snapshot lies."""
    return StoreKey(f"snapshots/{namespace}/{digest}")


def seal_object(
    role: Role, plain: bytes, scope: SnapshotScope, epoch: EpochId, cipher: Cipher, salt: bytes
) -> tuple[str, bytes]:
    """An object and its hash. ``salt``: 32 fresh random bytes."""
    codec, payload = compress(plain)
    sealer = Sealer(
        Binding(SNAPSHOT_KIND, scope.repo, scope.namespace, epoch, cipher),
        scope.keyring.epoch_key(epoch) if scope.keyring else b"",
        salt,
    )
    data = b"".join(
        (
            MAGIC,
            bytes((1, cipher)),
            bytes.fromhex(epoch) if epoch else bytes(16),
            salt,
            bytes((codec,)),
            sealer.seal(0, _ROLES[role] + bytes((codec,)), payload),
        )
    )
    return blake3(data).hexdigest(), data


def open_object(role: Role, digest: str, data: bytes, scope: SnapshotScope) -> bytes:
    """The plaintext of an object.

    Raises:
        IntegrityError: damaged, moved, or not sealed as this repository seals.
        AccessError: the key of its epoch was not given to this device.
    """
    if len(data) > MAX_OBJECT or blake3(data).hexdigest() != digest:
        raise IntegrityError("a snapshot's object is not the one that its name says")
    if len(data) <= _START or data[: len(MAGIC)] != MAGIC or data[len(MAGIC)] != 1:
        raise IntegrityError("an object is no snapshot, or one of a later version")
    raw = data[len(MAGIC) + 1]
    if raw not in (1, 2) if scope.encryption else raw != 0:
        raise IntegrityError("a snapshot is not sealed as this repository seals")
    cipher = Cipher(raw)
    raw_epoch = data[len(MAGIC) + 2 : len(MAGIC) + 18]
    epoch = EpochId(raw_epoch.hex()) if scope.encryption else NO_EPOCH
    salt = data[len(MAGIC) + 18 : _START]
    key = scope.keyring.epoch_key(epoch) if scope.encryption and scope.keyring else b""
    if scope.encryption and not key:
        raise IntegrityError("a snapshot is sealed and no keys are for it")
    sealer = Sealer(Binding(SNAPSHOT_KIND, scope.repo, scope.namespace, epoch, cipher), key, salt)
    codec = data[_START]
    payload = sealer.open(0, _ROLES[role] + bytes((codec,)), data[_START + 1 :])
    return bytes(decompress(codec, payload, limit=MAX_PLAIN))


def encode_head(head: SnapshotHead) -> bytes:
    """The head's plaintext."""
    return orjson.dumps(
        {
            "format": 1,
            "heads": _heads_to_json(head.heads),
            "parts": list(head.parts),
            "segments": head.segments,
            "versions": head.versions,
            "chunks": head.chunks,
        }
    )


def decode_head(plain: bytes) -> SnapshotHead:
    """Read and check a head. Raises IntegrityError."""
    found = parse_object(plain, "a snapshot's head")
    if found.get("format") != 1:
        raise IntegrityError("a snapshot is of a format that this version does not know")
    parts = found.get("parts")
    if not isinstance(parts, list) or len(parts) > MAX_PARTS:
        raise IntegrityError("a snapshot's parts are not a list")
    return SnapshotHead(
        heads=_heads(found.get("heads")),
        parts=tuple(hex_bytes(part, 32, "a part's hash").hex() for part in parts),
        segments=integer(found.get("segments"), 0, MAX_COUNTER, "its number of segments"),
        versions=integer(found.get("versions"), 0, MAX_COUNTER, "its number of versions"),
        chunks=integer(found.get("chunks"), 0, MAX_COUNTER, "its number of chunks"),
    )


def encode_parts(records: Iterable[Record]) -> Iterator[bytes]:
    """The plaintexts of the parts that hold these records, in their order."""
    lines: list[bytes] = []
    size = 0
    for record in records:
        line = orjson.dumps(_to_json(record), option=orjson.OPT_APPEND_NEWLINE)
        if lines and size + len(line) > PART:
            yield b"".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines)


def decode_part(plain: bytes) -> Iterator[Record]:
    """The records of a part, each checked. Raises IntegrityError."""
    if plain and not plain.endswith(b"\n"):
        raise IntegrityError("a snapshot's part is cut off")
    for line in plain[:-1].split(b"\n") if plain else ():
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise IntegrityError("a snapshot's record is not JSON") from None
        if not isinstance(found, dict):
            raise IntegrityError("a snapshot's record is not an object")
        yield _from_json(found)


def _to_json(record: Record) -> dict[str, Any]:
    if isinstance(record, SegmentRecord):
        return {"t": "segment", **record._asdict()}
    if isinstance(record, VersionRecord):
        data = {"t": "version", **record._asdict()}
        data["event"] = record.event.to_json()
        return data
    if isinstance(record, ProgressRecord):
        return {
            "t": "progress",
            "device": record.device,
            "control": _heads_to_json(record.control),
            "seen": _heads_to_json(record.seen),
        }
    return {
        "t": "pack",
        "pack": record.pack,
        "key": record.key,
        "offset": record.offset,
        "chunks": [[chunk.hex(), *address[1:]] for chunk, address in record.chunks],
    }


def _from_json(found: dict[str, Any]) -> Record:
    kind = found.get("t")
    if kind == "segment":
        accepted = found.get("accepted")
        if type(accepted) is not bool:
            raise IntegrityError("a snapshot's segment is not as it must be")
        return SegmentRecord(
            _device(found),
            _seq(found),
            SegmentHash(hex_bytes(found.get("hash"), 32, "a segment's hash").hex()),
            integer(found.get("lamport"), 1, MAX_COUNTER, "a Lamport time"),
            integer(found.get("counter"), 0, MAX_COUNTER, "a counter"),
            integer(found.get("written_at"), 0, MAX_COUNTER, "a time"),
            accepted,
        )
    if kind == "version":
        lamport = integer(found.get("lamport"), 1, MAX_COUNTER, "a Lamport time")
        event = ContentEvent.from_json(found.get("event"))
        return VersionRecord(_device(found), _seq(found), lamport, event)
    if kind == "progress":
        return ProgressRecord(
            _device(found), _heads(found.get("control")), _heads(found.get("seen"))
        )
    if kind == "pack":
        return _pack(found)
    raise IntegrityError("a snapshot has a record of an unknown kind")


def _pack(found: dict[str, Any]) -> PackRecord:
    pack = PackId(hex_bytes(found.get("pack"), 32, "a pack's id").hex())
    offset = integer(found.get("offset"), 0, MAX_OBJECT, "a pack's offset")
    key, rows = found.get("key"), found.get("chunks")
    if not isinstance(key, str) or not isinstance(rows, list):
        raise IntegrityError("a snapshot's pack is not as it must be")
    if offset:
        parse_key(key)
    elif key != f"packs/{pack[:2]}/{pack}":
        raise IntegrityError("a snapshot's pack lies in no place for one")
    chunks = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 5:
            raise IntegrityError("a snapshot's chunk is not as it must be")
        chunk = ChunkId(hex_bytes(row[0], 32, "a chunk's id"))
        address = ChunkAddress(
            pack, *(integer(number, 0, 1 << 31, "a chunk's place") for number in row[1:])
        )
        check_address(address)
        chunks.append((chunk, address))
    return PackRecord(pack, StoreKey(key), offset, tuple(chunks))


def _device(found: Mapping[str, Any]) -> DeviceId:
    device = found.get("device")
    if not isinstance(device, str) or not is_uuid(device):
        raise IntegrityError("a snapshot's record names no device")
    return DeviceId(device)


def _seq(found: Mapping[str, Any]) -> int:
    return integer(found.get("seq"), 1, MAX_SEQ, "a segment's seq")


def _heads_to_json(heads: Mapping[DeviceId, ChainHead]) -> dict[str, Any]:
    return {device: list(head) for device, head in sorted(heads.items())}


def _heads(value: object) -> dict[DeviceId, ChainHead]:
    if not isinstance(value, dict):
        raise IntegrityError("a snapshot's heads are not an object")
    found: dict[DeviceId, ChainHead] = {}
    for device, head in value.items():
        if not isinstance(device, str) or not is_device(device) or not isinstance(head, list):
            raise IntegrityError("a snapshot's heads name something that is no chain's head")
        if len(head) != 2:
            raise IntegrityError("a snapshot's heads name something that is no chain's head")
        digest = hex_bytes(head[1], 32, "a head's hash").hex()
        found[DeviceId(device)] = ChainHead(
            integer(head[0], 1, MAX_SEQ, "a head's seq"), SegmentHash(digest)
        )
    return found
