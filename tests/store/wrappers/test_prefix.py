"""Repositories beside each other in one store."""

import pytest

from tcfs.errors import UsageError
from tcfs.model.ids import StoreKey
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.prefix import PrefixStore

KEY = StoreKey("a/one")


def test_two_prefixes_share_nothing():
    inner = MemoryStore()
    one, two = PrefixStore(inner, "one"), PrefixStore(inner, "two")
    one.put(KEY, b"1")
    assert two.head(KEY) is None
    two.put(KEY, b"2")
    assert one.get(KEY) == b"1"
    assert [info.key for info in one.list("")] == [KEY]
    assert sorted(info.key for info in inner.list("")) == ["one/a/one", "two/a/one"]
    one.delete(KEY)
    assert two.get(KEY) == b"2"


def test_the_endpoint_names_the_prefix():
    assert PrefixStore(MemoryStore("m"), "a/b").endpoint == "memory://m?prefix=a/b"


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "A", "../a", "a//b"])
def test_a_prefix_that_could_be_no_key_is_refused(prefix):
    with pytest.raises(UsageError):
        PrefixStore(MemoryStore(), prefix)
