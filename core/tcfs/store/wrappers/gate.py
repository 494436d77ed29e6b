"""As many requests at once as the server takes, and as many bytes as there is memory for.

The window is moved as TCP moves its own (additive increase, multiplicative decrease: Chiu and Jain,
1989): a request that succeeds opens it by a share of one, so that a round of successes opens it by
one; a server that asks for less, or does not answer in time, halves it, once for all requests that
were under way.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.failures import StoreBusy
from tcfs.store.wrappers.forward import ForwardingStore

WHOLE: Final = 8 << 20
"""Bytes that a read of a whole object is taken to need: what the largest segments have."""


class GateStore(ForwardingStore):
    """Holds requests back.

    Args:
        inner: the store behind.
        most: requests at once, at most; one at least are always let through.
        memory: bytes of objects in flight. One that is larger goes alone.
    """

    def __init__(self, inner: BlobStore, *, most: int, memory: int) -> None:
        super().__init__(inner)
        self._most = most
        self._memory = memory
        self._window = float(most)
        self._running = 0
        self._bytes = 0
        self._shrinks = 0
        self._changed = threading.Condition()

    @property
    def window(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._window))

    def get(self, key: StoreKey) -> bytes:
        with self._passing(WHOLE):
            return self.inner.get(key)

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        with self._passing(max(0, length)):
            return self.inner.get_range(key, offset, length)

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        with self._passing(memoryview(data).nbytes):
            return self.inner.put(key, data, condition)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        with self._passing(0):
            return self.inner.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        # Not held over a yield: the consumer may ask for something else before the next item.
        found = self.inner.list(prefix, after)
        while True:
            with self._passing(0):
                info = next(found, None)
            if info is None:
                return
            yield info

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        with self._passing(0):
            return self.inner.list_dirs(prefix)

    def delete(self, key: StoreKey) -> None:
        with self._passing(0):
            self.inner.delete(key)

    @contextmanager
    def _passing(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._fits(size))
            self._running += 1
            self._bytes += size
            seen = self._shrinks
        asked_for_less = False
        succeeded = False
        try:
            yield
            succeeded = True
        except StoreError as error:
            asked_for_less = isinstance(error, StoreBusy) or bool(error.details.get("timeout"))
            raise
        finally:
            with self._changed:
                self._running -= 1
                self._bytes -= size
                if succeeded:
                    self._window = min(self._most, self._window + 1 / self._window)
                elif asked_for_less and seen == self._shrinks:
                    self._window = max(1.0, self._window / 2)
                    self._shrinks += 1
                self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        if not self._running:
            return True
        return self._running < self.window and (not size or self._bytes + size <= self._memory)
