"""An object store in memory whose answers the scheduler may lose, delay or spoil.

``Bucket`` is the server: it remembers in which order its objects came, so that it can answer as it
would have some writes ago, or be put back to how it was. ``SimulatedStore`` is one device's way to
it.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Final

from tcfs.errors import StoreError
from tcfs.model.ids import CONTROL, StoreKey
from tcfs.store.base import (
    ALWAYS,
    Capabilities,
    Condition,
    ETag,
    ObjectInfo,
    ObjectMissing,
    check_condition,
    check_key,
    check_prefix,
    check_range,
    too_short,
)
from tests.sim.disk import Gate

STALE_WRITES: Final = 6
"""How many of the latest writes a stale answer does not know of."""

Stored = tuple[bytes, int]
"""Bytes, and the number of the write that brought them."""


class Bucket:
    """The objects, and what the latest writes replaced."""

    def __init__(self) -> None:
        self.objects: dict[StoreKey, Stored] = {}
        self._undo: list[tuple[StoreKey, Stored | None]] = []
        self.writes = 0

    def copy(self) -> Bucket:
        """Another bucket with the same objects."""
        other = Bucket()
        other.objects, other.writes = dict(self.objects), self.writes
        return other

    def segments(self) -> set[StoreKey]:
        """The keys of segments that tell of trees."""
        control = f"ledger/{CONTROL}/"
        return {k for k in self.objects if k.startswith("ledger/") and not k.startswith(control)}

    def put(self, key: StoreKey, data: bytes, condition: Condition = ALWAYS) -> ETag:
        """Write an object. Raises PreconditionFailed."""
        current = self.objects.get(key)
        check_condition(condition, None if current is None else ETag(str(current[1])), key)
        self.writes += 1
        self._undo.append((key, current))
        self.objects[key] = (data, self.writes)
        return ETag(str(self.writes))

    def delete(self, key: StoreKey) -> None:
        """Remove an object, if it is there."""
        current = self.objects.pop(key, None)
        if current is not None:
            self.writes += 1
            self._undo.append((key, current))

    def before(self, writes: int) -> dict[StoreKey, Stored]:
        """The objects as they were this many writes ago."""
        objects = dict(self.objects)
        for key, old in reversed(self._undo[len(self._undo) - min(writes, len(self._undo)) :]):
            if old is None:
                objects.pop(key, None)
            else:
                objects[key] = old
        return objects

    def roll_back(self, writes: int) -> None:
        """Be again as it was this many writes ago, as after a restore from a backup."""
        self.objects = self.before(writes)
        self._undo.clear()


class SimulatedStore:
    """``tcfs.store.base.BlobStore`` on a ``Bucket``, for one device."""

    endpoint = "memory://simulated"
    capabilities = Capabilities(conditional_writes=True)

    def __init__(self, bucket: Bucket, gate: Gate) -> None:
        self.bucket = bucket
        self._gate = gate

    def _pass(self, name: str, target: str) -> str:
        fault = self._gate.pass_("store", name, target)
        if fault == "lost":
            raise _unreachable(name)
        return fault

    def _objects(self, fault: str) -> dict[StoreKey, Stored]:
        return self.bucket.before(STALE_WRITES) if fault == "stale" else self.bucket.objects

    def _read(self, name: str, key: StoreKey) -> tuple[bytes, str]:
        fault = self._pass(name, check_key(key))
        found = self._objects(fault).get(key)
        if found is None:
            raise ObjectMissing(f"the store has no object {key}")
        return found[0], fault

    def get(self, key: StoreKey) -> bytes:
        return _spoilt(*self._read("get", key))

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_range(offset, length)
        data, fault = self._read("get_range", key)
        if offset + length > len(data):
            raise too_short(key)
        return _spoilt(data[offset : offset + length], fault)

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        fault = self._pass("put", check_key(key))
        etag = self.bucket.put(key, bytes(data), condition)
        if fault == "late":
            raise _unreachable("put")
        return etag

    def head(self, key: StoreKey) -> ObjectInfo | None:
        fault = self._pass("head", check_key(key))
        found = self._objects(fault).get(key)
        return None if found is None else ObjectInfo(key, len(found[0]), ETag(str(found[1])))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        fault = self._pass("list", check_prefix(prefix))
        # In an order of no use, and the same in each run whatever random bytes are in the keys.
        found = [
            ObjectInfo(key, len(data), ETag(str(number)))
            for key, (data, number) in self._objects(fault).items()
            if key.startswith(prefix) and key > after
        ]
        found.sort(key=lambda info: int(info.etag) * 7919 % 1009)
        if fault == "late":
            yield from found[: len(found) // 2]
            raise _unreachable("list")
        yield from found

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        fault = self._pass("list_dirs", check_prefix(prefix))
        size = len(prefix)
        names = dict.fromkeys(
            key[size : key.index("/", size)]
            for key in self._objects(fault)
            if key.startswith(prefix) and "/" in key[size:]
        )
        return list(names)[::-1]

    def delete(self, key: StoreKey) -> None:
        fault = self._pass("delete", check_key(key))
        self.bucket.delete(key)
        if fault == "late":
            raise _unreachable("delete")

    def close(self) -> None:
        """Nothing to give back."""


def _unreachable(name: str) -> StoreError:
    return StoreError(f"simulated: {name} had no answer")


def _spoilt(data: bytes, fault: str) -> bytes:
    if fault == "damaged" and data:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    return data[: len(data) // 2] if fault == "short" else data
