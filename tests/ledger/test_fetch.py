"""Reading chains: complete and in causal order, and what is wrong with one stops that one alone."""

from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.errors import IdentityError, IntegrityError, StoreError
from tcfs.ledger.chain import BEHIND, KnownSegment, check_own_chain, next_place
from tcfs.ledger.fetch import fetch, fetch_in_parts
from tcfs.ledger.keys import key_of
from tcfs.ledger.segment import open_segment
from tcfs.ledger.walk import NO_HEAD
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, SegmentHash, StoreKey
from tests.ledger.world import (
    REPO,
    SPACE,
    Device,
    MemoryStore,
    Ring,
    fleet,
    members,
    record,
    signer,
    version,
)
from tests.values import replace


def problems(result):
    return {(f.problem, f.device, f.seq) for f in result.findings}


def told(result):
    return [(s.header.device, s.header.seq) for s in result.segments]


def test_a_new_reader_gets_all_chains_in_causal_order():
    _store, (one, two, three) = fleet()
    one.write()
    two.fetch()
    two.write()
    two.write()
    one.fetch()
    one.write()
    result = three.fetch()
    assert told(result) == [(one.id, 1), (two.id, 1), (two.id, 2), (one.id, 2)]
    assert not result.findings
    assert not result.more
    assert result.heads == {**one.heads, two.id: two.heads[two.id]}


def test_only_what_is_new_is_downloaded_and_repeating_brings_nothing():
    store, (one, two, _) = fleet()
    one.write()
    two.fetch()
    assert told(two.fetch()) == []
    new = one.write()
    store.gets.clear()
    assert told(two.fetch()) == [(one.id, 2)]
    assert store.gets == [new.key]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12))
def test_any_history_of_honest_devices_is_read_whole_and_in_causal_order(steps):
    _store, devices = fleet(4)
    for who, reads in steps:
        if reads:
            devices[who].fetch()
        else:
            devices[who].write()
    result = devices[3].fetch()
    assert not result.findings
    assert len(result.segments) == sum(not reads for _, reads in steps)
    seen: dict = {}
    for segment in result.segments:
        assert all(seen.get(d, NO_HEAD).seq >= h.seq for d, h in segment.header.seen.items())
        assert segment.header.seq == seen.get(segment.header.device, NO_HEAD).seq + 1
        seen[segment.header.device] = segment.head


def test_a_budget_ends_a_fetch_early_and_the_next_one_goes_on():
    _store, (one, two, three) = fleet()
    for _ in range(6):
        one.write()
        two.fetch()
        two.write()
        one.fetch()
    seen = []
    result = three.fetch(budget=1)
    while result.more:
        assert result.segments
        seen += told(result)
        result = three.fetch(budget=1)
    seen += told(result)
    assert len(seen) == len(set(seen)) == 12
    assert not result.findings


def test_parts_of_a_fetch_are_all_of_it_and_chains_are_listed_once(monkeypatch):
    store, (one, two, three) = fleet()
    for _ in range(6):
        one.write()
        two.fetch()
        two.write()
        one.fetch()
    listed = []
    real = store.list

    def counted(prefix, after=""):
        listed.append(prefix)
        return real(prefix, after)

    monkeypatch.setattr(store, "list", counted)
    parts = list(
        fetch_in_parts(
            store, SPACE, {}, three.open, known=three.lookup, state=three.state, budget=1
        )
    )
    assert len(listed) == 2
    assert all(part.segments and not part.findings for part in parts)
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) >= 6
    seen = [place for part in parts for place in told(part)]
    assert seen == [(device.id, seq) for seq in range(1, 7) for device in (one, two)]


def test_what_there_is_no_room_for_is_read_when_all_that_is_held_waits_for_it(monkeypatch):
    monkeypatch.setattr("tcfs.ledger.walk.AHEAD_BYTES", 1)
    _store, (one, two, three) = fleet()
    two.write()
    two.write()
    one.fetch()
    one.write()  # Its chain comes first, and this waits for the whole of the other.
    two.fetch()
    two.write()
    result = three.fetch()
    assert told(result) == [(two.id, 1), (two.id, 2), (one.id, 1), (two.id, 3)]
    assert not result.findings


