"""A store in memory, for tests and simulations."""

from __future__ import annotations

import builtins
import itertools
import threading
from collections.abc import Iterator

from tcfs.model.ids import StoreKey
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


class MemoryStore:
    """Objects in a dictionary. ``name`` only serves the endpoint."""

    def __init__(self, name: str = "test") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._objects: dict[StoreKey, tuple[bytes, ETag]] = {}
        self._numbers = itertools.count(1)

    @property
    def endpoint(self) -> str:
        return f"memory://{self._name}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_writes=True)

    def get(self, key: StoreKey) -> bytes:
        found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectMissing(f"the store has no object {key}")
        return found[0]

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_range(offset, length)
        data = self.get(key)
        if offset + length > len(data):
            raise too_short(key)
        return data[offset : offset + length]

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        check_key(key)
        copy = bytes(data)
        with self._lock:
            current = self._objects.get(key)
            check_condition(condition, None if current is None else current[1], key)
            etag = ETag(str(next(self._numbers)))
            self._objects[key] = (copy, etag)
            return etag

    def head(self, key: StoreKey) -> ObjectInfo | None:
        found = self._objects.get(check_key(key))
        return None if found is None else ObjectInfo(key, len(found[0]), found[1])

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            objects = list(self._objects.items())
        # In an order of no use, so that nobody comes to rely on one.
        for key, (data, etag) in sorted(objects, key=lambda item: item[0][::-1]):
            if key.startswith(prefix) and key > after:
                yield ObjectInfo(key, len(data), etag)

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        names = {
            name
            for info in self.list(prefix)
            for name, slash, _ in [info.key[len(prefix) :].partition("/")]
            if slash
        }
        return sorted(names, key=lambda name: name[::-1])

    def delete(self, key: StoreKey) -> None:
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def close(self) -> None:
        """Nothing to give back; the objects stay."""
