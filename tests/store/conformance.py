"""What every store must do, whatever is behind it.

A test module joins a store by a subclass of ``StoreConformance`` and a fixture ``open_handle``:
a function that opens the same, at first empty, store each time it is called, as separate programs
would.
"""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tcfs.errors import StoreError, UsageError
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    IF_ABSENT,
    MAX_KEY,
    BlobStore,
    Condition,
    ETag,
    ObjectMissing,
    PreconditionFailed,
)

OpenHandle = Callable[[], BlobStore]
KEY = StoreKey("ledger/default/one")
RACERS = 20

BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/./b",
    "../a",
    ".hidden",
    "a/.hidden",
    "A",
    "a b",
    "a\n",
    "a\0b",
    "ä",
    "a\\b",
    "a" * (MAX_KEY + 1),
]


def keys_of(store: BlobStore, prefix: str, after: str = "") -> list[str]:
    """What a listing names, sorted; nothing may come twice."""
    found = [info.key for info in store.list(prefix, after)]
    assert len(found) == len(set(found))
    return sorted(found)


def race(count: int, run: Callable[[int], object]) -> list[object]:
    """Results of ``run(0..count-1)``, begun at the same time in one thread each."""
    start = threading.Barrier(count)

    def begin(number: int) -> object:
        start.wait()
        return run(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


class StoreConformance:
    many = 1200
    """Keys that a listing of many has; more than a page."""
    longest = MAX_KEY
    """Characters of the longest key."""

    @pytest.fixture
    def store(self, open_handle: OpenHandle):
        store = open_handle()
        yield store
        store.close()

    def test_it_is_a_blob_store_and_names_its_endpoint_without_credentials(self, store):
        assert isinstance(store, BlobStore)
        assert "://" in store.endpoint
        assert "@" not in store.endpoint

    @pytest.mark.parametrize("size", [0, 1, 4096, 65537])
    def test_what_was_put_is_read_back_listed_and_looked_up(self, store, size):
        data = bytes(i * 7 % 256 for i in range(size))
        etag = store.put(KEY, data)
        assert store.get(KEY) == data
        info = store.head(KEY)
        assert (info.key, info.size, info.etag) == (KEY, size, etag)
        assert list(store.list("ledger/default/")) == [info]

    def test_a_64_mib_object_comes_back_whole_and_in_ranges(self, store):
        block = hashlib.sha256(b"block").digest() * 2048
        data = block * 1024
        store.put(KEY, data)
        assert store.head(KEY).size == len(data) == 64 << 20
        assert store.get(KEY) == data
        assert store.get_range(KEY, len(data) - 10, 10) == data[-10:]
        assert store.get_range(KEY, 12_345_678, 70_000) == data[12_345_678:12_415_678]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_bytes_of_any_kind_are_taken_and_kept_when_the_buffer_changes(self, store, kind):
        buffer = bytearray(b"before")
        store.put(KEY, kind(buffer))
        buffer[:] = b"after!"
        assert store.get(KEY) == b"before"

    def test_another_handle_sees_a_write_a_replacement_and_a_delete_at_once(
        self, store, open_handle
    ):
        other = open_handle()
        store.put(KEY, b"1")
        assert other.get(KEY) == b"1"
        assert keys_of(other, "") == [KEY]
        other.put(KEY, b"22")
        assert store.get(KEY) == b"22"
        assert store.head(KEY) == other.head(KEY)
        store.delete(KEY)
        assert other.head(KEY) is None
        assert keys_of(other, "") == []
        other.close()

    def test_a_replacement_with_other_bytes_has_another_etag(self, store):
        etags = [store.put(KEY, b"same size %d" % number) for number in range(5)]
        assert store.head(KEY).etag == etags[-1]
        assert len(set(etags)) == 5

    def test_an_absent_key_is_missing_and_not_an_error_of_the_store(self, store):
        store.put(StoreKey("ledger/default/one-more"), b"x")
        with pytest.raises(ObjectMissing) as caught:
            store.get(KEY)
        assert not caught.value.retryable
        with pytest.raises(ObjectMissing):
            store.get_range(KEY, 0, 0)
        assert store.head(KEY) is None

    def test_a_key_that_is_only_a_prefix_of_others_is_absent(self, store):
        store.put(StoreKey("packs/aa/x"), b"x")
        assert store.head(StoreKey("packs/aa")) is None
        store.delete(StoreKey("packs/aa"))
        with pytest.raises(ObjectMissing):
            store.get(StoreKey("packs/aa"))
        with pytest.raises(ObjectMissing):
            store.get(StoreKey("packs/aa/x/y"))
        assert store.head(StoreKey("packs/aa/x/y")) is None
        assert store.get(StoreKey("packs/aa/x")) == b"x"

    def test_ranges_inside_an_object_are_exact(self, store):
        store.put(KEY, b"0123456789")
        assert store.get_range(KEY, 0, 10) == b"0123456789"
        assert store.get_range(KEY, 3, 4) == b"3456"
        assert store.get_range(KEY, 9, 1) == b"9"
        assert store.get_range(KEY, 4, 0) == b""

    @pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (11, 0), (500, 1)])
    def test_a_range_past_the_end_is_an_error_and_never_shorter(self, store, offset, length):
        store.put(KEY, b"0123456789")
        with pytest.raises(StoreError) as caught:
            store.get_range(KEY, offset, length)
        assert not isinstance(caught.value, ObjectMissing)

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
    def test_a_range_that_cannot_be_is_refused(self, store, offset, length):
        store.put(KEY, b"0123456789")
        with pytest.raises(UsageError):
            store.get_range(KEY, offset, length)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_keys_outside_the_alphabet_are_refused_by_every_verb(self, store, key):
        for call in (
            lambda: store.get(key),
            lambda: store.get_range(key, 0, 0),
            lambda: store.put(key, b""),
            lambda: store.head(key),
            lambda: store.delete(key),
        ):
            with pytest.raises(UsageError):
                call()
        assert keys_of(store, "") == []

    def test_the_longest_key_is_taken(self, store):
        key = StoreKey("/".join(["k" * 127] * 4)[: self.longest])
        store.put(key, b"x")
        assert keys_of(store, "") == [key]

    @pytest.mark.parametrize("prefix", ["a", "/", "a//", "../", "A/", "a/b"])
    def test_a_prefix_is_empty_or_ends_at_a_slash(self, store, prefix):
        with pytest.raises(UsageError):
            list(store.list(prefix))
        with pytest.raises(UsageError):
            store.list_dirs(prefix)

    def test_a_listing_names_every_one_of_many_keys(self, store):
        keys = [f"packs/{i % 7:02x}/{i:04x}" for i in range(self.many)]
        for key in keys:
            store.put(StoreKey(key), b"x")
        assert keys_of(store, "") == sorted(keys)
        assert keys_of(store, "packs/") == sorted(keys)
        assert keys_of(store, "packs/03/") == sorted(k for k in keys if k.startswith("packs/03/"))
        assert sorted(store.list_dirs("packs/")) == [f"{i:02x}" for i in range(7)]

    def test_a_prefix_takes_only_what_is_below_it(self, store):
        for key in ("a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0/b", "ab"):
            if key not in ("a/b",):  # a file system cannot hold both a/b and a/b/c
                store.put(StoreKey(key), b"")
        assert keys_of(store, "a/") == ["a/b-c", "a/b/c"]
        assert keys_of(store, "a/b/") == ["a/b/c"]
        assert keys_of(store, "") == ["a-b", "a.b", "a/b-c", "a/b/c", "a0/b", "ab"]
        assert store.list_dirs("a/") == ["b"]
        assert sorted(store.list_dirs("")) == ["a", "a0"]

    def test_after_leaves_out_exactly_the_keys_at_or_below_it(self, store):
        keys = ["a-b", "a.b", "a/b", "a/c/d", "a/c/e", "a0", "b/a", "b/b"]
        for key in keys:
            store.put(StoreKey(key), b"")
        for after in [*keys, "a", "a/", "a/c", "a/c/", "a/b0", "a/c/dd", "0", "zz", "b/"]:
            assert keys_of(store, "", after) == [k for k in keys if k > after], after
            below = [k for k in keys if k.startswith("a/") and k > after]
            assert keys_of(store, "a/", after) == below, after

    def test_what_is_below_an_absent_prefix_is_nothing(self, store):
        assert keys_of(store, "") == []
        assert keys_of(store, "packs/aa/") == []
        assert store.list_dirs("") == []
        store.put(KEY, b"x")
        assert keys_of(store, "packs/") == []
        assert keys_of(store, f"{KEY}/") == []
        assert store.list_dirs("packs/") == []

    def test_a_directory_whose_keys_were_all_deleted_is_not_named(self, store):
        store.put(StoreKey("ledger/default/one"), b"x")
        store.put(StoreKey("ledger/other/deep/one"), b"x")
        store.delete(StoreKey("ledger/other/deep/one"))
        assert store.list_dirs("ledger/") == ["default"]
        assert keys_of(store, "ledger/other/") == []

    def test_deleting_what_is_absent_is_fine_and_can_be_repeated(self, store):
        store.delete(KEY)
        store.put(KEY, b"x")
        store.delete(KEY)
        store.delete(KEY)
        assert store.head(KEY) is None
        store.put(KEY, b"again", IF_ABSENT)
        assert store.get(KEY) == b"again"

    def test_if_absent_refuses_an_existing_object_and_leaves_it(self, store):
        store.put(KEY, b"first", IF_ABSENT)
        with pytest.raises(PreconditionFailed) as caught:
            store.put(KEY, b"second", IF_ABSENT)
        assert not caught.value.retryable
        assert store.get(KEY) == b"first"

    def test_if_match_replaces_only_the_version_it_names(self, store):
        first = store.put(KEY, b"1")
        second = store.put(KEY, b"2", Condition(if_match=first))
        with pytest.raises(PreconditionFailed):
            store.put(KEY, b"3", Condition(if_match=first))
        assert store.get(KEY) == b"2"
        assert store.head(KEY).etag == second
        store.delete(KEY)
        with pytest.raises(PreconditionFailed):
            store.put(KEY, b"3", Condition(if_match=second))
        store.put(KEY, b"2")
        with pytest.raises(PreconditionFailed):
            store.put(KEY, b"3", Condition(if_match=ETag("no-such-etag")))
        assert store.get(KEY) == b"2"

    def test_readers_see_the_old_or_the_new_object_and_never_a_mixture(self, open_handle):
        writer = open_handle()
        versions = [bytes([65 + i]) * 200_000 for i in range(8)]
        writer.put(KEY, versions[0])
        done = threading.Event()

        def read(_: int) -> object:
            handle = open_handle()
            seen = set()
            while not done.is_set():
                seen.add(handle.get(KEY))
            handle.close()
            return seen

        def run(number: int) -> object:
            if number:
                return read(number)
            try:
                for data in versions * 3:
                    writer.put(KEY, data, ALWAYS)
            finally:
                done.set()
            return set()

        for seen in race(4, run):
            assert isinstance(seen, set)
            assert seen <= set(versions)
        writer.close()

    def test_many_threads_may_use_one_handle(self, store):
        def run(number: int) -> object:
            for step in range(10):
                key = StoreKey(f"packs/{number:02x}/{step:02x}")
                store.put(key, b"%d" % number)
                assert store.get(key) == b"%d" % number
            return None

        race(8, run)
        assert len(keys_of(store, "packs/")) == 80