def test_a_fork_freezes_the_chain_before_it_and_no_other():
    _store, (one, two, three) = fleet()
    one.write()
    clone = one.clone()
    one.write(b"mine")
    clone.write(b"theirs")
    two.write()
    result = three.fetch()
    assert set(told(result)) == {(one.id, 1), (two.id, 1)}
    assert problems(result) == {("fork", one.id, 2)}


def test_a_fork_that_appears_later_is_noticed_at_the_head():
    _store, (one, two, _) = fleet()
    clone = one.clone()
    one.write(b"mine")
    two.fetch()
    clone.write(b"theirs")
    result = two.fetch()
    assert problems(result) == {("fork", one.id, 1)}
    assert two.heads[one.id] == one.heads[one.id]


def test_a_fork_that_a_clone_puts_behind_the_head_is_noticed_and_freezes_the_chain():
    _store, (one, two, three) = fleet()
    one.write()
    clone = one.clone()
    one.write(b"mine")
    one.write(b"more")
    two.fetch()
    head = two.heads[one.id]
    clone.write(b"theirs")
    one.write(b"and more")
    for _ in range(2):
        result = two.fetch()
        assert problems(result) == {("fork", one.id, 2)}
        assert not result.segments
        assert two.heads[one.id] == head
    assert problems(three.fetch()) == {("fork", one.id, 2)}


def test_a_branch_that_others_built_on_is_a_fork_at_every_look():
    _store, (one, two, three) = fleet()
    clone = one.clone()
    one.write(b"mine")
    one.write(b"more")
    two.fetch()
    clone.write(b"theirs")
    three.heads[one.id] = clone.heads[one.id]
    three.known |= clone.known
    three.write()
    result = two.fetch()
    assert [segment.header.device for segment in result.quarantined] == [one.id]
    one.write(b"and more")
    result = two.fetch()
    assert problems(result) == {("fork", one.id, 1)}
    assert not result.segments


def test_junk_behind_the_head_makes_no_fork():
    store, (one, two, _) = fleet()
    one.write()
    one.write()
    two.fetch()
    store.put(key_of(SPACE, one.id, 1, SegmentHash("0" * 64)), b"junk")
    one.write()
    result = two.fetch()
    assert told(result) == [(one.id, 3)]
    assert not result.findings


def test_a_long_chain_is_listed_from_a_little_before_its_head():
    store, (one, two, _) = fleet()
    for _ in range(BEHIND + 3):
        one.write()
    two.fetch()
    listed: list[str] = []

    class Listed:
        get, list_dirs = store.get, store.list_dirs

        def list(self, prefix, after=""):
            for info in store.list(prefix, after):
                listed.append(info.key)
                yield info

    fetch(Listed(), SPACE, two.heads, two.open, known=two.lookup, state=two.state)
    assert len(listed) == BEHIND + 1


def test_junk_beside_a_segment_makes_no_fork():
    store, (one, two, _) = fleet()
    one.write()
    store.put(key_of(SPACE, one.id, 1, SegmentHash("0" * 64)), b"junk")
    store.put(f"ledger/{SPACE}/{one.id}/readme", b"junk")
    store.put(f"ledger/{SPACE}/not-a-device/readme", b"junk")
    one.write()
    result = two.fetch()
    assert told(result) == [(one.id, 1), (one.id, 2)]
    assert {f.problem for f in result.findings} == {"stray"}


def test_an_honest_device_that_built_on_a_branch_of_a_fork_is_not_blocked_by_it():
    _store, (one, two, three) = fleet()
    clone = one.clone()
    mine = one.write(b"mine")
    two.fetch()
    two.write()
    clone.write(b"theirs")
    result = three.fetch()
    assert told(result) == [(two.id, 1)]
    assert [s.key for s in result.quarantined] == [mine.key]
    assert problems(result) == {("fork", one.id, 1)}
    # What was remembered of it is enough the next time.
    two.write()
    result = three.fetch()
    assert told(result) == [(two.id, 2)]
    assert not result.quarantined


