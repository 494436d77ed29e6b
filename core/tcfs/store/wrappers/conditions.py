"""What a server makes of conditional writes, found out by trying; made up for where it can be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    IF_ABSENT,
    BlobStore,
    Capabilities,
    Condition,
    ETag,
    PreconditionFailed,
    StoreRefused,
    check_condition,
)
from tcfs.store.wrappers.forward import ForwardingStore

PROBES: Final = "tcfs-meta/probe-"
"""What keys of objects begin with that a probe writes and removes."""
RACERS: Final = 3
"""Writers that race; few, since SeaweedFS lets each that loses wait for seconds."""
_UNKNOWN_HEADER: Final = (400, 501)
_SIZE: Final = 1 << 16
"""Bytes that racers write: enough to be under way at the same time."""


class ConditionStore(ForwardingStore):
    """Knows whether the store behind keeps conditions; keeps them as well as it can where not.

    There a conditional put first looks, then writes, then reads back. Writers that race can all
    win: nothing that has to be done once may rest on it, and ``capabilities`` says so.

    Args:
        inner: the store behind.
        recall: what an earlier probe found, or None.
        remember: keeps what a probe found.
        token: a name for the object that a probe writes: lower-case letters and digits.
    """

    def __init__(
        self,
        inner: BlobStore,
        *,
        recall: Callable[[], bool | None],
        remember: Callable[[bool], None],
        token: Callable[[], str],
    ) -> None:
        super().__init__(inner)
        self._recall = recall
        self._remember = remember
        self._token = token
        self._lock = threading.Lock()
        self._enforced: bool | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the server enforces; probed if nobody knows. Raises StoreError."""
        return Capabilities(conditional_writes=self._enforces())

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        if condition == ALWAYS or self._enforces():
            return self.inner.put(key, data, condition)
        current = self.inner.head(key)
        check_condition(condition, None if current is None else current.etag, key)
        etag = self.inner.put(key, data)
        if self.inner.get(key) != bytes(data):
            raise PreconditionFailed(f"{key} was written by another at the same time")
        return etag

    def _enforces(self) -> bool:
        with self._lock:
            if self._enforced is None:
                self._enforced = self._recall()
            if self._enforced is None:
                self._enforced = keeps_conditions(self.inner, self._token())
                self._remember(self._enforced)
            return self._enforced


def keeps_conditions(store: BlobStore, token: str) -> bool:
    """Whether of writers that race for an absent key, and for a version, exactly one wins.

    Raises:
        StoreError: the store failed, or refuses writes altogether: nothing was found out.
    """
    key = StoreKey(PROBES + token)
    try:
        first = _race(store, key, IF_ABSENT, "first")
        if first is None:
            return False
        second = _race(store, key, Condition(if_match=first), "second")
        if second is None:
            return False
        # Neither what is there nor a version that is no more may be replaced.
        return not any(
            _wins(store, key, b"late", late) for late in (IF_ABSENT, Condition(if_match=first))
        )
    finally:
        with suppress(StoreRefused):
            store.delete(key)


def _race(store: BlobStore, key: StoreKey, condition: Condition, word: str) -> ETag | None:
    """The etag of the one put that won, or None if there was not exactly one."""
    start = threading.Barrier(RACERS)

    def run(number: int) -> tuple[bytes, ETag] | None:
        data = (b"%s %d " % (word.encode(), number)).ljust(_SIZE, b".")
        start.wait()
        etag = _wins(store, key, data, condition)
        return None if etag is None else (data, etag)

    with ThreadPoolExecutor(RACERS) as pool:
        winners = [found for found in pool.map(run, range(RACERS)) if found is not None]
    if len(winners) != 1 or store.get(key) != winners[0][0]:
        return None
    return winners[0][1]


def _wins(store: BlobStore, key: StoreKey, data: bytes, condition: Condition) -> ETag | None:
    try:
        return store.put(key, data, condition)
    except PreconditionFailed:
        return None
    except StoreRefused as error:
        if error.details.get("status") in _UNKNOWN_HEADER:
            return None  # this server does not know conditions
        raise
