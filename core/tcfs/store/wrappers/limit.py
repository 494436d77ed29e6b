"""Bounds on what a store is asked for: bytes a second, and requests at once."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from tcfs.host.base import Clock
from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.wrappers.forward import ForwardingStore


class TokenBucket:
    """Lets ``rate`` bytes a second through, and ``burst`` bytes at once after a pause.

    More than the bucket holds may be taken: the debt is waited off by whoever made it, and those
    who come later wait behind it, so that the average holds for objects larger than the burst.

    Args:
        rate: bytes a second.
        burst: bytes; one second's worth if None.
        clock: its monotonic time is used.
        wait: waits for that many seconds.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Clock,
        wait: Callable[[float], None],
        burst: float | None = None,
    ) -> None:
        if rate <= 0:
            raise ValueError("a rate is more than nothing")
        self._rate = rate
        self._burst = rate if burst is None else burst
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._level = self._burst
        self._filled_at = clock.monotonic()

    def take(self, size: int) -> None:
        """Return when ``size`` bytes may pass."""
        with self._lock:
            now = self._clock.monotonic()
            gained = (now - self._filled_at) * self._rate
            self._level = min(self._burst, self._level + gained) - size
            self._filled_at = now
            debt = -self._level
        if debt > 0:
            self._wait(debt / self._rate)


class LimitStore(ForwardingStore):
    """Holds uploads, downloads and requests to their bounds; None is no bound.

    A whole object's size is known only when it is there, so a download is paid for afterwards.

    Args:
        inner: the store behind.
        upload: what puts take their bytes from.
        download: what gets take theirs from.
        in_flight: requests at once. A listing is a request while it is asked for its next item.
    """

    def __init__(
        self,
        inner: BlobStore,
        *,
        upload: TokenBucket | None = None,
        download: TokenBucket | None = None,
        in_flight: int | None = None,
    ) -> None:
        super().__init__(inner)
        self._upload = upload
        self._download = download
        self._slot: AbstractContextManager[object] = (
            nullcontext() if in_flight is None else threading.BoundedSemaphore(in_flight)
        )

    def get(self, key: StoreKey) -> bytes:
        with self._slot:
            data = self.inner.get(key)
        if self._download is not None:
            self._download.take(len(data))
        return data

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        with self._slot:
            data = self.inner.get_range(key, offset, length)
        if self._download is not None:
            self._download.take(length)
        return data

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        if self._upload is not None:
            self._upload.take(memoryview(data).nbytes)
        with self._slot:
            return self.inner.put(key, data, condition)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        with self._slot:
            return self.inner.head(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        # Not held over a yield: the consumer may ask for something else before the next item.
        found = self.inner.list(prefix, after)
        while True:
            with self._slot:
                info = next(found, None)
            if info is None:
                return
            yield info

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        with self._slot:
            return self.inner.list_dirs(prefix)

    def delete(self, key: StoreKey) -> None:
        with self._slot:
            self.inner.delete(key)
