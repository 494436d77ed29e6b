"""What is counted."""

import pytest

from tcfs.model.ids import StoreKey
from tcfs.store.base import ObjectMissing
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.count import Count, CountStore

KEY = StoreKey("a/one")


def test_requests_bytes_and_items_are_counted_by_verb():
    store = CountStore(MemoryStore())
    store.put(KEY, memoryview(b"0123"))
    store.put(StoreKey("b/two"), b"01")
    store.get(KEY)
    store.get_range(KEY, 1, 2)
    store.head(KEY)
    list(store.list(""))
    store.list_dirs("")
    store.delete(KEY)
    assert store.counts() == {
        "put": Count(requests=2, bytes=6),
        "get": Count(requests=1, bytes=4),
        "get_range": Count(requests=1, bytes=2),
        "head": Count(requests=1),
        "list": Count(requests=1, items=2),
        "list_dirs": Count(requests=1, items=2),
        "delete": Count(requests=1),
    }
    store.reset()
    assert store.counts() == {}
    assert store.count("get") == Count()


def test_a_request_that_failed_was_a_request():
    store = CountStore(MemoryStore())
    with pytest.raises(ObjectMissing):
        store.get(KEY)
    assert store.count("get") == Count(requests=1)
