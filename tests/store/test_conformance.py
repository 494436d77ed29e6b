"""Every store and every wrapper, held to the one suite."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.host.system import SystemClock
from tcfs.model.ids import StoreKey
from tcfs.service.servers.weed import WeedServer
from tcfs.store.base import ALWAYS, MAX_KEY, BlobStore, Condition, ETag
from tcfs.store.endpoint import parse_endpoint
from tcfs.store.http import HttpClient
from tcfs.store.local import LocalStore
from tcfs.store.memory import MemoryStore
from tcfs.store.open import Credentials
from tcfs.store.s3 import S3Store
from tcfs.store.s3_client import S3Keys, S3Place
from tcfs.store.seaweedfs import SeaweedStore
from tcfs.store.wrappers.cache import CacheStore
from tcfs.store.wrappers.circuit import CircuitStore
from tcfs.store.wrappers.conditions import ConditionStore
from tcfs.store.wrappers.count import CountStore
from tcfs.store.wrappers.fault import FaultStore
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.store.wrappers.gate import GateStore
from tcfs.store.wrappers.limit import LimitStore, TokenBucket
from tcfs.store.wrappers.prefix import PrefixStore
from tcfs.store.wrappers.retry import RetryPolicy, RetryStore
from tests.servers import BUCKET, unique
from tests.store.conformance import (
    ConditionalConformance,
    FreshEtags,
    OpenHandle,
    StoreConformance,
)

PREFIX = "fleet/one"
TOKENS = itertools.count()


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
    "gate": around_memory(lambda inner: GateStore(inner, most=2, memory=1 << 20)),
    "circuit": around_memory(lambda inner: CircuitStore(inner, clock=SystemClock(), failures=1)),
    "conditions that are kept": around_memory(lambda inner: conditions(inner, True)),
    "conditions that were tried": around_memory(lambda inner: conditions(inner, None)),
}


def conditions(inner: BlobStore, known: bool | None) -> BlobStore:
    return ConditionStore(
        inner,
        recall=lambda: known,
        remember=lambda kept: None,
        token=lambda: f"{next(TOKENS):x}",
    )


class TestConformance(ConditionalConformance, FreshEtags):
    @pytest.fixture(params=list(STORES))
    def open_handle(self, request: pytest.FixtureRequest, tmp_path: Path) -> OpenHandle:
        return STORES[request.param](tmp_path)


class TestPrefixConformance(ConditionalConformance, FreshEtags):
    many = 60
    longest = MAX_KEY - len(PREFIX) - 1

    @pytest.fixture(params=["memory", "local"])
    def open_handle(self, request: pytest.FixtureRequest, tmp_path: Path) -> OpenHandle:
        open_inner = STORES[request.param](tmp_path)
        neighbour = open_inner()
        for key in ("fleet", "fleet-a/x", "fleet/other", "fleet/one-b/x"):
            if request.param == "memory" or key != "fleet":  # a directory stands there
                neighbour.put(StoreKey(key), b"a neighbour")
        return lambda: PrefixStore(open_inner(), PREFIX)


class Unconditional(ForwardingStore):
    """A server that writes whatever the condition says."""

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        return super().put(key, data)


class TestUnconditionalConformance(StoreConformance):
    @pytest.fixture
    def open_handle(self) -> OpenHandle:
        inner = Unconditional(MemoryStore())
        return lambda: conditions(inner, None)

    def test_it_says_that_it_keeps_no_conditions(self, store):
        assert not store.capabilities.conditional_writes


PAGE = 7
"""Objects that one answer of a listing names, so that a few keys are many pages."""


def credentials(server: WeedServer) -> Credentials:
    keys = S3Keys(server.access, server.secret)
    return Credentials(s3_keys=lambda: keys, filer_key=lambda: server.filer_key)


class TestS3Conformance(ConditionalConformance):
    many = 60
    # SeaweedFS lets a writer that loses wait for a second or two.
    racers = 3
    writers = 2

    @pytest.fixture
    def open_handle(self, weed_server: WeedServer) -> OpenHandle:
        place = S3Place(weed_server.s3_endpoint, BUCKET, prefix=unique("conformance"))
        keys = credentials(weed_server).s3_keys
        return lambda: S3Store(place, keys, page=PAGE)


class TestSeaweedConformance(StoreConformance):
    many = 60

    @pytest.fixture
    def open_handle(self, weed_server: WeedServer) -> OpenHandle:
        url = weed_server.filer_endpoint.replace("http", "seaweedfs")
        place = parse_endpoint(f"{url}/{unique('conformance')}")
        key = credentials(weed_server).filer_key

        def client() -> HttpClient:
            return HttpClient(place.server, timeout=30)

        SeaweedStore.create(place, client(), key).close()
        return lambda: conditions(SeaweedStore(place, client(), key, page=PAGE), False)
