"""Counting what a store is asked for."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.wrappers.forward import ForwardingStore


@dataclass(frozen=True, slots=True)
class Count:
    """What one verb was used for.

    ``requests`` include those that failed; ``bytes`` are those of objects, sent or received;
    ``items`` what listings named.
    """

    requests: int = 0
    bytes: int = 0
    items: int = 0


class CountStore(ForwardingStore):
    """Counts calls and bytes by verb: get, get_range, put, head, list, list_dirs, delete."""

    def __init__(self, inner: BlobStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def counts(self) -> dict[str, Count]:
        """The counts since the beginning, or the last reset, of the verbs that were used."""
        with self._lock:
            return dict(self._counts)

    def count(self, verb: str) -> Count:
        """The count of one verb."""
        with self._lock:
            return self._counts.get(verb, Count())

    def reset(self) -> None:
        """Begin again at nothing."""
        with self._lock:
            self._counts.clear()

    def get(self, key: StoreKey) -> bytes:
        self._add("get", requests=1)
        data = self.inner.get(key)
        self._add("get", size=len(data))
        return data

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        self._add("get_range", requests=1)
        data = self.inner.get_range(key, offset, length)
        self._add("get_range", size=len(data))
        return data

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        self._add("put", requests=1, size=memoryview(data).nbytes)
        return self.inner.put(key, data, condition)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        self._add("head", requests=1)
        return self.inner.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        self._add("list", requests=1)
        for info in self.inner.list(prefix, after):
            self._add("list", items=1)
            yield info

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        self._add("list_dirs", requests=1)
        names = self.inner.list_dirs(prefix)
        self._add("list_dirs", items=len(names))
        return names

    def delete(self, key: StoreKey) -> None:
        self._add("delete", requests=1)
        self.inner.delete(key)

    def _add(self, verb: str, *, requests: int = 0, size: int = 0, items: int = 0) -> None:
        with self._lock:
            count = self._counts.get(verb, Count())
            self._counts[verb] = replace(
                count,
                requests=count.requests + requests,
                bytes=count.bytes + size,
                items=count.items + items,
            )
