"""Which failures are tried again, when, and what a doubtful put reports."""

from collections.abc import Callable

import pytest

from tcfs.errors import CancelledError, StoreError
from tcfs.host.faults import FaultPlan, Moment, SimulatedCrash, crash_at
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    IF_ABSENT,
    Condition,
    ObjectInfo,
    ObjectMissing,
    PreconditionFailed,
    StoreRefused,
)
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.fault import FaultStore
from tcfs.store.wrappers.retry import RetryPolicy, RetryStore

KEY = StoreKey("a/one")


class World:
    """A store whose first operations fail, and the waits between the tries."""

    def __init__(self, failures: int, moment: Moment = "before", *, error=StoreError) -> None:
        self.inner = MemoryStore()
        self.waits: list[float] = []
        self.while_waiting: Callable[[], object] = lambda: None

        def hook(operation, reached):
            if operation.number <= failures and reached == moment:
                raise error("it failed")

        self.plan = FaultPlan(hook)
        self.store = RetryStore(
            FaultStore(self.inner, self.plan),
            wait=self.wait,
            jitter=lambda: 0.5,
            policy=RetryPolicy(tries=4, base=1.0, cap=3.0),
        )

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.while_waiting()


def test_a_passing_failure_is_tried_again_after_growing_random_waits():
    world = World(3)
    world.inner.put(KEY, b"x")
    assert world.store.get(KEY) == b"x"
    assert world.waits == [0.5, 1.0, 1.5]  # half of 1, 2, and 4 capped at 3


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get(KEY),
        lambda store: store.get_range(KEY, 0, 1),
        lambda store: store.put(KEY, b"y"),
        lambda store: store.head(KEY),
        lambda store: list(store.list("")),
        lambda store: store.list_dirs(""),
        lambda store: store.delete(KEY),
    ],
)
def test_every_verb_gives_up_after_the_last_try_with_the_stores_error(call):
    world = World(99)
    world.inner.put(KEY, b"x")
    with pytest.raises(StoreError, match="it failed"):
        call(world.store)
    assert world.plan.count == 4
    assert len(world.waits) == 3
    world = World(3)
    world.inner.put(KEY, b"x")
    call(world.store)


def test_what_a_retry_cannot_help_is_raised_at_once():
    for error in (StoreRefused, PreconditionFailed, CancelledError, ValueError):
        world = World(99, error=error)
        with pytest.raises(error):
            world.store.put(KEY, b"x")
        assert world.plan.count == 1
    world = World(0)
    with pytest.raises(ObjectMissing):
        world.store.get(KEY)
    assert world.waits == []


def test_a_cancelled_wait_ends_the_call():
    world = World(99)

    def cancel():
        raise CancelledError("stop")

    world.while_waiting = cancel
    with pytest.raises(CancelledError):
        world.store.get(KEY)


def test_a_crash_is_not_tried_again():
    store = RetryStore(
        FaultStore(MemoryStore(), crash_at(1, "after")),
        wait=lambda seconds: None,
        jitter=lambda: 0.0,
    )
    with pytest.raises(SimulatedCrash):
        store.put(KEY, b"x")


def test_a_put_if_absent_whose_answer_was_lost_is_a_success():
    world = World(1, "after")
    etag = world.store.put(KEY, bytearray(b"ours"), IF_ABSENT)
    assert world.inner.head(KEY) == ObjectInfo(KEY, 4, etag)
    assert world.inner.get(KEY) == b"ours"


def test_a_put_if_match_whose_answer_was_lost_is_a_success():
    world = World(1, "after")
    before = world.inner.put(KEY, b"old")
    etag = world.store.put(KEY, b"ours", Condition(if_match=before))
    assert world.inner.head(KEY) == ObjectInfo(KEY, 4, etag)


@pytest.mark.parametrize("theirs", [b"theirs", b"their longer one", b""])
def test_a_put_that_failed_and_then_lost_to_somebody_else_is_reported_as_lost(theirs):
    world = World(1, "before")
    world.while_waiting = lambda: world.inner.put(KEY, theirs)
    with pytest.raises(PreconditionFailed):
        world.store.put(KEY, b"ours!!", IF_ABSENT)
    assert world.inner.get(KEY) == theirs


def test_a_put_that_lost_at_the_first_try_is_lost_even_against_equal_bytes():
    world = World(0)
    world.inner.put(KEY, b"same")
    with pytest.raises(PreconditionFailed):
        world.store.put(KEY, b"same", IF_ABSENT)


def test_an_object_that_vanishes_while_a_doubtful_put_is_checked_is_a_loss():
    world = World(1, "before")
    world.while_waiting = lambda: world.inner.put(KEY, b"ours")
    real_head = world.inner.head

    def head_then_delete(key):
        info = real_head(key)
        world.inner.delete(key)
        return info

    world.inner.head = head_then_delete  # type: ignore[method-assign]
    with pytest.raises(PreconditionFailed):
        world.store.put(KEY, b"ours", IF_ABSENT)


def test_an_unconditional_put_is_repeated():
    world = World(2, "after")
    world.store.put(KEY, b"ours", ALWAYS)
    assert [step.name for step in world.plan.operations] == ["put"] * 3


def test_a_listing_that_breaks_begins_again_and_names_nothing_twice():
    inner = MemoryStore()
    for number in range(10):
        inner.put(StoreKey(f"a/{number}"), b"")

    class Breaking(FaultStore):
        """Breaks in the middle, each time a little later."""

        def list(self, prefix, after=""):
            operation = self.plan.begin("list", prefix)
            for number, info in enumerate(self.inner.list(prefix, after)):
                if number == operation.number * 3:
                    raise StoreError("connection reset")
                yield info

    plan = FaultPlan()
    store = RetryStore(Breaking(inner, plan), wait=lambda seconds: None, jitter=lambda: 0.0)
    found = [info.key for info in store.list("a/")]
    assert sorted(found) == [f"a/{number}" for number in range(10)]
    assert plan.count == 4