def test_readers_who_followed_different_branches_still_read_each_other():
    store, (one, two, three) = fleet()
    clone = one.clone()
    one.write(b"mine")
    one.write(b"more")
    two.fetch()
    held = {k: v for k, v in store.objects.items() if f"/{one.id}/" in k}
    for key in held:
        store.delete(key)
    clone.write(b"theirs")
    three.fetch()
    store.objects.update(held)
    two.write()
    result = three.fetch()
    assert told(result) == [(two.id, 1)]
    assert ("fork", one.id, 1) in problems(result)


@pytest.mark.parametrize("forked", [0, 2])
@pytest.mark.parametrize("revoked", [False, True])
def test_only_what_lies_past_a_fork_or_a_cut_is_in_quarantine(forked, revoked):
    """Whichever chain is followed first: what comes before that is still to come."""
    _store, devices = fleet()
    one, two, three = devices[forked], devices[1], devices[2 - forked]
    for _ in range(3):
        one.write()
    cut = one.heads[one.id]
    clone = one.clone()
    mine = one.write(b"mine")
    two.fetch()
    clone.write(b"theirs")
    two.write()
    if revoked:
        records = [record(1 + n, cut={SPACE: cut} if n == forked else None) for n in range(3)]
        three.state = members(*records)
    result = three.fetch()
    assert [s.key for s in result.quarantined] == [mine.key]
    assert sorted(told(result)) == sorted([*((one.id, seq) for seq in (1, 2, 3)), (two.id, 1)])


def test_a_revocation_names_the_branch_of_a_fork_that_stands():
    _store, (one, _two, three) = fleet()
    one.write()
    clone = one.clone()
    one.write(b"mine")
    one.write(b"mine too")
    clone.write(b"theirs")
    clone.write(b"theirs too")
    cut = one.heads[one.id]
    three.state = members(record(1, cut={SPACE: cut}), record(2), record(3))
    result = three.fetch()
    assert told(result) == [(one.id, 1), (one.id, 2), (one.id, 3)]
    assert result.heads[one.id] == cut


@pytest.mark.parametrize("further", [0, 1, 3])
def test_who_followed_another_branch_than_a_revocation_names_is_told_where_it_left(further):
    _store, (one, two, three) = fleet()
    one.write()
    clone = one.clone()
    clone.write(b"theirs")
    clone.write(b"theirs too")
    two.fetch()
    one.write(b"mine")
    for _ in range(further):
        one.write(b"mine too")
    cut = one.heads[one.id]
    for reader in (two, three):
        reader.state = members(record(1, cut={SPACE: cut}), record(2), record(3))
    assert two.fetch().astray == {one.id: 1}
    two.heads[one.id] = ChainHead(1, three.fetch().segments[0].hash)
    result = two.fetch()
    assert not result.astray
    assert result.heads[one.id] == cut == three.heads[one.id]


def test_a_rolled_back_store_is_noticed_and_nothing_is_unlearned():
    store, (one, two, _) = fleet()
    one.write()
    last = one.write()
    two.fetch()
    before = dict(two.heads)
    store.delete(last.key)
    result = two.fetch()
    assert problems(result) == {("rollback", one.id, 2)}
    assert two.heads == before
    for key in list(store.objects):
        store.delete(key)
    assert problems(two.fetch()) == {("rollback", one.id, 2)}


def test_a_rewritten_chain_is_noticed():
    store, (one, two, _) = fleet()
    clone = one.clone()
    old = one.write(b"mine")
    two.fetch()
    store.delete(old.key)
    clone.write(b"theirs")
    clone.write(b"theirs too")
    result = two.fetch()
    assert {("rollback", one.id, 1), ("fork", one.id, 1)} >= problems(result) > set()
    assert not result.segments


def test_a_gap_stops_its_chain_and_is_reported():
    store, (one, two, three) = fleet()
    one.write()
    missing = one.write()
    one.write()
    two.write()
    store.delete(missing.key)
    result = three.fetch()
    assert set(told(result)) == {(one.id, 1), (two.id, 1)}
    assert problems(result) == {("gap", one.id, 2)}


