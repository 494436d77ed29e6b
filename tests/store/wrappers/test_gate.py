"""How many requests, and how many bytes, are under way at once."""

import threading

import pytest

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import ALWAYS
from tcfs.store.failures import StoreBusy, StoreUnreachable
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.store.wrappers.gate import GateStore
from tests.store.conformance import race

KEY = StoreKey("a/one")


class Held(ForwardingStore):
    """Puts that are counted, and last until they are let go."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.lock = threading.Lock()
        self.running = self.most = self.bytes = self.most_bytes = 0
        self.full = threading.Event()
        self.go = threading.Event()

    def put(self, key, data, condition=ALWAYS):
        with self.lock:
            self.running += 1
            self.bytes += len(data)
            self.most = max(self.most, self.running)
            self.most_bytes = max(self.most_bytes, self.bytes)
        self.full.set()
        self.go.wait(10)
        with self.lock:
            self.running -= 1
            self.bytes -= len(data)
        return super().put(key, data, condition)


class Failing(ForwardingStore):
    """Raises ``error`` if there is one."""

    error: StoreError | None = None

    def put(self, key, data, condition=ALWAYS):
        if self.error is not None:
            raise self.error
        return super().put(key, data, condition)


def run_held(gate: GateStore, held: Held, sizes: list[int]) -> None:
    def run(number: int) -> None:
        if number == len(sizes):
            held.full.wait(10)
            held.go.set()
        else:
            gate.put(StoreKey(f"a/{number}"), bytes(sizes[number]))

    race(len(sizes) + 1, run)


def test_no_more_requests_than_allowed_are_under_way():
    held = Held()
    run_held(GateStore(held, most=3, memory=1000), held, [1] * 12)
    assert 1 <= held.most <= 3


def test_no_more_bytes_than_allowed_are_in_flight():
    held = Held()
    run_held(GateStore(held, most=50, memory=100), held, [40] * 12)
    assert held.most_bytes <= 100


def test_an_object_larger_than_the_memory_goes_alone():
    held = Held()
    run_held(GateStore(held, most=50, memory=100), held, [500, 10, 500])
    assert held.most_bytes <= 500


def fail(gate: GateStore, inner: Failing, error: StoreError) -> None:
    inner.error = error
    with pytest.raises(StoreError):
        gate.put(KEY, b"x")
    inner.error = None


@pytest.mark.parametrize(
    "error", [StoreBusy("slow down"), StoreUnreachable("no answer", details={"timeout": True})]
)
def test_a_server_that_asks_for_less_is_asked_half_as_much_and_then_slowly_more(error):
    inner = Failing(MemoryStore())
    gate = GateStore(inner, most=8, memory=1000)
    assert gate.window == 8
    for window in (4, 2, 1, 1):
        fail(gate, inner, error)
        assert gate.window == window
    steps = 0
    while gate.window < 8:
        gate.put(KEY, b"x")
        steps += 1
    assert 8 < steps < 64  # a round of successes opens it by one


def test_another_failure_says_nothing_of_the_load():
    inner = Failing(MemoryStore())
    gate = GateStore(inner, most=8, memory=1000)
    fail(gate, inner, StoreError("it broke"))
    assert gate.window == 8
