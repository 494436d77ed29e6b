"""Segments: sealed and opened; anything else than what was sealed is refused."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tcfs.content.seal import Cipher
from tcfs.errors import AccessError, IntegrityError, LimitError
from tcfs.ledger.header import encode_header, parse_header
from tcfs.ledger.keys import key_of, parse_key
from tcfs.ledger.segment import Place, SegmentDraft, open_segment, seal_segment
from tcfs.model.event import ChainHead, ContentEvent
from tcfs.model.ids import CONTROL, SegmentHash, StoreKey
from tests.ledger.world import (
    EPOCH,
    REPO,
    SPACE,
    Ring,
    address,
    chunk,
    device_id,
    manifest,
    signer,
)
from tests.values import replace

ONE = signer(1)
PLACE = Place(SPACE, 1, "", 1, {}, {})
EVENT = ContentEvent(
    "write", 1, manifest(b"a.txt", {ONE.device_id: 1}, chunks=(chunk(1),), file_size=10)
)
DRAFT = SegmentDraft(
    PLACE,
    1_700_000_000,
    (EVENT,),
    addresses={chunk(1): address(1)},
    inline_pack=b"a small pack",
)


def seal(draft=DRAFT, by=ONE, **changes):
    options: dict[str, Any] = {
        "repo": REPO,
        "salt": b"s" * 32,
        "keyring": Ring(),
        "epoch": EPOCH,
        "cipher": Cipher.CHACHA20_POLY1305,
    }
    return seal_segment(draft, signer=by, **(options | changes))


def reopen(key, data, **changes):
    options: dict[str, Any] = {
        "repo": REPO,
        "sign_key": ONE.public_key,
        "encryption": True,
        "keyring": Ring(),
    }
    return open_segment(key, data, **(options | changes))


def rehash(sealed_key, data) -> StoreKey:
    ref = parse_key(sealed_key)
    return ref._replace(hash=SegmentHash(blake3(data).hexdigest())).key


@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305])
def test_a_segment_reads_back_as_it_was_sealed(cipher):
    sealed = seal(cipher=cipher)
    found = reopen(sealed.key, sealed.data)
    assert found.events == (EVENT,)
    assert found.addresses == [(chunk(1), address(1))]
    assert found.inline_pack == b"a small pack"
    assert found.header == sealed.header
    assert found.head == sealed.head == ChainHead(1, sealed.hash)
    assert parse_header(encode_header(found.header)) == found.header
    assert b"a.txt" not in sealed.data


def test_a_fixed_segment_has_fixed_bytes():
    sealed = seal(replace(DRAFT, events=(), addresses={}, inline_pack=None))
    assert sealed.key == (
        "ledger/default/00000001-0000-4000-8000-000000000000/0000000001-"
        "e182550f49b50284d602fe62deba4306a1eb32a8939c137444883c591b60bbff"
    )


def test_a_segment_put_together_by_hand_as_the_format_says_is_read():
    line = (
        b'{"op":"delete","n":3,"manifest":{"version":2,"rel_path":"a","kind":"tombstone",'
        b'"file_hash":"","file_size":0,"chunks":[],"vclock":{"clocks":{"%b":3}},"parents":[],'
        b'"written_by":"x","written_at":1,"mode":0,"mtime_ns":0}}\n' % ONE.device_id.encode()
    )
    plain = len(line).to_bytes(4, "big") + line + bytes(12)
    bind = b"tcfs/segment/v1\0" + REPO.bytes + b"\x07default" + bytes.fromhex(EPOCH) + b"\x02"
    extracted = hmac.digest(b"s" * 32, b"k" * 32, "sha256")
    key = hmac.digest(extracted, bind + b"\x01", "sha256")
    aad = bind + ONE.device_id.encode() + b"\0" + (1).to_bytes(8, "big") + b"\0"
    body = b"\0" + ChaCha20Poly1305(key).encrypt(bytes(12), plain, aad)
    header = json.dumps(
        {
            "format": 1,
            "repo": str(REPO),
            "namespace": "default",
            "device": ONE.device_id,
            "seq": 1,
            "prev": "",
            "lamport": 1,
            "epoch": EPOCH,
            "salt": "73" * 32,
            "cipher": 2,
            "seen": {},
            "control": {},
            "first": 3,
            "last": 3,
            "pack": None,
            "written_at": 0,
            "body_size": len(body),
            "body_hash": blake3(body).hexdigest(),
        },
        indent=1,
    ).encode()
    found = reopen(*raw_segment(header, body))
    assert [event.manifest.kind for event in found.events] == ["tombstone"]


def test_equal_drafts_make_equal_bytes():
    assert seal() == seal()


def test_a_repository_without_encryption_keeps_segments_in_the_clear():
    sealed = seal(keyring=None, epoch="", cipher=Cipher.NONE)
    assert reopen(sealed.key, sealed.data, encryption=False, keyring=None).events == (EVENT,)
    with pytest.raises(IntegrityError, match="not sealed as this repository"):
        reopen(sealed.key, sealed.data)
    sealed = seal()
    with pytest.raises(IntegrityError, match="not sealed as this repository"):
        reopen(sealed.key, sealed.data, encryption=False)


def test_every_flipped_byte_is_detected_even_under_a_key_that_names_the_new_bytes():
    sealed = seal()
    for at in range(len(sealed.data)):
        forged = bytearray(sealed.data)
        forged[at] ^= 1
        with pytest.raises(IntegrityError, match="its bytes are not"):
            reopen(sealed.key, bytes(forged))
        with pytest.raises(IntegrityError) as error:
            reopen(rehash(sealed.key, forged), bytes(forged))
        assert rehash(sealed.key, forged) in error.value.message


def test_every_truncation_and_any_extension_is_detected():
    sealed = seal()
    for data in [sealed.data[:size] for size in range(len(sealed.data))] + [sealed.data + b"x"]:
        with pytest.raises(IntegrityError):
            reopen(rehash(sealed.key, data), data)


def test_a_segment_of_another_signer_is_refused():
    forged = seal(by=type(ONE)(ONE.device_id, b"\x07" * 32))
    with pytest.raises(IntegrityError, match="signature"):
        reopen(forged.key, forged.data)


def test_a_segment_is_refused_under_any_other_key():
    sealed = seal()
    for changes in (
        {"namespace": "other"},
        {"device": device_id(2)},
        {"seq": 2},
        {"hash": "0" * 64},
    ):
        key = parse_key(sealed.key)._replace(**changes).key
        with pytest.raises(IntegrityError):
            reopen(key, sealed.data)


def test_a_segment_of_another_repository_is_refused():
    sealed = seal(repo=type(REPO)(int=5))
    with pytest.raises(IntegrityError, match="another repository"):
        reopen(sealed.key, sealed.data)


def test_a_body_of_another_segment_of_the_same_device_is_refused():
    one = seal(replace(DRAFT, inline_pack=None))
    other = seal(replace(DRAFT, inline_pack=None, events=(replace(EVENT, op="setattr"),)))
    head = len(one.data) - one.header.body_size
    tail = len(other.data) - other.header.body_size
    swapped = one.data[:head] + other.data[tail:]
    with pytest.raises(IntegrityError, match="body"):
        reopen(rehash(one.key, swapped), swapped)


def test_a_body_is_bound_to_its_device_seq_and_salt():
    # Signed anew by the device itself, so that only the AEAD can tell.
    sealed = seal(replace(DRAFT, inline_pack=None))
    body = sealed.data[-sealed.header.body_size :]
    tries: list[dict[str, Any]] = [{"seq": 2, "prev": "0" * 64}, {"salt": b"t" * 32}]
    for changes in tries:
        raw = encode_header(replace(sealed.header, **changes))
        data = b"".join(
            (
                b"TCFSSEG1",
                len(raw).to_bytes(4, "big"),
                raw,
                ONE.sign(b"tcfs segment v1\0" + raw),
                body,
            )
        )
        key = key_of(
            SPACE, ONE.device_id, changes.get("seq", 1), SegmentHash(blake3(data).hexdigest())
        )
        with pytest.raises(IntegrityError, match="do not open"):
            reopen(key, data)


def test_an_epoch_that_this_device_was_not_given_is_an_access_error():
    class Other(Ring):
        def epoch_key(self, epoch):
            return b"o" * 32

    sealed = seal(epoch="cd" * 16, keyring=Other())
    with pytest.raises(AccessError):
        reopen(sealed.key, sealed.data)


def raw_segment(header: bytes, body: bytes = b"\0") -> tuple[StoreKey, bytes]:
    data = b"".join(
        (
            b"TCFSSEG1",
            len(header).to_bytes(4, "big"),
            header,
            ONE.sign(b"tcfs segment v1\0" + header),
            body,
        )
    )
    return key_of(SPACE, ONE.device_id, 1, SegmentHash(blake3(data).hexdigest())), data


def test_a_signed_header_with_a_field_of_the_wrong_kind_is_refused():
    good = json.loads(encode_header(seal().header))
    wrong: list[Any] = [None, [], {}, -1, 2**70, "x", True, 1.5, "\ud800"]
    for name in good:
        for bad in wrong:
            if (name == "pack" and bad is None) or (name in ("seen", "control") and bad == {}):
                continue
            key, data = raw_segment(json.dumps(good | {name: bad}).encode())
            with pytest.raises(IntegrityError):
                reopen(key, data)


def test_a_header_with_a_key_twice_is_refused():
    raw = encode_header(seal().header)
    with pytest.raises(IntegrityError, match="strict"):
        parse_header(raw.replace(b'{"format":1', b'{"format":1,"format":1', 1))


def test_unknown_fields_of_a_header_are_ignored():
    raw = encode_header(seal().header)
    assert parse_header(raw.replace(b"{", b'{"later":[1],', 1)) == seal().header


def test_an_absurdly_deep_header_is_refused():
    with pytest.raises(IntegrityError):
        parse_header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_events_that_break_their_own_clock_are_neither_sealed_nor_opened():
    one, two = ONE.device_id, device_id(2)
    broken = [
        [ContentEvent("write", 1, manifest(b"a", {two: 1}))],
        [ContentEvent("write", 1, manifest(b"a", {one: 2}))],
        [EVENT, EVENT],
        [ContentEvent("write", 2, manifest(b"a", {one: 2})), EVENT],
        [ContentEvent("write", 2, manifest(b"a", {one: 2}, parents=((one, 2),)))],
        [ContentEvent("write", 2, manifest(b"a", {one: 2, two: 3}, parents=((two, 4),)))],
    ]
    for events in broken:
        with pytest.raises(ValueError, match="event"):
            seal(replace(DRAFT, events=tuple(events)))


def test_control_and_content_do_not_mix():
    with pytest.raises(ValueError, match="share"):
        seal(replace(DRAFT, control_events=({"op": "x"},)))
    with pytest.raises(ValueError, match="not sealed"):
        seal(SegmentDraft(replace(PLACE, namespace=CONTROL), 0, control_events=({"op": "x"},)))


def test_a_single_change_may_be_large_and_several_may_not():
    one = ONE.device_id
    big = {"later": "x" * (9 << 20)}
    first = ContentEvent("write", 1, manifest(b"a", {one: 1}, extra=big))
    second = ContentEvent("write", 2, manifest(b"b", {one: 2}))
    sealed = seal(replace(DRAFT, events=(first,)))
    assert reopen(sealed.key, sealed.data).events == (first,)
    with pytest.raises(ValueError, match="split"):
        seal(replace(DRAFT, events=(first, second)))
    huge = ContentEvent("write", 1, manifest(b"a", {one: 1}, extra={"l": "x" * (41 << 20)}))
    with pytest.raises(LimitError):
        seal(replace(DRAFT, events=(huge,)))


def test_a_body_that_unpacks_to_more_than_any_may_be_is_refused(monkeypatch):
    from tcfs.ledger import segment

    event = ContentEvent("write", 1, manifest(b"a", {ONE.device_id: 1}, extra={"l": "x" * 9000}))
    sealed = seal(replace(DRAFT, events=(event,)))
    monkeypatch.setattr(segment, "MAX_SINGLE_BODY", 8000)
    with pytest.raises(IntegrityError, match="more than 8000"):
        reopen(sealed.key, sealed.data)


def test_nothing_secret_is_in_a_repr():
    sealed = seal()
    found = reopen(sealed.key, sealed.data)
    for shown in (repr(sealed), repr(found), repr(ONE), repr(DRAFT)):
        assert "a small pack" not in shown
        assert (b"\x01" * 32).hex() not in shown
        assert repr(b"\x01" * 32) not in shown
