"""Which version a strategy prefers, and where a loser goes."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcfs.errors import ConflictError
from tcfs.model.access import STRATEGIES
from tcfs.model.clock import VectorClock
from tcfs.model.conflict import SyncOutcome, compare, conflict_path, may_be_copy, preferred
from tcfs.model.ids import RelPath
from tcfs.model.paths import MAX_NAME, MAX_PATH, path_problem
from tests.model.values import DEVICES, clocks, histories, rel_paths, version

strategies = st.sampled_from(sorted(STRATEGIES))
device_names = st.text("aZ09._-", min_size=1, max_size=63).filter(lambda name: name[0].isalnum())
long_paths = st.builds(
    lambda depth, name: RelPath(b"/".join([b"d" * 200] * depth + [name])[:MAX_PATH].rstrip(b"/")),
    st.integers(0, 20),
    st.sampled_from((b"x", b"x" * 255, b"stem." + b"e" * 250, b".bashrc", "é".encode() * 127)),
)


@given(histories(), strategies, st.randoms(use_true_random=False))
def test_a_strategy_prefers_one_version_whatever_the_order(made, strategy, random):
    if not made:
        return
    chosen = preferred(made, strategy)
    random.shuffle(made)
    assert preferred(made, strategy) == chosen
    assert chosen in made


@given(strategies)
def test_a_directory_always_stays_in_its_place(strategy):
    directory = version(DEVICES[2], 5, content=1, kind="dir", file_hash=b"", chunks=())
    files = [version(DEVICES[0], 1, content=1), version(DEVICES[3], 9, content=2)]
    assert preferred([*files, directory], strategy) == directory


def test_each_strategy_prefers_what_its_name_says():
    first = version(DEVICES[0], 1, content=1, written_by="zoe")
    last = version(DEVICES[1], 1, parents=[first], content=2, written_by="bob")
    other = version(DEVICES[2], 1, content=3, written_by="bob")
    some = [last, other, first]
    assert preferred(some, "first-write") == first
    assert preferred(some, "last-write") == last
    # Of one name the smaller device id: names need not be unique.
    assert preferred(some, "device-name") == preferred(some, "merge") == last


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_of_nothing_nothing_is_preferred(strategy):
    with pytest.raises(ConflictError):
        preferred([], strategy)


@given(clocks, clocks)
def test_equal_bytes_are_up_to_date_whatever_the_clocks(one, other):
    assert compare(b"h", one, b"h", other) is SyncOutcome.UP_TO_DATE


@pytest.mark.parametrize(
    ("local", "remote", "outcome"),
    [
        ({0: 2}, {0: 1}, SyncOutcome.LOCAL_NEWER),
        ({0: 1}, {0: 2}, SyncOutcome.REMOTE_NEWER),
        ({0: 1}, {0: 1}, SyncOutcome.CONFLICT),
        ({0: 1}, {1: 1}, SyncOutcome.CONFLICT),
    ],
)
def test_other_bytes_are_compared_by_their_clocks(local, remote, outcome):
    clock = [VectorClock({DEVICES[n]: count for n, count in c.items()}) for c in (local, remote)]
    assert compare(b"a", clock[0], b"b", clock[1]) is outcome


@given(rel_paths | long_paths, device_names, st.integers(1, 12))
@example(RelPath(b"d/" * 2040 + b"longer-than-this"), "a" * 63, 3)
@example(RelPath(b"a." + b"e" * 253), "a" * 63, 12)
def test_a_conflict_copy_has_a_name_of_its_own_that_any_disk_takes(path, device, copies):
    taken: set[RelPath] = {path}
    for _ in range(copies):
        found = conflict_path(path, device, taken.__contains__)
        assert found not in taken
        assert path_problem(found) is None
        assert len(os.path.basename(found)) <= MAX_NAME
        assert b".conflict-" + device.encode() in os.path.basename(found)
        assert may_be_copy(found, path)
        taken.add(found)


@settings(max_examples=30)
@given(rel_paths, device_names)
def test_a_conflict_copy_stands_beside_its_file_under_a_name_that_only_depends_on_it(path, device):
    found = conflict_path(path, device, lambda _: False)
    assert os.path.dirname(found) == os.path.dirname(path)
    assert found == conflict_path(path, device, lambda _: False)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"a.txt", b"a.conflict-ann.txt"),
        (b"d/a", b"d/a.conflict-ann"),
        (b"d.d/a", b"d.d/a.conflict-ann"),
        (b".bashrc", b".bashrc.conflict-ann"),
        (b"a.tar.gz", b"a.tar.conflict-ann.gz"),
        (b"a.", b"a.conflict-ann."),
    ],
)
def test_a_conflict_copy_keeps_its_extension(path, found):
    assert conflict_path(RelPath(path), "ann", lambda _: False) == found
    second = found.replace(b"-ann", b"-ann-2")
    assert conflict_path(RelPath(path), "ann", {found}.__contains__) == second


def test_a_name_that_is_shortened_is_not_cut_within_a_character():
    path = RelPath(b"x" + "é".encode() * 127)
    found = conflict_path(path, "ann", lambda _: False)
    assert found.decode().startswith("xéé")


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (b"d/a.conflict-ann", b"d/b"),
        (b"d/a.conflict-ann", b"e/a"),
        (b"d/e/a.conflict-ann", b"d"),
        (b"d/a", b"d/a"),
        (b"d/a.conflict-ann", b"d/a.conflict-ann"),
    ],
)
def test_what_has_another_place_or_stem_is_no_conflict_copy_of_a_path(path, origin):
    assert not may_be_copy(RelPath(path), RelPath(origin))
