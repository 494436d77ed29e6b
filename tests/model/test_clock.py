"""Vector clocks are a partial order, and merging is its least upper bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.errors import IntegrityError
from tcfs.model.clock import MAX_COUNTER, Ordering, VectorClock, merge
from tests.model.values import DEVICES, clocks, json_values, version_ids

AT_MOST = (Ordering.BEFORE, Ordering.EQUAL)
OPPOSITE = {
    Ordering.BEFORE: Ordering.AFTER,
    Ordering.AFTER: Ordering.BEFORE,
    Ordering.EQUAL: Ordering.EQUAL,
    Ordering.CONCURRENT: Ordering.CONCURRENT,
}


@given(clocks, clocks)
def test_comparing_the_other_way_round_says_the_opposite(one, other):
    assert other.compare(one) is OPPOSITE[one.compare(other)]


@given(clocks, clocks)
def test_the_order_is_that_of_every_entry(one, other):
    devices = {*one.clocks, *other.clocks}
    lower = any(one.get(d) < other.get(d) for d in devices)
    higher = any(one.get(d) > other.get(d) for d in devices)
    expected = {
        (False, False): Ordering.EQUAL,
        (True, False): Ordering.BEFORE,
        (False, True): Ordering.AFTER,
        (True, True): Ordering.CONCURRENT,
    }
    assert one.compare(other) is expected[lower, higher]


@given(clocks, clocks, clocks)
def test_the_order_is_transitive(a, b, c):
    if a.compare(b) in AT_MOST and b.compare(c) in AT_MOST:
        assert a.compare(c) in AT_MOST


@given(clocks, clocks)
def test_clocks_are_equal_and_hash_alike_exactly_if_neither_is_after_the_other(one, other):
    assert (one == other) == (one.compare(other) is Ordering.EQUAL)
    if one == other:
        assert hash(one) == hash(other)
    assert one == VectorClock({**one.clocks, DEVICES[0]: one.get(DEVICES[0])})


@given(clocks, clocks, clocks)
def test_merging_commutes_associates_and_repeats(a, b, c):
    assert merge([a, b]) == merge([b, a])
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])]) == merge([a, b, c])
    assert merge([a, a]) == merge([a]) == a


@given(st.lists(clocks, max_size=4), clocks)
def test_a_merge_is_the_least_clock_that_covers_all(some, bound):
    merged = merge(some)
    assert all(clock.compare(merged) in AT_MOST for clock in some)
    if all(clock.compare(bound) in AT_MOST for clock in some):
        assert merged.compare(bound) in AT_MOST


@given(clocks, version_ids)
def test_adding_a_version_never_takes_anything_back(clock, version):
    added = clock.with_version(version)
    assert clock.compare(added) in AT_MOST
    assert added.get(version.device) == max(version.counter, clock.get(version.device))
    assert all(added.get(d) == n for d, n in clock.clocks.items() if d != version.device)


@given(clocks)
def test_a_clock_reads_back_as_it_was_written(clock):
    assert dict(VectorClock.from_json(clock.to_json()).clocks) == dict(clock.clocks)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"clocks": None},
        {"clocks": [["a", 1]]},
        {"clocks": {DEVICES[0]: -1}},
        {"clocks": {DEVICES[0]: MAX_COUNTER + 1}},
        {"clocks": {DEVICES[0]: 1.0}},
        {"clocks": {DEVICES[0]: True}},
        {"clocks": {DEVICES[0]: "1"}},
        {"clocks": {"someone": 1}},
        {"clocks": {DEVICES[0].upper().replace("0", "A"): 1}},
    ],
)
def test_a_malformed_clock_is_refused(data):
    with pytest.raises(IntegrityError):
        VectorClock.from_json(data)


@given(json_values)
def test_whatever_is_read_as_a_clock_is_one_or_is_refused(data):
    try:
        clock = VectorClock.from_json(data)
    except IntegrityError:
        return
    assert all(0 <= count <= MAX_COUNTER for count in clock.clocks.values())
