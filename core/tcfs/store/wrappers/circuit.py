"""Giving up on a store that does not answer.

As in "Release It!" (Michael Nygard, 2007), Circuit Breaker: after some failures in a row nothing is
asked for a while, then one request is let through to see.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from tcfs.errors import StoreError
from tcfs.host.base import Clock
from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.failures import StoreUnreachable
from tcfs.store.wrappers.forward import ForwardingStore

T = TypeVar("T")

FAILURES: Final = 3
PAUSE: Final = 10.0


class CircuitStore(ForwardingStore):
    """Fails at once while the store behind is known to fail.

    It stands outside of what repeats requests: what it counts has been tried often enough. Only
    failures that may pass count; a refusal is an answer.

    Args:
        inner: the store that does the work.
        clock: its monotonic time is used.
        failures: in a row, after which nothing is asked any more.
        pause: seconds until one request is let through again.
    """

    def __init__(
        self, inner: BlobStore, *, clock: Clock, failures: int = FAILURES, pause: float = PAUSE
    ) -> None:
        super().__init__(inner)
        self._clock = clock
        self._limit = failures
        self._pause = pause
        self._lock = threading.Lock()
        self._failures = 0
        self._reason = ""
        self._until = 0.0

    def get(self, key: StoreKey) -> bytes:
        return self._call(lambda: self.inner.get(key))

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        return self._call(lambda: self.inner.get_range(key, offset, length))

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return self._call(lambda: self.inner.put(key, data, condition))

    def head(self, key: StoreKey) -> ObjectInfo | None:
        return self._call(lambda: self.inner.head(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        found = self.inner.list(prefix, after)
        while True:
            info = self._call(lambda: next(found, None))
            if info is None:
                return
            yield info

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        return self._call(lambda: self.inner.list_dirs(prefix))

    def delete(self, key: StoreKey) -> None:
        self._call(lambda: self.inner.delete(key))

    def _call(self, call: Callable[[], T]) -> T:
        self._enter()
        try:
            result = call()
        except StoreError as error:
            self._count(error)
            raise
        if self._failures:
            with self._lock:
                self._failures = 0
        return result

    def _enter(self) -> None:
        if self._failures < self._limit:
            return
        with self._lock:
            if self._failures < self._limit:
                return
            now = self._clock.monotonic()
            if now >= self._until:
                self._until = now + self._pause  # this one tries; the others wait for its result
                return
            raise StoreUnreachable(
                f"{self.endpoint} failed {self._failures} times in a row, the last time with: "
                f"{self._reason}",
                details={"failures": self._failures, "again_in_s": round(self._until - now, 1)},
            )

    def _count(self, error: StoreError) -> None:
        with self._lock:
            if not error.retryable:
                self._failures = 0  # it answers
                return
            self._failures += 1
            self._reason = error.message
            if self._failures >= self._limit:
                self._until = self._clock.monotonic() + self._pause
