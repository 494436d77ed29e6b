"""From an empty store to a fleet: creation, invites, revocation, recovery."""

from __future__ import annotations

import itertools
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.device.change import ControlChange, publish, renew_epochs, revoke
from tcfs.device.enroll import claim
from tcfs.device.epochs import NamespaceKeys, load_keys, open_sealed, seal
from tcfs.device.format import FORMAT_KEY, load_format, parse_format
from tcfs.device.identity import generate
from tcfs.device.invite import InviteCode, make_invite, parse_code
from tcfs.device.registry import REGISTRY_KEY, registry_json, update_registry
from tcfs.device.repository import create_repository, recover
from tcfs.errors import AccessError, IntegrityError, RepositoryError, UsageError
from tcfs.ledger.control import load_control
from tcfs.model.ids import DEFAULT_NAMESPACE, RECOVERY, EpochId
from tests.ledger.world import MemoryStore
from tests.values import replace

ENTROPY = bytes(range(32))
NOW = 1_700_000_000.0


class Dice:
    """Entropy that is the same in every run."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)

    def token(self, size):
        return self.random.randbytes(size)


class Member:
    """A device in the fleet, with all that it holds."""

    def __init__(self, store, identity, fmt, keys, dice):
        self.store, self.identity, self.format = store, identity, fmt
        self.keys, self.dice = keys, dice

    def view(self):
        return load_control(self.store, repo=self.format.repo, root_key=self.format.root_public_key)

    def reload_keys(self):
        self.keys = {DEFAULT_NAMESPACE: keys_of(self.store, self.format, self.identity)}
        return self.keys[DEFAULT_NAMESPACE]

    def invite(self, role="writer", expires_at=int(NOW) + 60, view=None):
        made = make_invite(
            view or self.view(),
            self.format,
            self.identity,
            self.keys,
            role=role,
            expires_at=expires_at,
            endpoint=self.store.endpoint,
            entropy=self.dice,
            now=NOW,
        )
        publish(self.store, made.change)
        return made.code

    def revoke(self, device, view=None) -> ControlChange:
        change = revoke(
            view or self.view(),
            self.format,
            self.identity,
            device.identity.device_id,
            {},
            self.keys,
            entropy=self.dice,
            now=NOW,
        )
        publish(self.store, change)
        return change


def keys_of(store, fmt, identity):
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key)
    return load_keys(
        store,
        view.state,
        DEFAULT_NAMESPACE,
        repo=fmt.repo,
        encryption=fmt.encryption,
        recipient_id=identity.device_id,
        identity=identity.age,
    )


def founder(encryption=True):
    store, dice = MemoryStore(), Dice()
    identity = generate("first", dice, NOW)
    made = create_repository(store, identity, ENTROPY, encryption=encryption)
    return Member(store, identity, made.format, {DEFAULT_NAMESPACE: made.keys}, dice)


def join(admin, name="second", role="writer", code=None):
    identity = generate(name, admin.dice, NOW)
    done = claim(admin.store, code or admin.invite(role), identity, NOW)
    return Member(admin.store, identity, done.format, done.keys, admin.dice)


# -- creation ----------------------------------------------------------------------------------


def test_a_new_repository_has_one_admin_who_holds_its_keys():
    first = founder()
    view = first.view()
    record = view.state.devices[first.identity.device_id]
    assert (record.name, record.role) == ("first", "admin")
    assert not view.findings
    epoch = view.state.current_epoch(DEFAULT_NAMESPACE)
    assert len(first.keys[DEFAULT_NAMESPACE].epoch_key(epoch.epoch)) == 32
    assert len(first.keys[DEFAULT_NAMESPACE].chunk_key) == 32
    assert load_format(first.store) == first.format
    assert json.loads(first.store.objects[REGISTRY_KEY])["devices"][0]["name"] == "first"


def test_a_creation_that_crashed_anywhere_is_completed_by_running_it_again():
    expected = founder()
    wanted = expected.view()
    for crash in itertools.count():
        store = MemoryStore()
        store.crash_after = crash
        identity = generate("first", Dice(), NOW)
        try:
            create_repository(store, identity, ENTROPY)
        except KeyboardInterrupt:
            assert FORMAT_KEY in store.objects or not store.objects
        else:
            break
        store.crash_after = None
        made = create_repository(store, identity, ENTROPY, created_by="another version")
        assert made.view.state == wanted.state
        assert made.view.heads == wanted.heads
        assert made.keys == expected.keys[DEFAULT_NAMESPACE]
    assert crash == 5


def test_a_creation_whose_first_run_arrives_late_does_not_fork_the_root():
    first = founder()
    late = dict(first.store.objects)
    again = create_repository(first.store, first.identity, ENTROPY)
    first.store.objects.update(late)
    assert again.view.heads == first.view().heads
    assert not first.view().findings


def test_a_store_that_is_not_empty_is_left_alone():
    store = MemoryStore()
    store.put("somebody/elses", b"data")
    with pytest.raises(RepositoryError, match="somebody/elses"):
        create_repository(store, generate("first", Dice(), NOW), ENTROPY)
    assert list(store.objects) == ["somebody/elses"]


def test_a_store_with_another_repository_is_left_alone():
    first = founder()
    before = dict(first.store.objects)
    with pytest.raises(RepositoryError, match="another repository"):
        create_repository(first.store, generate("x", Dice(5), NOW), b"z" * 32)
    with pytest.raises(RepositoryError, match="another device"):
        create_repository(first.store, generate("x", Dice(5), NOW), ENTROPY)
    assert first.store.objects == before


def test_a_repository_without_encryption_has_no_keys_and_still_ends_invites():
    first = founder(encryption=False)
    second = join(first)
    assert not [key for key in first.store.objects if key.startswith("keys/")]
    assert second.keys[DEFAULT_NAMESPACE].chunk_key is None
    code = first.invite()
    first.revoke(second)
    with pytest.raises(AccessError, match="ended"):
        join(first, "third", code=code)
    assert not [key for key in first.store.objects if key.startswith("keys/")]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": True},
        {"repo": "x"},
        {"encryption": 1},
        {"chunker": {"algorithm": "other", "single_max": 1}},
        {"chunker": {"algorithm": "fastcdc", "single_max": 0}},
        {"root_public_key": "00"},
        {"recovery_recipient": "age1x"},
        {"created_by": None},
    ],
)
def test_a_format_that_is_not_understood_is_refused(changes):
    good = json.loads(founder().format.raw)
    with pytest.raises(RepositoryError):
        parse_format(json.dumps(good | changes).encode())
    assert parse_format(json.dumps(good | {"later": 1}).encode()).encryption


def test_a_replaced_format_is_noticed_by_its_hash():
    first = founder()
    first.store.objects[FORMAT_KEY] = first.format.raw + b" "
    with pytest.raises(RepositoryError, match="another repository"):
        load_format(first.store, first.format.hash)


# -- invites -----------------------------------------------------------------------------------


def test_an_invited_device_gets_its_role_and_all_keys():
    first = founder()
    second = join(first, role="admin")
    assert second.view().state.devices[second.identity.device_id].role == "admin"
    assert second.keys == first.keys
    assert second.reload_keys() == first.keys[DEFAULT_NAMESPACE]
    assert join(second, "third").keys == first.keys


def test_an_invite_works_once_and_says_who_used_it():
    first = founder()
    code = first.invite()
    join(first, "second", code=code)
    with pytest.raises(AccessError, match="already used, by 'second'"):
        join(first, "third", code=code)


def test_of_twenty_racers_one_wins():
    first = founder()
    code = first.invite()
    gate = threading.Barrier(20)

    def race(number):
        identity = generate(f"racer-{number}", Dice(number + 1), NOW)
        gate.wait()
        try:
            return claim(first.store, code, identity, NOW)
        except AccessError as error:
            return error.message

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(race, range(20)))
    losers = [done for done in results if isinstance(done, str)]
    assert len(losers) == 19
    assert all("already used" in loser for loser in losers)
    assert len(first.view().state.devices) == 2


def test_a_claim_that_crashed_anywhere_is_completed_by_the_same_device():
    for crash in itertools.count():
        first = founder()
        code = first.invite()
        identity = generate("second", first.dice, NOW)
        first.store.crash_after = crash
        try:
            claim(first.store, code, identity, NOW)
        except KeyboardInterrupt:
            pass
        else:
            break
        first.store.crash_after = None
        # Later, past the expiry: what was claimed in time stays claimed.
        late = NOW + (1000 if crash > 1 else 0)
        done = claim(first.store, code, identity, late)
        assert done.keys == first.keys
        assert len(first.view().state.devices) == 2
        names = [d["name"] for d in json.loads(first.store.objects[REGISTRY_KEY])["devices"]]
        assert names == ["first", "second"]
    assert crash == 3


def test_an_interrupted_claim_is_completed_even_after_the_keys_were_changed_for_its_members():
    first = founder()
    code = first.invite()
    second = join(first, "second", code=code)
    third = join(first, "third")
    first.revoke(third)
    done = claim(first.store, code, second.identity, NOW)
    assert len(done.keys[DEFAULT_NAMESPACE].epochs) == 2


def test_the_next_change_confirms_who_used_an_invite():
    first = founder()
    code = first.invite()
    second = join(first, code=code)
    assert first.view().state.unconfirmed == (code.invite_id,)
    first.invite()
    state = first.view().state
    assert state.unconfirmed == ()
    first.store.delete(f"claims/{code.invite_id}")
    assert first.view().state.devices == state.devices
    assert second.identity.device_id in state.devices


def test_an_expired_invite_is_refused():
    first = founder()
    code = first.invite(expires_at=int(NOW) - 1)
    with pytest.raises(AccessError, match="expired"):
        join(first, code=code)


def test_an_invite_ends_with_a_new_key():
    first = founder()
    second = join(first)
    code = first.invite()
    first.revoke(second)
    with pytest.raises(AccessError, match="keys were changed"):
        join(first, "third", code=code)


def test_a_key_change_during_a_claim_is_noticed():
    first = founder()
    second = join(first)
    view, code = first.view(), None
    code = first.invite()
    view = first.view()
    real = first.store.put

    def put(key, data, *condition):
        etag = real(key, data, *condition)
        if key.startswith("claims/"):
            setattr(first.store, "put", real)  # noqa: B010 - it is a method
            first.revoke(second, view=view)
        return etag

    setattr(first.store, "put", put)  # noqa: B010 - it is a method
    with pytest.raises(AccessError, match="ended while it was used"):
        join(first, "third", code=code)


def test_an_invite_for_another_repository_is_refused():
    first, other = founder(), MemoryStore()
    create_repository(other, generate("x", Dice(3), NOW), b"y" * 32)
    with pytest.raises(RepositoryError, match="another repository"):
        claim(other, first.invite(), generate("second", Dice(4), NOW), NOW)
    with pytest.raises(RepositoryError, match="no repository"):
        claim(MemoryStore(), first.invite(), generate("second", Dice(4), NOW), NOW)


def test_an_invite_that_no_admin_made_is_refused():
    first = founder()
    forged = replace(first.invite(), seed=b"s" * 32)
    with pytest.raises(AccessError, match="no admin"):
        join(first, code=forged)
    second = join(first)
    with pytest.raises(AccessError, match="not an admin"):
        second.invite()


def test_a_revoked_device_does_not_come_back_with_an_invite():
    first = founder()
    second = join(first)
    first.revoke(second)
    with pytest.raises(UsageError, match="revoked"):
        claim(first.store, first_with_keys(first).invite(), second.identity, NOW)


def first_with_keys(member):
    member.reload_keys()
    return member


def test_junk_under_the_claims_name_is_an_error_and_not_a_user():
    first = founder()
    code = first.invite()
    first.store.put(f"claims/{code.invite_id}", b"junk")
    with pytest.raises(IntegrityError, match="claims/"):
        join(first, code=code)


CODE = InviteCode("00000001-0000-4000-8000-000000000000", b"s" * 32, "f" * 64, "https://x/y", 99)


def test_a_code_reads_back_however_it_was_pasted():
    text = CODE.encode()
    assert text.startswith("tcfs-invite-")
    assert parse_code(text) == CODE
    assert parse_code(f"\n {text[:40]}\n  {text[40:]} ") == CODE


def test_every_truncation_of_a_code_is_named_as_such():
    text = CODE.encode()
    for size in range(len("tcfs-invite-"), len(text)):
        with pytest.raises(UsageError, match=r"cut off|mistyped") as error:
            parse_code(text[:size])
        if size < len(text) - 6:
            assert "cut off" in error.value.message


@given(st.integers(12, len(CODE.encode()) - 1), st.sampled_from("abcXYZ019-_!."))
def test_every_mistyped_letter_of_a_code_is_noticed(at, letter):
    text = CODE.encode()
    if text[at] == letter:
        return
    with pytest.raises(UsageError, match=r"cut off|mistyped") as error:
        parse_code(text[:at] + letter + text[at + 1 :])
    assert (b"s" * 32).hex() not in str(error.value.to_json())


def test_what_is_no_code_is_named_as_such():
    with pytest.raises(UsageError, match="begins with"):
        parse_code("hello")


# -- revocation --------------------------------------------------------------------------------


def test_after_a_revocation_the_rest_holds_the_new_key_and_the_revoked_device_does_not():
    first = founder()
    second, third = join(first), join(first, "third")
    first.revoke(third)
    state = first.view().state
    assert [d.name for d in state.active()] == ["first", "second"]
    now = state.current_epoch(DEFAULT_NAMESPACE).epoch
    old = state.epochs[DEFAULT_NAMESPACE][0].epoch
    keys = second.reload_keys()
    assert keys == first.reload_keys()
    assert keys.epochs == {old, now}
    assert third.reload_keys().epochs == {old}
    with pytest.raises(AccessError, match="no key for epoch"):
        third.keys[DEFAULT_NAMESPACE].epoch_key(now)
    assert keys.chunk_key == third.keys[DEFAULT_NAMESPACE].chunk_key


def test_publishing_a_change_twice_changes_nothing():
    first = founder()
    change = first.revoke(join(first))
    before = dict(first.store.objects)
    publish(first.store, change)
    assert first.store.objects == before


def test_two_admins_who_revoke_at_once_both_succeed_and_the_key_is_renewed_for_the_rest():
    first = founder()
    second = join(first, role="admin")
    third, fourth = join(first, "third"), join(first, "fourth")
    view = first.view()
    first.revoke(third, view=view)
    second.revoke(fourth, view=view)
    state = first.view().state
    assert [d.name for d in state.active()] == ["first", "second"]
    assert state.epochs_to_renew() == (DEFAULT_NAMESPACE,)
    first.reload_keys()
    publish(
        first.store,
        renew_epochs(
            first.view(),
            first.format,
            first.identity,
            state.epochs_to_renew(),
            first.keys,
            entropy=first.dice,
            now=NOW,
        ),
    )
    state = first.view().state
    assert state.epochs_to_renew() == ()
    # All four epochs, of both branches, are there for the two and for whoever comes later.
    assert len(second.reload_keys().epochs) == 4
    assert len(join(first_with_keys(first), "fifth").keys[DEFAULT_NAMESPACE].epochs) == 4
    for gone in (third, fourth):
        held = gone.reload_keys().epochs
        assert state.current_epoch(DEFAULT_NAMESPACE).epoch not in held


def test_a_device_neither_revokes_itself_nor_revokes_as_a_writer():
    first = founder()
    second = join(first)
    with pytest.raises(UsageError, match="itself"):
        first.revoke(first)
    with pytest.raises(AccessError, match="not an admin"):
        second.revoke(first)


# -- sealed keys -------------------------------------------------------------------------------


def test_a_sealed_object_that_the_event_does_not_commit_to_is_refused():
    first = founder()
    state = first.view().state
    record = state.current_epoch(DEFAULT_NAMESPACE)
    secrets = first.keys[DEFAULT_NAMESPACE].secrets(state)
    recipient = first.identity.recipient
    for forged in (replace(secrets, key=b"k" * 32), replace(secrets, chunk_key=b"k" * 32)):
        sealed = seal(first.format.repo, forged, first.identity.device_id, recipient)
        with pytest.raises(IntegrityError, match="commits"):
            open_sealed(
                first.format.repo,
                sealed.key,
                sealed.data,
                first.identity.age,
                record=record,
                older={},
            )


def test_older_keys_that_no_event_commits_to_are_dropped():
    first = founder()
    join(first)
    state = first.view().state
    record = state.current_epoch(DEFAULT_NAMESPACE)
    secrets = first.keys[DEFAULT_NAMESPACE].secrets(state)
    forged = replace(secrets, previous=(("ab" * 16, b"k" * 32), (record.epoch, b"k" * 32)))
    sealed = seal(first.format.repo, forged, first.identity.device_id, first.identity.recipient)
    found = open_sealed(
        first.format.repo,
        sealed.key,
        sealed.data,
        first.identity.age,
        record=record,
        older={record.epoch: record},
    )
    assert found.previous == ()


def test_a_sealed_object_of_another_place_or_recipient_is_refused():
    first = founder()
    state = first.view().state
    record = state.current_epoch(DEFAULT_NAMESPACE)
    secrets = first.keys[DEFAULT_NAMESPACE].secrets(state)
    good = seal(first.format.repo, secrets, first.identity.device_id, first.identity.recipient)
    elsewhere = seal(type(first.format.repo)(int=1), secrets, "x", first.identity.recipient)
    stranger = pyrage.x25519.Identity.generate()

    def opened(key, data, identity=first.identity.age):
        return open_sealed(first.format.repo, key, data, identity, record=record, older={})

    assert opened(good.key, good.data) == secrets
    for key, data, identity in (
        (good.key, good.data[:-1], first.identity.age),
        (elsewhere.key, elsewhere.data, first.identity.age),
        (good.key, good.data, stranger),
        (good.key.replace("default", "other"), good.data, first.identity.age),
    ):
        with pytest.raises(IntegrityError):
            opened(key, data, identity)


def test_junk_beside_the_sealed_keys_does_no_harm_and_junk_alone_is_an_error():
    first = founder()
    prefix = next(k for k in first.store.objects if k.startswith("keys/")).rsplit("/", 1)[0]
    first.store.put(f"{prefix}/{first.identity.device_id}-{'0' * 64}", b"junk")
    assert first.reload_keys() == founder().keys[DEFAULT_NAMESPACE]
    for key in [k for k in first.store.objects if str(first.identity.device_id) in k]:
        if key.startswith("keys/") and not key.endswith("0" * 64):
            first.store.delete(key)
    with pytest.raises(IntegrityError):
        first.reload_keys()


def test_keys_are_never_shown():
    first = founder()
    state = first.view().state
    keys = first.keys[DEFAULT_NAMESPACE]
    secrets = keys.secrets(state)
    code = first.invite()
    shown = repr((keys, secrets, code, join(first).keys))
    for secret in (secrets.key, secrets.chunk_key, code.seed):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    with pytest.raises(AccessError) as error:
        NamespaceKeys(DEFAULT_NAMESPACE, keys.keys, keys.chunk_key).epoch_key(EpochId("0" * 32))
    assert secrets.key.hex() not in str(error.value.to_json())


# -- recovery ----------------------------------------------------------------------------------


def recovered(first, identity, entropy=ENTROPY):
    change = recover(first.store, first.format, entropy, identity, source=Dice(9), now=NOW)
    if change is not None:
        publish(first.store, change)
    return change


def test_the_recovery_phrase_brings_back_every_key_and_an_admin():
    first = founder()
    second = join(first)
    first.revoke(second)
    expected = first.reload_keys()
    identity = generate("new", Dice(8), NOW)
    assert recovered(first, identity) is not None
    new = Member(first.store, identity, first.format, {}, Dice(7))
    assert new.view().state.devices[identity.device_id].role == "admin"
    assert not new.view().findings
    assert new.reload_keys() == expected
    assert len(expected.epochs) == 2
    assert recovered(first, identity) is None
    assert join(new, "fourth").keys[DEFAULT_NAMESPACE] == expected


def test_a_recovery_that_crashed_is_completed_by_publishing_the_same_change():
    first = founder()
    identity = generate("new", Dice(8), NOW)
    change = recover(first.store, first.format, ENTROPY, identity, source=Dice(9), now=NOW)
    assert change is not None
    for crash in range(len(change.objects) + 1):
        first.store.crash_after = crash
        with pytest.raises(KeyboardInterrupt):
            publish(first.store, change)
    first.store.crash_after = None
    publish(first.store, change)
    assert first.view().state.devices[identity.device_id].role == "admin"
    assert not first.view().findings


def test_a_phrase_of_another_repository_recovers_nothing():
    first = founder()
    before = dict(first.store.objects)
    with pytest.raises(AccessError, match="not that of this repository"):
        recovered(first, generate("new", Dice(8), NOW), b"z" * 32)
    assert first.store.objects == before


@pytest.mark.parametrize("encryption", [True, False])
@pytest.mark.parametrize("change", ["recipient", "encryption"])
def test_a_format_that_was_changed_by_the_store_is_noticed_in_a_recovery(encryption, change):
    first = founder(encryption)
    other = str(generate("other", Dice(3), NOW).recipient)
    changed = {
        "recipient": replace(first.format, recovery_recipient=other),
        "encryption": replace(first.format, encryption=not encryption),
    }[change]
    before = dict(first.store.objects)
    with pytest.raises(IntegrityError, match="was changed"):
        recover(
            first.store,
            changed,
            ENTROPY,
            generate("new", Dice(8), NOW),
            source=Dice(9),
            now=NOW,
        )
    assert first.store.objects == before


def test_every_epoch_is_sealed_for_recovery():
    first = founder()
    first.revoke(join(first))
    epochs = {k.split("/")[2] for k in first.store.objects if k.startswith("keys/")}
    sealed = {k.split("/")[2] for k in first.store.objects if f"/{RECOVERY}-" in k and "keys/" in k}
    assert epochs == sealed


# -- registry ----------------------------------------------------------------------------------


def test_concurrent_enrollments_all_stand_in_the_registry():
    first = founder()
    codes = [first.invite() for _ in range(8)]
    gate = threading.Barrier(8)

    def enroll(number):
        identity = generate(f"device-{number}", Dice(number + 1), NOW)
        gate.wait()
        claim(first.store, codes[number], identity, NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enroll, range(8)))
    listed = json.loads(first.store.objects[REGISTRY_KEY])["devices"]
    assert {d["name"] for d in listed} == {"first", *(f"device-{n}" for n in range(8))}


def test_the_registry_has_upstreams_shape_and_keeps_what_it_alone_knows():
    first = founder()
    second = join(first)
    listed = json.loads(first.store.objects[REGISTRY_KEY])
    assert list(listed) == ["devices"]
    assert list(listed["devices"][0]) == [
        *("name", "device_id", "public_key", "signing_key_hash", "description"),
        *("enrolled_at", "revoked", "last_nats_seq"),
    ]
    listed["devices"][1]["last_nats_seq"] = 7
    first.store.put(REGISTRY_KEY, json.dumps(listed).encode())
    first.revoke(second)
    update_registry(first.store, lambda: first.view().state)
    found = json.loads(first.store.objects[REGISTRY_KEY])["devices"]
    assert [(d["name"], d["revoked"], d["last_nats_seq"]) for d in found] == [
        ("first", False, 0),
        ("second", True, 7),
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"devices":[1]}', b'{"devices":[{}]}'])
def test_a_registry_that_cannot_be_read_is_written_anew(data):
    state = founder().view().state
    assert registry_json(state, data) == registry_json(state)
