"""Trying again, where that may help.

Waits grow exponentially with full jitter (a random share of the step), as in "Exponential Backoff
And Jitter", Marc Brooker, AWS Architecture Blog, 2015, so that clients that failed together do not
come back together.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from msgspec import Struct

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    BlobStore,
    Condition,
    ETag,
    ObjectInfo,
    ObjectMissing,
    PreconditionFailed,
)
from tcfs.store.wrappers.forward import ForwardingStore

T = TypeVar("T")


class RetryPolicy(Struct, frozen=True):
    """How often and when: at most ``tries`` calls, waits of up to ``base * 2^n`` seconds.

    No single wait is longer than ``cap`` seconds.
    """

    tries: int = 6
    base: float = 0.2
    cap: float = 20.0


USUAL: Final = RetryPolicy()


def try_again(
    call: Callable[[], T],
    *,
    wait: Callable[[float], None],
    jitter: Callable[[], float],
    policy: RetryPolicy = USUAL,
) -> T:
    """Make a call, and again after a ``retryable`` StoreError; every other error passes at once."""
    attempt = 0
    while True:
        try:
            return call()
        except StoreError as error:
            _before_next(attempt, error, wait, jitter, policy)
        attempt += 1


def _before_next(
    attempt: int,
    error: StoreError,
    wait: Callable[[float], None],
    jitter: Callable[[], float],
    policy: RetryPolicy,
) -> None:
    """Wait after a failure, or raise it where another try is of no use."""
    if not error.retryable or attempt + 1 >= policy.tries:
        raise error
    wait(jitter() * min(policy.cap, policy.base * 2**attempt))


class RetryStore(ForwardingStore):
    """Repeats what failed with a ``retryable`` StoreError; every other error passes at once.

    Args:
        inner: the store that does the work.
        wait: waits for that many seconds; what it raises ends the call.
        jitter: a random number in [0, 1).
        policy: how often and when.
    """

    def __init__(
        self,
        inner: BlobStore,
        *,
        wait: Callable[[float], None],
        jitter: Callable[[], float],
        policy: RetryPolicy = USUAL,
    ) -> None:
        super().__init__(inner)
        self._wait = wait
        self._jitter = jitter
        self._policy = policy

    def get(self, key: StoreKey) -> bytes:
        return self._try(lambda: self.inner.get(key))

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        return self._try(lambda: self.inner.get_range(key, offset, length))

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        """As the protocol says. A put that failed may have happened all the same.

        So where a repeated conditional put is refused, the stored bytes are compared with ours: if
        they are equal, it was our own first try that won. Different bytes, or none, are a loss
        (with ``if_match``, ours may have been stored and replaced in between: read again).
        """
        doubtful = False

        def attempt() -> ETag:
            nonlocal doubtful
            try:
                return self.inner.put(key, data, condition)
            except StoreError as error:
                doubtful = doubtful or error.retryable
                raise

        try:
            return self._try(attempt)
        except PreconditionFailed:
            stored = self._stored_as(key, data) if doubtful else None
            if stored is None:
                raise
            return stored

    def head(self, key: StoreKey) -> ObjectInfo | None:
        return self._try(lambda: self.inner.head(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """As the protocol says. A listing that broke begins again, and nothing comes twice."""
        seen: set[StoreKey] = set()
        attempt = 0
        while True:
            try:
                for info in self.inner.list(prefix, after):
                    if info.key not in seen:
                        seen.add(info.key)
                        yield info
            except StoreError as error:
                self._before_next(attempt, error)
            else:
                return
            attempt += 1

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        return self._try(lambda: self.inner.list_dirs(prefix))

    def delete(self, key: StoreKey) -> None:
        self._try(lambda: self.inner.delete(key))

    def _stored_as(self, key: StoreKey, data: bytes | bytearray | memoryview) -> ETag | None:
        # The etag first: if the object changes after that, the etag is out of date, not wrong.
        info = self.head(key)
        if info is None or info.size != memoryview(data).nbytes:
            return None
        try:
            return info.etag if self.get(key) == data else None
        except ObjectMissing:
            return None

    def _try(self, call: Callable[[], T]) -> T:
        return try_again(call, wait=self._wait, jitter=self._jitter, policy=self._policy)

    def _before_next(self, attempt: int, error: StoreError) -> None:
        _before_next(attempt, error, self._wait, self._jitter, self._policy)
