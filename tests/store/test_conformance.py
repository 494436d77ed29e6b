"""Every store and every wrapper, held to the one suite."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.host.system import SystemClock
from tcfs.store.base import BlobStore
from tcfs.store.local import LocalStore
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.cache import CacheStore
from tcfs.store.wrappers.count import CountStore
from tcfs.store.wrappers.fault import FaultStore
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.store.wrappers.limit import LimitStore, TokenBucket
from tcfs.store.wrappers.retry import RetryPolicy, RetryStore
from tests.store.conformance import OpenHandle, StoreConformance


def no_wait(seconds: float) -> None:
    assert seconds >= 0


def every_other_answer_is_lost() -> FaultPlan:
    def hook(operation: Operation, moment: Moment) -> None:
        if operation.number % 2 and moment == "after":
            raise StoreError("the answer was lost")

    return FaultPlan(hook)


def local(path: Path) -> OpenHandle:
    LocalStore.create(path / "store").close()
    return lambda: LocalStore(path / "store")


def around_memory(wrap: Callable[[BlobStore], BlobStore]) -> Callable[[Path], OpenHandle]:
    def factory(path: Path) -> OpenHandle:
        inner = MemoryStore()
        return lambda: wrap(inner)

    return factory


def limit(inner: BlobStore) -> BlobStore:
    clock = SystemClock()
    return LimitStore(
        inner,
        upload=TokenBucket(1e12, clock=clock, wait=no_wait),
        download=TokenBucket(1e12, clock=clock, wait=no_wait),
        in_flight=1,
    )


def flaky(inner: BlobStore) -> BlobStore:
    faulty = FaultStore(inner, every_other_answer_is_lost())
    policy = RetryPolicy(tries=60)  # threads share the numbers: many in a row may be odd
    return RetryStore(faulty, wait=no_wait, jitter=lambda: 0.5, policy=policy)


STORES: dict[str, Callable[[Path], OpenHandle]] = {
    "local": local,
    "memory": around_memory(lambda inner: inner),
    "forward": around_memory(ForwardingStore),
    "fault without faults": around_memory(lambda inner: FaultStore(inner, FaultPlan())),
    "retry": around_memory(lambda inner: RetryStore(inner, wait=no_wait, jitter=lambda: 0.5)),
    "retry around a store that loses answers": around_memory(flaky),
    "cache of nothing that changes": around_memory(
        lambda inner: CacheStore(inner, ("packs/",), 1 << 20)
    ),
    "limit": around_memory(limit),
    "count": around_memory(CountStore),
}


class TestConformance(StoreConformance):
    @pytest.fixture(params=list(STORES))
    def open_handle(self, request: pytest.FixtureRequest, tmp_path: Path) -> OpenHandle:
        return STORES[request.param](tmp_path)