def test_a_damaged_segment_stops_its_chain_alone():
    store, (one, two, three) = fleet()
    one.write()
    bad = one.write()
    one.write()
    two.write()
    store.objects[bad.key] = bad.data[:-1] + b"x"
    result = three.fetch()
    assert set(told(result)) == {(one.id, 1), (two.id, 1)}
    assert problems(result) == {("damaged", one.id, 2)}
    assert bad.key in result.findings[0].reason


def test_a_segment_waits_for_what_its_writer_had_seen():
    store, (one, two, three) = fleet()
    late = one.write()
    two.fetch()
    two.write()
    store.delete(late.key)
    result = three.fetch()
    assert told(result) == []
    assert problems(result) == {("held", two.id, 1)}
    assert late.key in result.findings[0].reason
    store.put(late.key, late.data)
    assert told(three.fetch()) == [(one.id, 1), (two.id, 1)]


def test_a_segment_that_no_listing_shows_yet_is_waited_for_and_not_passed_over():
    """Else what was built on it would count before it, and a hint of it would bring nothing."""
    store, (one, two, three) = fleet()
    late = one.write()
    two.fetch()
    two.write()
    real = store.list

    def list_without(prefix, after=""):
        return iter([info for info in real(prefix, after) if info.key != late.key])

    setattr(store, "list", list_without)  # noqa: B010 - it is a method
    result = three.fetch()
    assert (told(result), result.quarantined) == ([], ())
    assert problems(result) == {("held", two.id, 1)}
    setattr(store, "list", real)  # noqa: B010 - it is a method
    assert told(three.fetch()) == [(one.id, 1), (two.id, 1)]


def test_a_segment_that_was_damaged_on_its_way_is_waited_for_and_not_passed_over():
    store, (one, two, three) = fleet()
    late = one.write()
    two.fetch()
    two.write()
    real, damaged = store.get, [late.key]

    def get_damaged_once(key):
        data = real(key)
        if key not in damaged:
            return data
        damaged.clear()
        return data[:-1] + bytes([data[-1] ^ 1])

    setattr(store, "get", get_damaged_once)  # noqa: B010 - it is a method
    result = three.fetch()
    assert (told(result), result.quarantined) == ([], ())
    assert problems(result) == {("damaged", one.id, 1), ("held", two.id, 1)}
    assert told(three.fetch()) == [(one.id, 1), (two.id, 1)]


def test_what_was_written_after_the_listing_is_listed_again_when_another_had_seen_it():
    store, (one, two, three) = fleet()
    two.write()
    late = one.write()
    two.fetch()
    two.write()
    real = store.list
    hidden = [late.key]

    def list_without(prefix, after=""):
        found = [info for info in real(prefix, after) if info.key not in hidden]
        if str(one.id) in prefix:
            hidden.clear()
        return iter(found)

    setattr(store, "list", list_without)  # noqa: B010 - it is a method
    assert told(three.fetch()) == [(two.id, 1), (one.id, 1), (two.id, 2)]


def test_a_segment_waits_for_the_control_history_its_writer_had_seen():
    _store, (one, two, _) = fleet()
    head = ChainHead(4, SegmentHash("c" * 64))
    one.write(control={one.id: head})
    result = two.fetch(control_known=lambda device, found: False)
    assert problems(result) == {("held", one.id, 1)}
    assert key_of(CONTROL, one.id, *head) in result.findings[0].reason
    assert told(two.fetch(control_known=lambda d, h: (d, h) == (one.id, head))) == [(one.id, 1)]


def test_a_clock_that_reaches_past_what_its_writer_had_seen_is_refused():
    store, (one, two, three) = fleet()
    one.write()
    two.fetch()
    one.write()
    for clock in ({one.id: 2}, {three.id: 1}):
        liar = two.clone()
        sealed = liar.seal([liar.event(clock=clock)])
        store.put(sealed.key, sealed.data)
        result = Device(store, 3, three.state).fetch()
        assert problems(result) == {("refused", two.id, 1)}
        assert {device for device, _ in told(result)} == {one.id}
        store.delete(sealed.key)


