"""Rates, with a clock that only waiting moves, and requests at once."""

import threading

import pytest

from tcfs.model.ids import StoreKey
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.store.wrappers.limit import LimitStore, TokenBucket
from tests.store.conformance import race

KEY = StoreKey("a/one")


class Clock:
    """Time that passes by waiting alone."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_passes_at_once_and_the_rest_at_the_rate(clock):
    bucket = TokenBucket(100, clock=clock, wait=clock.sleep, burst=50)
    bucket.take(50)
    assert clock.time == 100
    bucket.take(100)
    assert clock.time == 101
    bucket.take(1000)
    assert clock.time == 111


def test_a_pause_saves_up_no_more_than_the_burst(clock):
    bucket = TokenBucket(100, clock=clock, wait=clock.sleep)
    bucket.take(100)
    clock.time += 3600
    bucket.take(100)
    assert clock.time == 3700
    bucket.take(100)
    assert clock.time == 3701


def test_those_who_come_later_wait_behind_the_debt(clock):
    waits: list[float] = []
    bucket = TokenBucket(100, clock=clock, wait=waits.append, burst=0)
    bucket.take(100)
    bucket.take(100)
    assert waits == [1.0, 2.0]


def test_a_rate_of_nothing_is_refused(clock):
    with pytest.raises(ValueError, match="rate"):
        TokenBucket(0, clock=clock, wait=clock.sleep)


def test_uploads_and_downloads_have_rates_of_their_own(clock):
    def bucket(rate):
        return TokenBucket(rate, clock=clock, wait=clock.sleep, burst=0)

    store = LimitStore(MemoryStore(), upload=bucket(10), download=bucket(100))
    store.put(KEY, memoryview(bytes(100)))
    assert clock.time == 110
    store.get(KEY)
    assert clock.time == 111
    store.get_range(KEY, 10, 50)
    assert clock.time == 111.5
    store.head(KEY)
    store.delete(KEY)
    assert clock.time == 111.5


class Meeting(ForwardingStore):
    """Counts who is inside, and waits for one more, in vain if the limit holds."""

    def __init__(self, inner, company):
        super().__init__(inner)
        self.lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.enough = threading.Event()
        self.company = company

    def head(self, key):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside >= self.company:
                self.enough.set()
        assert self.enough.wait(30)
        with self.lock:
            self.inside -= 1
        return self.inner.head(key)


def test_no_more_requests_than_allowed_are_under_way_at_once():
    meeting = Meeting(MemoryStore(), company=3)
    store = LimitStore(meeting, in_flight=3)
    race(12, lambda number: store.head(KEY))
    assert meeting.most == 3


def test_a_listing_is_a_request_while_it_is_asked_for_more():
    slots: list[threading.Semaphore] = []
    free = []

    class Listing(ForwardingStore):
        def list(self, prefix, after=""):
            free.append(slots[0].acquire(blocking=False))
            yield from self.inner.list(prefix, after)

    store = LimitStore(Listing(MemoryStore()), in_flight=1)
    assert isinstance(store._slot, threading.Semaphore)
    slots.append(store._slot)
    assert list(store.list("")) == []
    assert free == [False]


def test_a_listing_that_is_looked_at_holds_up_nobody():
    store = LimitStore(MemoryStore(), in_flight=1)
    store.put(KEY, b"x")
    for info in store.list(""):
        assert store.get(info.key) == b"x"