class ConditionalConformance(StoreConformance):
    """Of a store that keeps conditions whoever races."""

    racers = RACERS
    writers = 6

    def test_it_says_that_it_keeps_conditions(self, store):
        assert store.capabilities.conditional_writes
        assert keys_of(store, "") == []

    def test_one_of_many_racers_wins_an_absent_key(self, open_handle):
        handles = [open_handle() for _ in range(self.racers)]

        def run(number: int) -> object:
            try:
                handles[number].put(KEY, b"racer %d" % number, IF_ABSENT)
            except PreconditionFailed:
                return None
            return number

        winners = [number for number in race(self.racers, run) if isinstance(number, int)]
        assert len(winners) == 1
        assert handles[0].get(KEY) == b"racer %d" % winners[0]
        for handle in handles:
            handle.close()

    def test_one_of_many_racers_replaces_a_version(self, open_handle):
        handles = [open_handle() for _ in range(self.racers)]
        condition = Condition(if_match=handles[0].put(KEY, b"old"))

        def run(number: int) -> object:
            try:
                handles[number].put(KEY, b"racer %d" % number, condition)
            except PreconditionFailed:
                return None
            return number

        winners = [number for number in race(self.racers, run) if isinstance(number, int)]
        assert len(winners) == 1
        assert handles[0].get(KEY) == b"racer %d" % winners[0]
        for handle in handles:
            handle.close()

    def test_no_update_is_lost_between_writers_that_compare_and_swap(self, open_handle):
        store = open_handle()
        store.put(KEY, b"")

        def run(number: int) -> object:
            handle = open_handle()
            for step in range(5):
                token = b"<%d.%d>" % (number, step)
                while True:
                    info = handle.head(KEY)
                    before = handle.get(KEY)
                    # It may be there already: a lost answer is no lost update.
                    if token in before:
                        break
                    try:
                        handle.put(KEY, before + token, Condition(if_match=info.etag))
                    except PreconditionFailed:
                        continue
                    break
            handle.close()
            return None

        race(self.writers, run)
        text = store.get(KEY)
        for number in range(self.writers):
            for step in range(5):
                assert text.count(b"<%d.%d>" % (number, step)) == 1
        store.close()


class FreshEtags:
    """Of a store whose etags name a version, and not just its bytes."""

    def test_a_replacement_has_another_etag_even_with_equal_bytes_size_and_speed(self, store):
        etags = [store.put(KEY, b"same") for _ in range(5)]
        assert store.head(KEY).etag == etags[-1]
        assert etags[-1] not in etags[:-1]
