"""A store that fails where a test says."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import TypeVar

from tcfs.host.faults import FaultPlan, Operation
from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.wrappers.forward import ForwardingStore

T = TypeVar("T")
Damage = Callable[[Operation, bytes], bytes]


class FaultStore(ForwardingStore):
    """Asks ``plan`` before and after every operation; all are numbered, reads too.

    An error raised ``after`` a put is an answer that was lost: the object is written. A listing
    counts as one operation, which begins with its first item and ends behind its last.

    Args:
        inner: the store that does the work.
        plan: numbers the operations, and raises.
        damage: what becomes of the bytes that ``get`` and ``get_range`` read.
    """

    def __init__(self, inner: BlobStore, plan: FaultPlan, damage: Damage | None = None) -> None:
        super().__init__(inner)
        self.plan = plan
        self._damage = damage

    def get(self, key: StoreKey) -> bytes:
        return self._around("get", key, lambda: self.inner.get(key), self._damage)

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        return self._around(
            "get_range", key, lambda: self.inner.get_range(key, offset, length), self._damage
        )

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return self._around("put", key, lambda: self.inner.put(key, data, condition))

    def head(self, key: StoreKey) -> ObjectInfo | None:
        return self._around("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        operation = self.plan.begin("list", prefix)
        yield from self.inner.list(prefix, after)
        self.plan.reach(operation, "after")

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        return self._around("list_dirs", prefix, lambda: self.inner.list_dirs(prefix))

    def delete(self, key: StoreKey) -> None:
        self._around("delete", key, lambda: self.inner.delete(key))

    def _around(
        self,
        name: str,
        target: str,
        call: Callable[[], T],
        change: Callable[[Operation, T], T] | None = None,
    ) -> T:
        operation = self.plan.begin(name, target)
        result = call()
        if change is not None:
            result = change(operation, result)
        self.plan.reach(operation, "after")
        return result


def flip_bit(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed, counted from the start; modulo their length."""
    changed = bytearray(data)
    if changed:
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)
