"""Keeping what was read, in memory, for objects that never change."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, check_range, too_short
from tcfs.store.wrappers.forward import ForwardingStore


class CacheStore(ForwardingStore):
    """Keeps whole objects under ``prefixes`` once they were read, the least used leaving first.

    Nothing is verified here: whoever finds that bytes are wrong calls ``forget`` and reads again.

    Args:
        inner: the store behind.
        prefixes: of keys whose objects never change.
        limit: bytes kept at most; larger objects are not kept.
    """

    def __init__(self, inner: BlobStore, prefixes: tuple[str, ...], limit: int) -> None:
        super().__init__(inner)
        self._prefixes = prefixes
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[StoreKey, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: StoreKey) -> bytes:
        data = self._find(key)
        if data is None:
            data = self.inner.get(key)
            self._keep(key, data)
        return data

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        """From the kept object; a range alone is not kept."""
        check_range(offset, length)
        data = self._find(key)
        if data is None:
            return self.inner.get_range(key, offset, length)
        if offset + length > len(data):
            raise too_short(key)
        return data[offset : offset + length]

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        try:
            return self.inner.put(key, data, condition)
        finally:
            self.forget(key)

    def delete(self, key: StoreKey) -> None:
        try:
            self.inner.delete(key)
        finally:
            self.forget(key)

    def forget(self, key: StoreKey) -> None:
        """Read this object from the store the next time."""
        with self._lock:
            self._drop(key)

    def close(self) -> None:
        with self._lock:
            self._kept.clear()
            self._size = 0
        super().close()

    def _find(self, key: StoreKey) -> bytes | None:
        with self._lock:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
            return data

    def _keep(self, key: StoreKey, data: bytes) -> None:
        if len(data) > self._limit or not key.startswith(self._prefixes):
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = data
            self._size += len(data)
            while self._size > self._limit:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: StoreKey) -> None:
        data = self._kept.pop(key, None)
        if data is not None:
            self._size -= len(data)
