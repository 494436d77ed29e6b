"""Several repositories in one store: each below a prefix of its own."""

from __future__ import annotations

import builtins
from collections.abc import Iterator

from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    BlobStore,
    Condition,
    ETag,
    ObjectInfo,
    check_key,
    check_prefix,
)
from tcfs.store.wrappers.forward import ForwardingStore


class PrefixStore(ForwardingStore):
    """The objects of ``inner`` whose keys begin with ``prefix`` and a slash, without both.

    Keys can be as much shorter as the prefix is long.

    Raises:
        UsageError: the prefix could be no key.
    """

    def __init__(self, inner: BlobStore, prefix: str) -> None:
        super().__init__(inner)
        self._base = f"{check_key(prefix)}/"

    @property
    def endpoint(self) -> str:
        return f"{self.inner.endpoint}?prefix={self._base[:-1]}"

    def get(self, key: StoreKey) -> bytes:
        return self.inner.get(self._inside(key))

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        return self.inner.get_range(self._inside(key), offset, length)

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return self.inner.put(self._inside(key), data, condition)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        info = self.inner.head(self._inside(key))
        return None if info is None else ObjectInfo(key, info.size, info.etag)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        begin = self._base + after if after else ""
        for info in self.inner.list(self._base + check_prefix(prefix), begin):
            yield ObjectInfo(StoreKey(info.key[len(self._base) :]), info.size, info.etag)

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        return self.inner.list_dirs(self._base + check_prefix(prefix))

    def delete(self, key: StoreKey) -> None:
        self.inner.delete(self._inside(key))

    def _inside(self, key: StoreKey) -> StoreKey:
        return StoreKey(self._base + check_key(key))
