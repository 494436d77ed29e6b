"""Marks, acknowledgements and policies in the control fold: who may say what, what it proves."""

from __future__ import annotations

from typing import Any

import pytest

from tcfs.model.access import ControlEntry, ControlState
from tcfs.model.event import ChainHead
from tcfs.model.ids import DEFAULT_NAMESPACE, ROOT_DEVICE, DeviceId, PackId, SegmentHash
from tcfs.model.membership import fold_control
from tcfs.model.retention import Hold, RetentionPolicy
from tcfs.model.upkeep import (
    Acknowledgement,
    Progress,
    ack_event,
    hold_event,
    is_past,
    mark_event,
    release_event,
    retention_event,
    snapshot_event,
)

HASH = SegmentHash("ab" * 32)
PACK = PackId("cd" * 32)
ADMIN, WRITER, READER = (DeviceId(f"{n}" * 8 + "-0000-4000-8000-" + "0" * 12) for n in "123")
RECIPIENT = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"
HEADS = {ADMIN: ChainHead(1, HASH)}


def admitted() -> list[ControlEntry]:
    roles = ((ADMIN, "admin"), (WRITER, "writer"), (READER, "reader"))
    return [
        ControlEntry(
            1,
            ROOT_DEVICE,
            1,
            i,
            {
                "op": "admit",
                "device": {
                    "device_id": device,
                    "name": role,
                    "sign_key": f"{i}1" * 32,
                    "recipient": RECIPIENT,
                    "role": role,
                    "enrolled_at": 1,
                },
            },
        )
        for i, (device, role) in enumerate(roles)
    ]


def after(*said: tuple[DeviceId, dict[str, Any]]) -> ControlState:
    entries = [
        ControlEntry(2 + i, device, 1 + i, 0, event) for i, (device, event) in enumerate(said)
    ]
    return fold_control([*admitted(), *entries], [])


MARK = mark_event(DEFAULT_NAMESPACE, [PACK], 5)
ACK = ack_event(HEADS, {DEFAULT_NAMESPACE: HEADS})
RETENTION = retention_event(DEFAULT_NAMESPACE, RetentionPolicy(9, None))
HELD = hold_event(DEFAULT_NAMESPACE, Hold("v1", HEADS))
SNAPSHOT = snapshot_event(DEFAULT_NAMESPACE, HASH, HEADS, 5)


@pytest.mark.parametrize(
    ("event", "allowed"),
    [(ACK, 3), (MARK, 2), (RETENTION, 1), (HELD, 1), (SNAPSHOT, 1)],
    ids=["ack", "mark", "retention", "hold", "snapshot"],
)
def test_each_event_takes_its_role(event: dict[str, Any], allowed: int) -> None:
    taken = [not after((device, event)).refused for device in (ADMIN, WRITER, READER)]
    assert taken == [True] * allowed + [False] * (3 - allowed)


def test_a_revoked_device_marks_nothing() -> None:
    revoke = {"op": "revoke", "device_id": WRITER, "cut": {}, "reason": ""}
    assert not after((WRITER, MARK), (ADMIN, revoke)).upkeep.marks


def test_the_last_word_on_retention_and_holds_counts() -> None:
    keep_all = retention_event(DEFAULT_NAMESPACE, RetentionPolicy())
    release = release_event(DEFAULT_NAMESPACE, "v1")
    state = after((ADMIN, RETENTION), (ADMIN, HELD), (ADMIN, keep_all), (ADMIN, release)).upkeep
    assert state.retention[DEFAULT_NAMESPACE].keeps_everything
    assert not state.holds


def test_an_expired_device_is_revoked_and_renews_no_epoch() -> None:
    epoch = {
        "op": "epoch",
        "namespace": "default",
        "epoch": "ef" * 16,
        "commitment": HASH,
        "members": [ADMIN, WRITER],
    }
    gone = {"op": "revoke", "device_id": WRITER, "cut": {}, "reason": ""}
    expired = after((ADMIN, epoch), (ADMIN, gone | {"expired": True}))
    assert expired.devices[WRITER].expired
    assert expired.devices[WRITER].revoked
    assert not expired.epochs_to_renew()
    for order in ((gone, gone | {"expired": True}), (gone | {"expired": True}, gone)):
        both = after((ADMIN, epoch), *((ADMIN, event) for event in order))
        assert not both.devices[WRITER].expired
        assert both.epochs_to_renew()


@pytest.mark.parametrize(
    "broken",
    [
        MARK | {"packs": []},
        MARK | {"packs": ["short"]},
        MARK | {"namespace": "_control"},
        ACK | {"control": {"x": [1, HASH]}},
        ACK | {"heads": {"default": {ADMIN: [0, HASH]}}},
        RETENTION | {"keep_days": 0},
        RETENTION | {"keep_versions": True},
        HELD | {"tag": "a b"},
        SNAPSHOT | {"id": 5},
    ],
)
def test_an_event_that_is_not_as_it_must_be_is_refused(broken: dict[str, Any]) -> None:
    assert after((ADMIN, broken)).refused


NOTHING = Progress()


def past(progress: Progress = NOTHING, ack: Acknowledgement | None = None, **more: Any) -> bool:
    facts: dict[str, Any] = {
        "namespace": DEFAULT_NAMESPACE,
        "progress": progress,
        "ack": ack,
        "heads": {WRITER: ChainHead(4, HASH)},
        "accepted": {(ADMIN, ChainHead(7, HASH)), (ADMIN, ChainHead(2, HASH))},
    }
    return is_past(WRITER, ADMIN, 5, **(facts | more))


def ack(seq: int, own: int) -> Acknowledgement:
    heads = {DEFAULT_NAMESPACE: {WRITER: ChainHead(own, HASH)}}
    return Acknowledgement(1, {ADMIN: ChainHead(seq, HASH)}, heads)


def test_a_segment_that_had_seen_the_mark_proves_it() -> None:
    assert past(Progress({ADMIN: ChainHead(7, HASH)}))
    assert not past(Progress({ADMIN: ChainHead(2, HASH)}))
    assert not past()


def test_an_acknowledgement_proves_it_once_all_before_it_is_known_here() -> None:
    assert past(ack=ack(7, own=4))
    assert not past(ack=ack(7, own=5))
    assert not past(ack=ack(2, own=4))


def test_a_branch_that_was_cut_off_proves_nothing() -> None:
    other = ChainHead(7, SegmentHash("ff" * 32))
    assert not past(Progress({ADMIN: other}))