def test_a_parent_that_was_seen_is_accepted():
    store, (one, two, three) = fleet()
    one.write()
    two.fetch()
    sealed = two.seal([two.event(parents=(version(one, 1),))])
    store.put(sealed.key, sealed.data)
    assert told(three.fetch()) == [(one.id, 1), (two.id, 1)]


@pytest.mark.parametrize("changes", [{"lamport": 1}, {"lamport": 2**60}, {"prev": "0" * 64}])
def test_a_segment_that_does_not_follow_is_refused(changes):
    _store, (one, two, _) = fleet()
    one.write()
    one.write(**changes)
    result = two.fetch()
    assert told(result) == [(one.id, 1)]
    assert problems(result) == {("refused", one.id, 2)}


def test_a_counter_is_never_used_again():
    _store, (one, two, _) = fleet()
    one.write()
    one.counter -= 1
    one.write()
    assert problems(two.fetch()) == {("refused", one.id, 2)}


def test_segments_of_readers_and_strangers_are_refused_while_others_go_on():
    _store, (one, two, three) = fleet()
    one.write()
    two.write()
    three.state = members(record(1, "reader"), record(3))
    result = three.fetch()
    assert told(result) == []
    assert problems(result) == {("refused", one.id, 1), ("refused", two.id, 1)}


def test_a_revoked_device_counts_up_to_its_cut_and_is_listed_past_it():
    _store, (one, two, three) = fleet()
    one.write()
    cut = one.heads[one.id]
    one.write()
    past = one.write()
    two.fetch()
    two.write()
    three.state = members(record(1, cut={SPACE: cut}), record(2), record(3))
    result = three.fetch()
    assert told(result) == [(one.id, 1), (two.id, 1)]
    assert problems(result) == {("revoked", one.id, 2)}
    # Another built on what lies past the cut: it is verified and kept aside.
    assert [s.header.seq for s in result.quarantined] == [2, 3]
    assert result.quarantined[-1].key == past.key
    assert result.heads[one.id] == cut


def test_a_chain_that_its_revocation_does_not_name_is_refused_whole():
    _store, (one, two, _) = fleet()
    one.write()
    two.state = members(record(1, cut={}), record(2))
    assert told(two.fetch()) == []


def test_a_segment_at_the_cut_with_another_hash_is_refused():
    _store, (one, two, _) = fleet()
    one.write()
    one.write()
    two.state = members(record(1, cut={SPACE: ChainHead(2, SegmentHash("0" * 64))}), record(2))
    result = two.fetch()
    assert told(result) == [(one.id, 1)]
    assert ("refused", one.id, 2) in problems(result)


def test_a_key_that_was_not_given_stops_a_chain_with_a_warning():
    _store, (one, two, _) = fleet()
    one.write()

    class Empty(Ring):
        def epoch_key(self, epoch):
            from tcfs.errors import AccessError

            raise AccessError("no key")

    def opener(key, data):
        return open_segment(
            key,
            data,
            repo=REPO,
            sign_key=signer(1).public_key,
            encryption=True,
            keyring=Empty(),
        )

    setattr(two, "open", opener)  # noqa: B010 - it is a method
    result = two.fetch()
    assert problems(result) == {("no-key", one.id, 1)}
    assert result.findings[0].severity == "warning"


def test_a_failing_store_is_an_error_and_never_an_empty_history():
    store, (one, two, _) = fleet()
    one.write()

    def broken(*_):
        raise StoreError("down")

    for name in ("list", "list_dirs", "get"):
        failing = MemoryStore()
        failing.objects = store.objects
        setattr(failing, name, broken)
        two.store = failing
        with pytest.raises(StoreError):
            two.fetch()


def test_downloads_run_at_once_and_bounded():
    store, devices = fleet(7)
    for device in devices[:6]:
        device.write()
    running, most, lock = 0, 0, threading.Lock()
    # Six downloads, three at a time: each waits for two others, and nobody is left waiting.
    gate = threading.Barrier(3, timeout=60)
    real = store.get

    def get(key):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()
        with lock:
            running -= 1
        return real(key)

    setattr(store, "get", get)  # noqa: B010 - it is a method
    assert len(devices[6].fetch(workers=3).segments) == 6
    assert most == 3


