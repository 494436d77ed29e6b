"""What only the store in memory does."""

from tcfs.model.ids import StoreKey
from tcfs.store.memory import MemoryStore


def test_a_listing_is_in_no_order_that_anybody_could_rely_on():
    store = MemoryStore()
    for key in ("a", "b", "ab", "ba", "c"):
        store.put(StoreKey(key), b"")
    found = [info.key for info in store.list("")]
    assert sorted(found) == ["a", "ab", "b", "ba", "c"]
    assert found != sorted(found)


def test_closing_keeps_the_objects():
    store = MemoryStore("kept")
    store.put(StoreKey("a"), b"1")
    store.close()
    assert store.get(StoreKey("a")) == b"1"
    assert store.endpoint == "memory://kept"
