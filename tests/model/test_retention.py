"""What a retention policy lets go of, and what it never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.errors import UsageError
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, SegmentHash, VersionId
from tcfs.model.retention import (
    DAY,
    Hold,
    Old,
    RetentionPolicy,
    Rules,
    check_tag,
    effective_times,
    is_exempt,
    let_go,
    make_policy,
    present,
)

A, B = DeviceId("a" * 8), DeviceId("b" * 8)


def version(
    counter: int,
    *parents: int,
    at: int = 0,
    text: str = "",
    live: bool = False,
    device: DeviceId = A,
    tombstone: bool = False,
) -> Old:
    content = None if tombstone else ("file", (text or str(counter)).encode(), b"")
    ids = tuple(VersionId(A, p) if p < 100 else VersionId(B, p) for p in parents)
    return Old(
        VersionId(device, counter),
        (counter % 100, device, counter),
        counter,
        live,
        at,
        ids,
        content,
    )


def chain(count: int) -> list[Old]:
    """Versions that replace each other, one a day."""
    return [
        version(n, *([n - 1] if n > 1 else []), at=n * DAY, live=n == count)
        for n in range(1, count + 1)
    ]


def gone(versions: list[Old], policy: RetentionPolicy, now: int = 100 * DAY, **more) -> set[int]:
    return {v.counter for v in let_go(versions, Rules(policy, now, **more))}


def test_the_default_keeps_everything() -> None:
    assert gone(chain(9), RetentionPolicy()) == set()


def test_the_newest_versions_are_kept_by_count_the_live_one_included() -> None:
    assert gone(chain(5), RetentionPolicy(keep_versions=2)) == {1, 2, 3}


def test_age_counts_from_when_a_version_was_replaced() -> None:
    # Version 3 was replaced on day 4.
    assert gone(chain(5), RetentionPolicy(keep_days=2), now=6 * DAY) == {1, 2, 3}
    assert gone(chain(5), RetentionPolicy(keep_days=2), now=6 * DAY - 1) == {1, 2}


def test_what_either_rule_keeps_is_kept() -> None:
    assert gone(chain(5), RetentionPolicy(2, 4), now=6 * DAY) == {1}
    assert gone(chain(5), RetentionPolicy(4, 1), now=6 * DAY) == {1}


def test_a_hold_keeps_what_was_live_then() -> None:
    held = Hold("v1", {A: ChainHead(3, SegmentHash("x"))})
    assert gone(chain(5), RetentionPolicy(keep_versions=1), holds=[held]) == {1, 2, 4}


def test_the_loser_of_a_conflict_is_kept_until_it_is_dismissed() -> None:
    history = [
        version(1),
        version(2, 1, text="mine"),
        version(103, 1, text="theirs", device=B),
        version(4, 2, 103, text="mine"),
        version(5, 4, live=True),
    ]
    policy = RetentionPolicy(keep_versions=1)
    assert gone(history, policy) == {1, 2, 4}
    assert gone(history, policy, dismissed={VersionId(B, 103)}) == {1, 2, 4, 103}


def test_nothing_of_a_path_goes_while_a_conflict_stands_there() -> None:
    history = [version(1), version(2, 1, live=True), version(103, 1, device=B, live=True)]
    assert gone(history, RetentionPolicy(keep_versions=1)) == set()


def test_the_last_content_before_a_deletion_counts_as_a_version() -> None:
    history = [*chain(3), version(4, 3, tombstone=True, live=True)]
    history[2] = version(3, 2, at=3 * DAY)
    assert gone(history, RetentionPolicy(keep_versions=1)) == {1, 2}


def test_what_nobody_is_known_to_have_replaced_is_kept() -> None:
    assert gone([version(1), version(5, 4, live=True)], RetentionPolicy(keep_versions=1)) == set()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10**6)), max_size=20))
def test_effective_times_never_go_back_and_are_never_early(written: list[tuple[int, int]]) -> None:
    times = effective_times(written)
    assert all(times[lamport] >= at for lamport, at in written)
    ordered = [times[lamport] for lamport in sorted(times)]
    assert ordered == sorted(ordered)


def test_what_repositories_are_made_of_is_exempt() -> None:
    assert is_exempt(b"p/.git/tcfs/bundles/x-1")
    assert is_exempt(b".git/tcfs/refs/heads/main")
    assert not is_exempt(b"p/tcfs/a")
    assert not is_exempt(b"my.git/tcfs/a")


def test_a_clock_that_runs_ahead_ages_nothing() -> None:
    assert present(10_000 * DAY, newest=5 * DAY) == 6 * DAY
    assert present(5 * DAY + 7, newest=5 * DAY) == 5 * DAY + 7


@pytest.mark.parametrize(("days", "versions"), [(0, None), (None, 0), (-3, 2), (40_000, None)])
def test_a_policy_out_of_bounds_is_refused(days: int | None, versions: int | None) -> None:
    with pytest.raises(UsageError):
        make_policy(days, versions)


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a/b", "x" * 64, "é"])
def test_a_tag_is_a_plain_name(tag: str) -> None:
    with pytest.raises(UsageError):
        check_tag(tag)


@given(
    st.integers(2, 12),
    st.none() | st.integers(1, 5),
    st.none() | st.integers(1, 5),
    st.integers(0, 20),
)
def test_live_versions_are_always_kept(
    count: int, days: int | None, versions: int | None, now: int
) -> None:
    history = chain(count)
    assert count not in gone(history, RetentionPolicy(days, versions), now=now * DAY)
