"""The wrapper that adds nothing: what the others are made from."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Capabilities, Condition, ETag, ObjectInfo


class ForwardingStore:
    """Passes every call to ``inner``."""

    def __init__(self, inner: BlobStore) -> None:
        self.inner = inner

    @property
    def endpoint(self) -> str:
        return self.inner.endpoint

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def get(self, key: StoreKey) -> bytes:
        return self.inner.get(key)

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        return self.inner.get_range(key, offset, length)

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return self.inner.put(key, data, condition)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        return self.inner.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, after)

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        return self.inner.list_dirs(prefix)

    def delete(self, key: StoreKey) -> None:
        self.inner.delete(key)

    def close(self) -> None:
        self.inner.close()
