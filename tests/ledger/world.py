"""A store in memory, and devices that write histories into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from blake3 import blake3

from tcfs.content.address import ChunkAddress
from tcfs.content.seal import Cipher
from tcfs.device.phrase import SigningKey
from tcfs.errors import AccessError
from tcfs.ledger.chain import KnownSegment, next_place
from tcfs.ledger.fetch import fetch
from tcfs.ledger.keys import parse_key
from tcfs.ledger.segment import (
    Place,
    SealedSegment,
    Segment,
    SegmentDraft,
    open_segment,
    seal_segment,
)
from tcfs.ledger.walk import FetchResult
from tcfs.model.access import ControlState, DeviceRecord, Role
from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, ContentEvent
from tcfs.model.ids import (
    ChunkId,
    DeviceId,
    EpochId,
    NamespaceId,
    PackId,
    RelPath,
    StoreKey,
    VersionId,
)
from tcfs.model.manifest import SyncManifest
from tcfs.store.base import (
    ALWAYS,
    Capabilities,
    Condition,
    ETag,
    ObjectInfo,
    ObjectMissing,
    PreconditionFailed,
    check_key,
)
from tests.values import replace

REPO = UUID("11111111-2222-4333-8444-555555555555")
SPACE = NamespaceId("default")
EPOCH = EpochId("ab" * 16)
RECIPIENT = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"


class MemoryStore:
    """Objects in a dictionary. ``crash_after`` puts, every later one raises."""

    endpoint = "memory://test"
    capabilities = Capabilities(conditional_writes=True)

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.gets: list[str] = []
        self.crash_after: int | None = None
        self._lock = threading.Lock()

    def get(self, key):
        with self._lock:
            self.gets.append(check_key(key))
            if key not in self.objects:
                raise ObjectMissing(f"no object {key}")
            return self.objects[key]

    def get_range(self, key, offset, length):
        return self.get(key)[offset : offset + length]

    def put(self, key, data, condition: Condition = ALWAYS):
        check_key(key)
        with self._lock:
            if self.crash_after is not None:
                if self.crash_after == 0:
                    raise KeyboardInterrupt
                self.crash_after -= 1
            there = self.objects.get(key)
            if condition.if_absent and there is not None:
                raise PreconditionFailed(f"{key} is there")
            if condition.if_match and (there is None or etag(there) != condition.if_match):
                raise PreconditionFailed(f"{key} has changed")
            self.objects[key] = bytes(data)
            return etag(self.objects[key])

    def head(self, key):
        with self._lock:
            data = self.objects.get(key)
            return None if data is None else ObjectInfo(key, len(data), etag(data))

    def list(self, prefix, after="") -> Iterator[ObjectInfo]:
        with self._lock:
            found = [ObjectInfo(StoreKey(k), len(v), etag(v)) for k, v in self.objects.items()]
        return iter([info for info in found if info.key.startswith(prefix) and info.key > after])

    def list_dirs(self, prefix):
        with self._lock:
            rest = [key[len(prefix) :] for key in self.objects if key.startswith(prefix)]
        return sorted({name.split("/")[0] for name in rest if "/" in name})

    def delete(self, key):
        with self._lock:
            self.objects.pop(key, None)

    def close(self):
        pass


def etag(data: bytes) -> ETag:
    return ETag(blake3(data).hexdigest()[:16])


class Ring:
    """Keys of one epoch, made up."""

    chunk_key = b"c" * 32

    def epoch_key(self, epoch: EpochId) -> bytes:
        if epoch != EPOCH:
            raise AccessError(f"no key for {epoch}")
        return b"k" * 32


def device_id(number: int) -> DeviceId:
    return DeviceId(f"{number:08x}-0000-4000-8000-000000000000")


def signer(number: int) -> SigningKey:
    return SigningKey(device_id(number), bytes([number]) * 32)


def record(number: int, role: Role = "writer", **changes: Any) -> DeviceRecord:
    made = DeviceRecord(
        device_id(number), f"device-{number}", signer(number).public_key, RECIPIENT, role, 0
    )
    return replace(made, **changes)


def members(*records: DeviceRecord) -> ControlState:
    return ControlState(devices={one.device_id: one for one in records})


def manifest(path: bytes, clock: Mapping[DeviceId, int], **changes: Any) -> SyncManifest:
    made = SyncManifest(
        RelPath(path), "file", VectorClock(clock), (), "device", 1_700_000_000, b"h" * 32
    )
    return replace(made, **changes)


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def address(number: int, pack: int = 1) -> ChunkAddress:
    return ChunkAddress(PackId(f"{pack:064x}"), 200 + number, 1000, number, 10)


class Device:
    """One device: what it knows, and how it writes."""

    def __init__(self, store: MemoryStore, number: int, state: ControlState) -> None:
        self.store = store
        self.signer = signer(number)
        self.id = device_id(number)
        self.state = state
        self.counter = 0
        self.heads: dict[DeviceId, ChainHead] = {}
        self.known: dict[tuple[DeviceId, ChainHead], KnownSegment] = {}
        self.salt = number * 1000

    def clone(self) -> Device:
        other = Device(self.store, 0, self.state)
        other.__dict__.update(self.__dict__)
        other.heads, other.known = dict(self.heads), dict(self.known)
        other.salt += 500
        return other

    def open(self, key, data) -> Segment:
        key_of_device = self.state.sign_key(parse_key(key).device)
        if key_of_device is None:
            raise AccessError(f"{key}: its device is not known")
        return open_segment(
            key, data, repo=REPO, sign_key=key_of_device, encryption=True, keyring=Ring()
        )

    def lookup(self, device, head):
        return self.known.get((device, head))

    def fetch(self, **options: Any) -> FetchResult:
        result = fetch(
            self.store,
            SPACE,
            self.heads,
            self.open,
            known=self.lookup,
            **({"state": self.state} | options),
        )
        self.heads = dict(result.heads)
        self.known |= result.known
        return result

    def place(self) -> Place:
        return next_place(SPACE, self.id, heads=self.heads, known=self.lookup, control={})

    def clock(self) -> dict[DeviceId, int]:
        return {d: k.last for d, h in self.heads.items() if (k := self.known[d, h]).last}

    def event(self, path: bytes = b"a.txt", **changes: Any) -> ContentEvent:
        self.counter += 1
        clock = changes.pop("clock", self.clock())
        return ContentEvent(
            "write", self.counter, manifest(path, clock | {self.id: self.counter}, **changes)
        )

    def seal(self, events: Sequence[ContentEvent], **changes: Any) -> SealedSegment:
        self.salt += 1
        draft = SegmentDraft(replace(self.place(), **changes), 1_700_000_000, tuple(events))
        return seal_segment(
            draft,
            repo=REPO,
            signer=self.signer,
            salt=self.salt.to_bytes(32, "big"),
            keyring=Ring(),
            epoch=EPOCH,
            cipher=Cipher.CHACHA20_POLY1305,
        )

    def write(self, *paths: bytes, put: bool = True, **changes: Any) -> SealedSegment:
        """Append a segment with a new version of each path; this device then knows it."""
        sealed = self.seal([self.event(path) for path in paths or (b"a.txt",)], **changes)
        if put:
            self.store.put(sealed.key, sealed.data)
        self.heads[self.id] = sealed.head
        self.known[self.id, sealed.head] = KnownSegment(sealed.header.lamport, self.counter)
        return sealed


def fleet(count: int = 3, **roles: Role) -> tuple[MemoryStore, list[Device]]:
    """A store, and devices 1..count that are writers."""
    store = MemoryStore()
    state = members(*(record(number) for number in range(1, count + 1)))
    return store, [Device(store, number, state) for number in range(1, count + 1)]


def version(device: Device, counter: int) -> VersionId:
    return VersionId(device.id, counter)
