"""What the cache keeps, and when it lets go."""

import pytest

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.cache import CacheStore
from tcfs.store.wrappers.count import CountStore

PACK = StoreKey("packs/aa/one")
VIEW = StoreKey("tcfs-meta/devices.json")


@pytest.fixture
def counted():
    return CountStore(MemoryStore())


@pytest.fixture
def store(counted):
    return CacheStore(counted, ("packs/", "ledger/"), 100)


def test_what_was_read_once_is_not_fetched_again(store, counted):
    store.put(PACK, b"0123456789")
    assert [store.get(PACK) for _ in range(3)] == [b"0123456789"] * 3
    assert store.get_range(PACK, 2, 3) == b"234"
    assert counted.count("get").requests == 1
    assert counted.count("get_range").requests == 0
    with pytest.raises(StoreError):
        store.get_range(PACK, 8, 3)


def test_what_may_change_is_always_fetched(store, counted):
    store.put(VIEW, b"x")
    store.get(VIEW)
    store.get(VIEW)
    assert counted.count("get").requests == 2


def test_a_range_alone_is_not_kept(store, counted):
    store.put(PACK, b"0123456789")
    store.get_range(PACK, 2, 3)
    store.get_range(PACK, 2, 3)
    assert counted.count("get_range").requests == 2


def test_it_stays_within_its_limit_and_the_least_used_leaves_first(store, counted):
    keys = [StoreKey(f"packs/aa/{number}") for number in range(4)]
    for key in keys:
        store.put(key, bytes(30))
    for key in keys[:3]:
        store.get(key)
    store.get(keys[0])
    store.get(keys[3])  # the fourth 30 of 100: the second leaves
    counted.reset()
    for key in (keys[0], keys[2], keys[3]):
        store.get(key)
    assert counted.count("get").requests == 0
    store.get(keys[1])
    assert counted.count("get").requests == 1
    big = StoreKey("packs/aa/big")
    store.put(big, bytes(101))
    store.get(big)
    store.get(big)
    assert counted.count("get").requests == 3


def test_what_turns_out_to_be_damaged_is_forgotten_and_fetched_again(store, counted):
    store.put(PACK, b"damaged")
    store.get(PACK)
    counted.inner.put(PACK, b"whole")
    assert store.get(PACK) == b"damaged"
    store.forget(PACK)
    store.forget(PACK)
    assert store.get(PACK) == b"whole"


def test_a_write_and_a_delete_through_the_cache_are_seen(store):
    store.put(PACK, b"1")
    store.get(PACK)
    store.put(PACK, b"2")
    assert store.get(PACK) == b"2"
    store.delete(PACK)
    with pytest.raises(StoreError):
        store.get(PACK)


def test_closing_empties_it(store, counted):
    store.put(PACK, b"1")
    store.get(PACK)
    store.close()
    store.get(PACK)
    assert counted.count("get").requests == 2
