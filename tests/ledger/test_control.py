"""The control ledger: read from the root's key alone, the same whatever order it came in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.device.phrase import SigningKey
from tcfs.errors import IntegrityError
from tcfs.ledger.claim import claim_key, make_claim, parse_claim, request_key
from tcfs.ledger.control import (
    admit_event,
    confirmations,
    control_segment,
    epoch_event,
    invite_event,
    load_control,
    policy_event,
    revoke_event,
)
from tcfs.ledger.strict import canonical, parse_object
from tcfs.model.access import ControlEntry
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, ROOT_DEVICE, DeviceId, NamespaceId, SegmentHash
from tcfs.model.membership import fold_control
from tests.ledger.world import REPO, MemoryStore, device_id, record, signer
from tests.values import replace

ROOT = SigningKey(ROOT_DEVICE, b"r" * 32)
SPACE = NamespaceId("default")
INVITE = SigningKey(DeviceId(device_id(99)), b"i" * 32)
E1, E2, E3 = "1" * 32, "2" * 32, "3" * 32


class Admin:
    """Writes control segments with what it has read so far, or with what it read back then."""

    def __init__(self, store, key):
        self.store = store
        self.key = key
        self.view = None
        self.salts = 0

    def read(self, **options):
        self.view = load_control(self.store, repo=REPO, root_key=ROOT.public_key, **options)
        return self.view

    def say(self, *events, put=True):
        view = self.view or self.read()
        self.salts += 1
        sealed = control_segment(
            view,
            events,
            repo=REPO,
            signer=self.key,
            salt=self.salts.to_bytes(32, "big"),
            written_at=0,
        )
        if put:
            self.store.put(sealed.key, sealed.data)
        return sealed


def repository(*roles):
    """A store whose root admitted device 1.. with these roles, and one Admin for each."""
    store = MemoryStore()
    root = Admin(store, ROOT)
    events = [admit_event(record(number, role)) for number, role in enumerate(roles, 1)]
    ids = [device_id(number) for number in range(1, len(roles) + 1)]
    root.say(*events, epoch_event(SPACE, E1, b"c" * 32, ids))
    admins = [Admin(store, signer(number)) for number in range(1, len(roles) + 1)]
    for admin in admins:
        admin.read()
    root.read()
    return store, root, admins


def claim_of(number, now=5, by=INVITE, **changes):
    return make_claim(
        repo=REPO,
        invite_id=INVITE.device_id,
        invite=by,
        device=replace(record(number), **changes),
        signer=signer(number),
        now=now,
    )


def invite(role="writer", epochs=None):
    return invite_event(INVITE.device_id, INVITE.public_key, role, 10, epochs or {SPACE: E1})


def test_chains_are_verified_from_the_root_outwards():
    store, _, (one,) = repository("admin")
    one.say(admit_event(record(2, "admin")))
    two = Admin(store, signer(2))
    two.say(admit_event(record(3, "reader")), policy_event(SPACE, "merge"))
    view = one.read()
    assert {d: r.role for d, r in view.state.devices.items()} == {
        device_id(1): "admin",
        device_id(2): "admin",
        device_id(3): "reader",
    }
    assert view.state.strategy(SPACE) == "merge"
    assert not view.findings
    assert set(view.heads) == {ROOT_DEVICE, device_id(1), device_id(2)}
    assert all(view.knows(device, head) for device, head in view.heads.items())


def test_cached_segments_are_not_read_again_and_need_no_store():
    store, _, (one,) = repository("admin")
    one.say(admit_event(record(2)))
    first = one.read()
    store.gets.clear()
    again = one.read(cached=first.fresh)
    assert store.gets == []
    assert not again.fresh
    assert again.state == first.state
    offline = load_control(None, repo=REPO, root_key=ROOT.public_key, cached=first.fresh)
    assert offline.state == first.state
    one.say(admit_event(record(3)))
    assert len(one.read(cached=first.fresh).fresh) == 1


def test_what_was_read_before_stands_for_as_long_as_the_objects_are_the_same():
    store, _, (one,) = repository("admin")
    one.say(admit_event(record(2)))
    first = one.read()
    kept = first.fresh
    again = one.read(cached=kept, last=first)
    assert again.state is first.state
    assert not again.fresh
    assert not again.findings
    one.say(revoke_event(device_id(2), {}, "lost"))
    newer = one.read(cached=kept, last=again)
    assert newer.state.devices[device_id(2)].revoked
    # Kept by another process meanwhile: nothing is fresh, and still it is not the same.
    other = one.read(cached=kept | newer.fresh, last=again)
    assert other.state.devices[device_id(2)].revoked
    store.delete(next(iter(newer.fresh)))
    last = one.read(cached=kept | newer.fresh, last=newer)
    assert last.state is newer.state
    assert [f.problem for f in last.findings] == ["rollback"]
    assert [f.problem for f in one.read(cached=kept | newer.fresh, last=last).findings] == [
        "rollback"
    ]


def test_what_was_damaged_on_its_way_is_looked_at_again_whatever_stood_before():
    store, _, (one,) = repository("admin")
    sealed = one.say(admit_event(record(2)))
    store.objects[sealed.key] = sealed.data[:-1] + b"x"
    damaged = one.read()
    store.objects[sealed.key] = sealed.data
    assert device_id(2) in one.read(cached=damaged.fresh, last=damaged).state.devices


def test_what_does_not_verify_is_never_kept_and_a_damaged_cache_is_read_again():
    store, _, (one,) = repository("admin")
    sealed = one.say(admit_event(record(2)))
    store.objects[sealed.key] = sealed.data[:-1] + b"x"
    view = one.read()
    assert sealed.key not in view.fresh
    store.objects[sealed.key] = sealed.data
    view = one.read(cached=view.fresh)
    assert sealed.key in view.fresh
    again = one.read(cached={sealed.key: b"damaged"})
    assert again.state == view.state
    assert again.fresh[sealed.key] == sealed.data


def test_a_store_that_lost_a_revocation_is_a_finding_and_the_revocation_stays():
    store, _, (one, _) = repository("admin", "writer")
    sealed = one.say(revoke_event(device_id(2), {}, "lost"))
    cached = one.read().fresh
    store.delete(sealed.key)
    view = one.read(cached=cached)
    assert [f.problem for f in view.findings] == ["rollback"]
    assert view.state.devices[device_id(2)].revoked


def test_a_device_that_was_never_admitted_says_nothing():
    store, _, (one,) = repository("admin")
    stranger = Admin(store, signer(7))
    stranger.say(admit_event(record(8, "admin")))
    view = one.read()
    assert set(view.state.devices) == {device_id(1)}
    assert [(f.problem, f.device) for f in view.findings] == [("refused", device_id(7))]


def test_a_writer_may_not_change_who_belongs():
    _store, _, (_, two) = repository("admin", "writer")
    two.say(admit_event(record(3, "admin")))
    view = two.read()
    assert device_id(3) not in view.state.devices
    assert view.state.refused[0].device == device_id(2)


def test_another_root_key_reads_nothing():
    store, _, _ = repository("admin")
    view = load_control(store, repo=REPO, root_key=signer(9).public_key)
    assert not view.state.devices
    assert [f.problem for f in view.findings] == ["damaged"]


def test_a_forked_admin_chain_is_frozen_and_its_segments_stay_known():
    _store, _, (one, two) = repository("admin", "admin")
    mine = one.say(admit_event(record(3)))
    theirs = one.say(admit_event(record(4)))
    view = two.read()
    assert set(view.state.devices) == {device_id(1), device_id(2)}
    assert [(f.problem, f.seq) for f in view.findings] == [("fork", 1)]
    assert view.knows(device_id(1), mine.head)
    assert view.knows(device_id(1), theirs.head)


def test_a_revoked_admin_cannot_speak_from_the_past():
    _store, _, (one, two) = repository("admin", "admin")
    # Device 2 keeps what it read before the revocation, so its Lamport time is below that.
    one.say(policy_event(SPACE, "merge"))
    one.read()
    one.say(revoke_event(device_id(2), {}, "stolen"))
    two.say(admit_event(record(3, "admin")), revoke_event(device_id(1), {}, "haha"))
    state = one.read().state
    assert state.devices[device_id(2)].revoked
    assert not state.devices[device_id(1)].revoked
    assert device_id(3) not in state.devices
    assert {refusal.device for refusal in state.refused} == {device_id(2)}


def test_of_two_admins_who_revoke_each_other_the_earlier_one_stays():
    _store, _, (one, two) = repository("admin", "admin")
    two.say(revoke_event(device_id(1), {}, ""))
    one.say(revoke_event(device_id(2), {}, ""))
    state = one.read().state
    assert [d.device_id for d in state.active()] == [device_id(1)]


def test_the_root_outranks_every_admin():
    _store, root, (one, _) = repository("admin", "admin")
    one.say(revoke_event(device_id(2), {}, ""))
    root.say(revoke_event(device_id(1), {}, ""))
    assert [d.device_id for d in root.read().state.active()] == [device_id(2)]


def test_of_a_device_revoked_twice_at_once_the_earlier_cut_of_each_chain_stands():
    _store, _, (one, two, _) = repository("admin", "admin", "writer")
    low, high = ChainHead(3, SegmentHash("a" * 64)), ChainHead(5, SegmentHash("b" * 64))
    other = NamespaceId("other")
    one.say(revoke_event(device_id(3), {SPACE: high, other: low}, ""))
    two.say(revoke_event(device_id(3), {SPACE: low}, ""))
    assert one.read().state.devices[device_id(3)].cut == {SPACE: low}


def test_two_admins_who_revoke_others_at_once_leave_an_epoch_to_renew():
    _store, _, (one, two, *_) = repository("admin", "admin", "writer", "writer")
    ids = [device_id(number) for number in (1, 2, 3, 4)]
    one.say(revoke_event(ids[2], {}, ""), epoch_event(SPACE, E2, b"d" * 32, [*ids[:2], ids[3]]))
    two.say(revoke_event(ids[3], {}, ""), epoch_event(SPACE, E3, b"e" * 32, ids[:3]))
    state = one.read().state
    assert [d.device_id for d in state.active()] == ids[:2]
    assert state.epochs_to_renew() == (SPACE,)
    one.say(epoch_event(SPACE, "4" * 32, b"f" * 32, ids[:2]))
    assert one.read().state.epochs_to_renew() == ()


def test_a_role_rises_and_does_not_sink():
    _store, _root, (one, _) = repository("admin", "writer")
    one.say(admit_event(record(2, "admin")))
    one.read()
    one.say(admit_event(record(2, "reader")))
    state = one.read().state
    assert state.devices[device_id(2)].role == "admin"
    assert "rise" in state.refused[0].reason


def test_a_device_id_is_taken_once_and_never_comes_back_after_a_revocation():
    _store, _root, (one, _) = repository("admin", "writer")
    one.say(admit_event(record(2, "admin", sign_key=b"x" * 32)))
    one.read()
    one.say(revoke_event(device_id(2), {}, ""))
    one.read()
    one.say(admit_event(record(2, "admin")))
    state = one.read().state
    assert state.devices[device_id(2)].revoked
    assert state.devices[device_id(2)].sign_key == signer(2).public_key


def test_a_claim_admits_a_device_with_the_role_of_its_invite():
    store, _, (one,) = repository("admin")
    one.say(invite("admin"))
    store.put(claim_key(INVITE.device_id), claim_of(2))
    two = Admin(store, signer(2))
    two.say(admit_event(record(3)))
    state = one.read().state
    assert state.devices[device_id(2)].role == "admin"
    assert state.claimed == {INVITE.device_id: device_id(2)}
    assert device_id(3) in state.devices


@pytest.mark.parametrize(
    "data",
    [
        claim_of(2, by=SigningKey(INVITE.device_id, b"x" * 32)),
        claim_of(2, sign_key=signer(3).public_key),
        claim_of(2, recipient="age1nonsense"),
        claim_of(2).replace(b'"claimed_at":5', b'"claimed_at":4'),
        claim_of(2).replace(b'"format":1', b'"format":1,"format":1'),
        claim_of(2)[:-1],
        b"",
    ],
)
def test_a_claim_that_does_not_verify_admits_nobody_and_is_reported(data):
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), data)
    view = one.read()
    assert set(view.state.devices) == {device_id(1)}
    assert [f.problem for f in view.findings] == ["refused"]


def test_a_claim_of_another_repository_or_invite_is_refused():
    good = claim_of(2)
    key = claim_key(INVITE.device_id)
    assert parse_claim(key, good, REPO, INVITE.public_key).device.name == "device-2"
    with pytest.raises(IntegrityError, match="another repository"):
        parse_claim(key, good, type(REPO)(int=1), INVITE.public_key)
    with pytest.raises(IntegrityError, match="another invite"):
        parse_claim(claim_key(device_id(98)), good, REPO, INVITE.public_key)


def test_unknown_fields_of_a_claim_are_signed_too():
    data = parse_object(claim_of(2), "it")
    with pytest.raises(IntegrityError, match="signatures"):
        parse_claim(
            claim_key(INVITE.device_id),
            canonical(data | {"later": 1}),
            REPO,
            INVITE.public_key,
        )


def test_an_expired_claim_admits_nobody():
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(2, now=11))
    state = one.read().state
    assert set(state.devices) == {device_id(1)}
    assert "expired" in state.refused[0].reason


def test_a_claim_that_a_newer_epoch_did_not_know_is_void_and_its_device_still_verifies():
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(2))
    one.read()
    one.say(epoch_event(SPACE, E2, b"d" * 32, [device_id(1)]))
    state = one.read().state
    assert set(state.devices) == {device_id(1)}
    assert state.sign_key(device_id(2)) == signer(2).public_key
    assert state.claimed == {}


def test_a_device_that_was_revoked_soon_after_its_claim_is_revoked_and_not_void():
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(2))
    one.read()
    cut = {SPACE: ChainHead(3, SegmentHash("a" * 64))}
    one.say(revoke_event(device_id(2), cut, ""), epoch_event(SPACE, E2, b"d" * 32, [device_id(1)]))
    state = one.read().state
    assert state.devices[device_id(2)].cut == cut
    assert not state.refused


@pytest.mark.parametrize("forged", [claim_of(3), claim_of(2, sign_key=signer(3).public_key)])
def test_a_confirmed_claim_cannot_be_replaced_by_another(forged):
    if b"device-2" in forged:
        # The same device id with a key of the forger's own.
        forged = make_claim(
            repo=REPO,
            invite_id=INVITE.device_id,
            invite=INVITE,
            device=record(2, sign_key=signer(3).public_key),
            signer=signer(3),
            now=5,
        )
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(2))
    state = one.read().state
    assert state.unconfirmed == (INVITE.device_id,)
    one.say(*confirmations(state))
    expected = one.read().state
    assert expected.unconfirmed == ()
    assert confirmations(expected) == []
    for data in (forged, None):
        store.objects.pop(claim_key(INVITE.device_id))
        if data:
            store.put(claim_key(INVITE.device_id), data)
        state = one.read().state
        assert state.devices == expected.devices
        assert state.claimed == expected.claimed
        store.put(claim_key(INVITE.device_id), claim_of(2))


def test_a_void_claim_is_not_revived_by_a_confirmation():
    store, _, (one, two) = repository("admin", "admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(3))
    two.read()
    one.read()
    one.say(epoch_event(SPACE, E2, b"d" * 32, [device_id(1), device_id(2)]))
    two.say(*confirmations(two.view.state))
    state = one.read().state
    assert device_id(3) not in state.devices
    assert device_id(3) in state.void


def test_a_claim_that_the_newer_epoch_lists_stays():
    store, _, (one,) = repository("admin")
    one.say(invite())
    store.put(claim_key(INVITE.device_id), claim_of(2))
    one.read()
    one.say(epoch_event(SPACE, E2, b"d" * 32, [device_id(1), device_id(2)]))
    one.read()
    one.say(epoch_event(SPACE, E3, b"e" * 32, [device_id(1)]))
    assert device_id(2) in one.read().state.devices


def asking(role="writer"):
    """An invite whose claims wait for an admin."""
    return invite_event(INVITE.device_id, INVITE.public_key, role, 10, {SPACE: E1}, admit=True)


def ask(store, *claims):
    for data in claims:
        store.put(request_key(INVITE.device_id, data), data)


def test_a_claim_that_waits_admits_nobody_until_an_admin_does():
    store, _, (one,) = repository("admin")
    one.say(asking("reader"))
    ask(store, claim_of(2), claim_of(2, now=6), claim_of(3), claim_of(4, now=11))
    state = one.read().state
    assert set(state.devices) == {device_id(1)}
    assert [r.device.device_id for r in state.requests] == [device_id(2), device_id(3)]
    assert {r.device.role for r in state.requests} == {"reader"}
    assert state.claimed == {}
    one.say(admit_event(state.requests[1].device, INVITE.device_id))
    view = one.read()
    assert view.state.devices[device_id(3)].role == "reader"
    assert view.state.requests == ()
    assert view.state.claimed == {INVITE.device_id: device_id(3)}
    assert not view.findings
    one.say(admit_event(state.requests[0].device, INVITE.device_id))
    assert device_id(2) not in one.read().state.devices


def test_a_claim_is_refused_where_its_invites_claims_do_not_stand():
    store, _, (one,) = repository("admin")
    data = claim_of(2)
    one.say(asking())
    store.put(claim_key(INVITE.device_id), data)
    store.put(request_key(INVITE.device_id, b"other"), data)
    view = one.read()
    assert view.state.requests == ()
    assert set(view.state.devices) == {device_id(1)}
    assert len(view.findings) == 2
    store, _, (one,) = repository("admin")
    one.say(invite())
    ask(store, data)
    view = one.read()
    assert set(view.state.devices) == {device_id(1)}
    assert len(view.findings) == 1


def test_what_waits_ends_with_the_epoch_of_its_invite_and_takes_no_members_id():
    store, _, (one, _) = repository("admin", "writer")
    one.say(asking())
    ask(store, claim_of(2, sign_key=signer(3).public_key), claim_of(3))
    assert [r.device.device_id for r in one.read().state.requests] == [device_id(3)]
    one.say(epoch_event(SPACE, E2, b"d" * 32, [device_id(1), device_id(2)]))
    assert one.read().state.requests == ()


def test_of_two_admissions_with_one_invite_the_first_holds_whatever_order_they_come_in():
    store, _, (one, two) = repository("admin", "admin")
    one.say(asking())
    ask(store, claim_of(3), claim_of(4))
    one.read()
    two.read()
    requests = one.view.state.requests
    words = [
        admin.say(admit_event(request.device, INVITE.device_id), put=False)
        for admin, request in zip((one, two), requests, strict=True)
    ]
    found = []
    for order in (words, words[::-1]):
        for sealed in order:
            store.put(sealed.key, sealed.data)
        found.append(one.read().state)
        for sealed in order:
            store.objects.pop(sealed.key)
    first, second = found
    assert first == second
    assert set(first.devices) == {device_id(1), device_id(2), device_id(3)}
    assert set(first.void) == {device_id(4)}
    assert first.sign_key(device_id(4)) == signer(4).public_key
    # The other admin gave it the key.
    assert first.epochs_to_renew() == (SPACE,)


EVENTS = st.one_of(
    st.builds(
        admit_event, st.builds(record, st.integers(1, 4), st.sampled_from(["admin", "writer"]))
    ),
    st.builds(
        revoke_event,
        st.integers(1, 4).map(device_id),
        st.dictionaries(
            st.just(CONTROL), st.integers(0, 3).map(lambda n: ChainHead(n, SegmentHash("a" * 64)))
        ),
        st.just(""),
    ),
    st.builds(
        epoch_event,
        st.just(SPACE),
        st.sampled_from([E1, E2, E3]),
        st.just(b"c" * 32),
        st.lists(st.integers(1, 4).map(device_id), max_size=4),
    ),
    st.builds(policy_event, st.just(SPACE), st.sampled_from(["merge", "last-write"])),
    st.sampled_from([invite(), asking()]),
    st.dictionaries(
        st.sampled_from(["op", "device", "epochs", "members", "cut", "strategy", "namespace"]),
        st.sampled_from([None, [], {}, [[]], "revoke", "invite", "epoch", "policy", "admit", 1]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_fold_is_the_same_in_any_order_and_survives_any_event(data):
    authors = [ROOT_DEVICE, *map(device_id, range(1, 4))]
    entries = [
        ControlEntry(
            data.draw(st.integers(1, 9)),
            data.draw(st.sampled_from(authors)),
            n // 3 + 1,
            n % 3,
            event,
        )
        for n, event in enumerate(data.draw(st.lists(EVENTS, max_size=10)))
    ]
    entries.append(ControlEntry(0, ROOT_DEVICE, 0, 0, admit_event(record(1, "admin"))))
    claims = [parse_claim(claim_key(INVITE.device_id), claim_of(4), REPO, INVITE.public_key)]
    expected = fold_control(entries, claims)
    assert fold_control(data.draw(st.permutations(entries)), claims) == expected
    assert fold_control(entries + entries, claims * 2) == expected