def test_the_next_place_follows_everything_that_is_known():
    _store, (one, two, _) = fleet()
    one.write()
    one.write()
    two.fetch()
    place = two.place()
    assert (place.seq, place.prev, place.lamport) == (1, "", 3)
    assert place.seen == {one.id: one.heads[one.id]}
    with pytest.raises(ValueError, match="not known"):
        next_place(SPACE, two.id, heads=two.heads, known=lambda d, h: None, control={})


def test_unknown_segments_on_the_own_chain_mean_another_identity():
    store, (one, *_) = fleet()
    head = one.write().head
    clone = one.clone()
    check_own_chain(store, SPACE, one.id, head, one.open, known=one.lookup)
    check_own_chain(
        store,
        SPACE,
        one.id,
        None,
        one.open,
        [StoreKey(key) for key in store.objects],
        known=one.lookup,
    )
    unsent = one.seal([one.event()])
    check_own_chain(store, SPACE, one.id, head, one.open, [unsent.key], known=one.lookup)
    store.put(unsent.key, unsent.data)
    check_own_chain(store, SPACE, one.id, head, one.open, [unsent.key], known=one.lookup)
    clone.write(b"theirs")
    with pytest.raises(IdentityError):
        check_own_chain(store, SPACE, one.id, head, one.open, [unsent.key], known=one.lookup)


def test_an_unknown_segment_behind_the_own_head_means_another_identity_and_junk_there_does_not():
    store, (one, *_) = fleet()
    one.write()
    clone = one.clone()
    one.write(b"mine")
    head = one.write(b"mine too").head
    store.put(key_of(SPACE, one.id, 2, SegmentHash("0" * 64)), b"junk")
    check_own_chain(store, SPACE, one.id, head, one.open, known=one.lookup)
    theirs = clone.write(b"theirs")
    with pytest.raises(IdentityError, match="goes on at 2 without it"):
        check_own_chain(store, SPACE, one.id, head, one.open, known=one.lookup)
    # Others had built on it, and it is known in quarantine.
    one.known[one.id, theirs.head] = KnownSegment(2, 2, accepted=False)
    with pytest.raises(IdentityError, match="goes on at 2 without it"):
        check_own_chain(store, SPACE, one.id, head, one.open, known=one.lookup)


def test_a_clone_whose_head_was_compacted_away_notices_what_went_on_without_it():
    store, (one, *_) = fleet()
    first = one.write()
    clone = one.clone()
    one.write()
    store.delete(first.key)
    with pytest.raises(IdentityError, match="goes on at 2 without it"):
        check_own_chain(store, SPACE, clone.id, first.head, clone.open, known=clone.lookup)


def test_junk_under_the_own_name_is_no_other_identity_and_a_lost_head_is_an_error():
    store, (one, *_) = fleet()
    sealed = one.write()
    store.put(key_of(SPACE, one.id, 2, SegmentHash("0" * 64)), b"junk")
    check_own_chain(store, SPACE, one.id, sealed.head, one.open, known=one.lookup)
    store.delete(sealed.key)
    with pytest.raises(IntegrityError, match="no longer has"):
        check_own_chain(store, SPACE, one.id, sealed.head, one.open, known=one.lookup)


def test_the_order_of_listings_and_of_chains_changes_nothing():
    store, (one, two, three) = fleet()
    one.write()
    two.fetch()
    two.write()
    one.fetch()
    one.write()
    expected = told(three.fetch())
    for order in itertools.permutations(store.objects.items()):
        other = MemoryStore()
        other.objects = dict(order)
        assert told(Device(other, 3, three.state).fetch()) == expected


def test_a_broken_segment_of_the_root_in_a_namespace_is_no_history():
    store, (one, two, _) = fleet()
    sealed = one.write()
    store.put(sealed.key.replace(str(one.id), "root"), sealed.data)
    result = two.fetch()
    assert told(result) == [(one.id, 1)]
    assert [f.problem for f in result.findings] == ["stray"]
    assert replace(result.findings[0], reason="").device == "root"
