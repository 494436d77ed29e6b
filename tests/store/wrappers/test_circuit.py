"""A store that is known to fail is not asked."""

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan
from tcfs.model.ids import StoreKey
from tcfs.store.base import ObjectMissing
from tcfs.store.failures import StoreUnreachable
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.circuit import CircuitStore
from tcfs.store.wrappers.fault import FaultStore
from tests.store.wrappers.test_limit import Clock

KEY = StoreKey("a/one")


class World:
    def __init__(self) -> None:
        self.failing = True
        self.asked = 0

        def hook(operation, moment):
            if moment == "before":
                self.asked += 1
                if self.failing:
                    raise StoreError("it broke")

        self.clock = Clock()
        inner = FaultStore(MemoryStore(), FaultPlan(hook))
        self.store = CircuitStore(inner, clock=self.clock, failures=3, pause=10)

    def fail(self, count: int) -> None:
        for _ in range(count):
            with pytest.raises(StoreError):
                self.store.put(KEY, b"x")


@pytest.fixture
def world():
    return World()


def test_after_some_failures_in_a_row_nothing_is_asked_and_the_reason_is_told(world):
    world.fail(3)
    assert world.asked == 3
    for call in (
        lambda: world.store.get(KEY),
        lambda: world.store.head(KEY),
        lambda: list(world.store.list("")),
        lambda: world.store.list_dirs(""),
        lambda: world.store.delete(KEY),
    ):
        with pytest.raises(StoreUnreachable, match=r"failed 3 times in a row.*it broke") as caught:
            call()
        assert caught.value.retryable
    assert world.asked == 3


def test_after_a_pause_one_request_is_let_through_and_its_success_opens_the_way(world):
    world.fail(3)
    world.clock.time += 10
    world.fail(1)
    assert world.asked == 4
    world.fail(1)
    assert world.asked == 4
    world.clock.time += 10
    world.failing = False
    world.store.put(KEY, b"x")
    assert world.store.get(KEY) == b"x"
    assert world.asked == 6


def test_a_success_in_between_begins_the_count_anew(world):
    for _ in range(5):
        world.fail(2)
        world.failing = False
        world.store.put(KEY, b"x")
        world.failing = True
    assert world.asked == 15


def test_a_refusal_is_an_answer_and_counts_as_none(world):
    world.failing = False
    for _ in range(5):
        with pytest.raises(ObjectMissing):
            world.store.get(KEY)
    assert world.asked == 5
