"""What is found out about conditional writes, and what is made of a store without."""

import threading

import pytest

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    IF_ABSENT,
    Condition,
    ETag,
    PreconditionFailed,
    StoreRefused,
    check_condition,
)
from tcfs.store.failures import RightsMissing
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.conditions import RACERS, ConditionStore, keeps_conditions
from tcfs.store.wrappers.forward import ForwardingStore

KEY = StoreKey("a/one")


class Ignoring(ForwardingStore):
    """Writes whatever the condition says."""

    def put(self, key, data, condition=ALWAYS):
        return super().put(key, data)


class OnlyIfAbsent(ForwardingStore):
    """Knows one of the two conditions."""

    def put(self, key, data, condition=ALWAYS):
        return super().put(key, data, IF_ABSENT if condition.if_absent else ALWAYS)


class LookThenWrite(ForwardingStore):
    """Checks the condition, and writes later: every racer has looked before one writes."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.looked = threading.Barrier(RACERS)

    def put(self, key, data, condition=ALWAYS):
        current = self.inner.head(key)
        check_condition(condition, None if current is None else current.etag, key)
        self.looked.wait(10)
        return super().put(key, data)


class Refusing(ForwardingStore):
    """Does not know the header."""

    def put(self, key, data, condition=ALWAYS):
        if condition != ALWAYS:
            raise StoreRefused("what is that?", details={"status": 501})
        return super().put(key, data)


def test_a_store_that_keeps_conditions_is_found_to():
    inner = MemoryStore()
    assert keeps_conditions(inner, "abc")
    assert list(inner.list("")) == []


@pytest.mark.parametrize("kind", [Ignoring, OnlyIfAbsent, LookThenWrite, Refusing])
def test_a_store_that_does_not_is_found_out(kind):
    inner = MemoryStore()
    assert not keeps_conditions(kind(inner), "abc")
    assert list(inner.list("")) == []


class Broken(ForwardingStore):
    """Fails every put with ``error``."""

    error: StoreError = StoreError("it broke")

    def put(self, key, data, condition=ALWAYS):
        raise self.error


@pytest.mark.parametrize("error", [StoreError("it broke"), RightsMissing("read only")])
def test_a_store_that_fails_says_nothing_and_nothing_is_remembered(error):
    inner = Broken(MemoryStore())
    inner.error = error
    remembered: list[bool] = []
    store = ConditionStore(
        inner, recall=lambda: None, remember=remembered.append, token=lambda: "abc"
    )
    with pytest.raises(type(error)):
        store.put(KEY, b"x", IF_ABSENT)
    assert remembered == []


def test_the_store_is_tried_at_the_first_condition_and_never_again():
    remembered: list[bool] = []
    tokens = iter(["abc"])
    store = ConditionStore(
        MemoryStore(), recall=lambda: None, remember=remembered.append, token=lambda: next(tokens)
    )
    store.put(KEY, b"x")
    assert remembered == []
    for _ in range(3):
        with pytest.raises(PreconditionFailed):
            store.put(KEY, b"x", IF_ABSENT)
    assert remembered == [True]
    assert store.capabilities.conditional_writes


def test_a_writer_that_is_overtaken_between_writing_and_looking_is_told():
    class Overtaken(Ignoring):
        def put(self, key, data, condition=ALWAYS):
            etag = super().put(key, data)
            self.inner.put(key, b"another")
            return etag

    store = ConditionStore(
        Overtaken(MemoryStore()),
        recall=lambda: False,
        remember=lambda kept: None,
        token=lambda: "abc",
    )
    with pytest.raises(PreconditionFailed, match="another"):
        store.put(KEY, b"ours", IF_ABSENT)
    with pytest.raises(PreconditionFailed):
        store.put(KEY, b"ours", Condition(if_match=ETag("old")))
