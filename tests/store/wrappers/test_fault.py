"""The store that fails where a test says."""

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import FaultPlan, Moment, SimulatedCrash, crash_at, fail_at
from tcfs.host.faulty import FaultyFileSystem
from tcfs.host.posix import PosixFileSystem
from tcfs.model.ids import StoreKey
from tcfs.store.base import BlobStore
from tcfs.store.memory import MemoryStore
from tcfs.store.wrappers.fault import FaultStore, flip_bit

KEY = StoreKey("a/one")


def work(store: BlobStore) -> None:
    store.put(KEY, b"0123")
    store.get(KEY)
    store.get_range(KEY, 1, 2)
    store.head(KEY)
    list(store.list(""))
    store.list_dirs("")
    store.delete(KEY)


def test_every_operation_is_numbered_with_its_key():
    plan = FaultPlan()
    work(FaultStore(MemoryStore(), plan))
    assert [(step.number, step.name, step.target) for step in plan.operations] == [
        (1, "put", KEY),
        (2, "get", KEY),
        (3, "get_range", KEY),
        (4, "head", KEY),
        (5, "list", ""),
        (6, "list_dirs", ""),
        (7, "delete", KEY),
    ]


@pytest.mark.parametrize("number", range(1, 8))
def test_an_error_is_raised_where_it_was_asked_for_and_only_there(number):
    for moment in ("before", "after"):
        plan = fail_at(number, moment, lambda: StoreError("no answer"))
        store = FaultStore(MemoryStore(), plan)
        with pytest.raises(StoreError, match="no answer"):
            work(store)
        assert plan.count == number
        work(store)


def test_a_put_is_done_after_and_not_before():
    moments: list[tuple[Moment, bool]] = [("before", False), ("after", True)]
    for moment, found in moments:
        inner = MemoryStore()
        with pytest.raises(SimulatedCrash):
            FaultStore(inner, crash_at(1, moment)).put(KEY, b"x")
        assert (inner.head(KEY) is not None) == found


def test_after_a_crash_the_store_does_nothing_any_more():
    inner = MemoryStore()
    inner.put(KEY, b"x")
    store = FaultStore(inner, crash_at(1, "before"))
    for _ in range(2):
        with pytest.raises(SimulatedCrash):
            store.delete(KEY)
    assert inner.get(KEY) == b"x"


def test_a_plan_numbers_a_store_and_a_file_system_in_one_sequence(tmp_path):
    plan = crash_at(3, "before")
    store = FaultStore(MemoryStore(), plan)
    files = FaultyFileSystem(PosixFileSystem(), plan)
    store.put(KEY, b"x")
    files.mkdir(bytes(tmp_path / "dir"))
    with pytest.raises(SimulatedCrash):
        store.get(KEY)
    with pytest.raises(SimulatedCrash):
        files.rmdir(bytes(tmp_path / "dir"))


def test_bytes_are_damaged_on_the_way_and_not_in_the_store():
    inner = MemoryStore()
    inner.put(KEY, b"0123")
    flipping = FaultStore(inner, FaultPlan(), lambda operation, data: flip_bit(data, 8))
    assert flipping.get(KEY) == b"0023"
    assert flipping.get_range(KEY, 1, 2) == b"13"
    truncating = FaultStore(inner, FaultPlan(), lambda operation, data: data[:-1])
    assert truncating.get(KEY) == b"012"
    assert inner.get(KEY) == b"0123"


def test_a_flipped_bit_changes_one_bit_of_anything_but_nothing():
    assert flip_bit(b"\x00\x00", 9) == b"\x00\x02"
    assert flip_bit(b"\x00\x00", 16) == b"\x01\x00"
    assert flip_bit(b"", 3) == b""
