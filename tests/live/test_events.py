"""What devices tell each other, and what is taken from it."""

from __future__ import annotations

import json

import pytest

from tcfs.live.base import MAX_EVENT
from tcfs.live.events import (
    MAX_EVENTS,
    Announcement,
    Heard,
    hear,
    messages_of,
    presence,
)
from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, Version
from tcfs.model.ids import DeviceId, NamespaceId, RelPath, SegmentHash, VersionId
from tcfs.model.manifest import SyncManifest

ANNA = DeviceId("11111111-1111-4111-8111-111111111111")
BEN = DeviceId("22222222-2222-4222-8222-222222222222")
HEAD = ChainHead(7, SegmentHash("ab" * 32))
DEFAULT = NamespaceId("default")


def understood(subject: str, data: bytes) -> Heard:
    found = hear(subject, data)
    assert found is not None
    return found


def version(counter, path, *, op="write", device=ANNA, parents=(), moved_from=None, content=b"c"):
    manifest = SyncManifest(
        rel_path=RelPath(path),
        kind="tombstone" if op == "delete" else "file",
        vclock=VectorClock({device: counter}),
        parents=tuple(parents),
        written_by="anna",
        written_at=1,
        file_hash=b"" if op == "delete" else content * 32,
        file_size=0 if op == "delete" else 5,
    )
    return Version(VersionId(device, counter), 1, 7, op, manifest, moved_from)


def told(*versions, lookup=lambda v: None, tell_paths=True):
    made = Announcement(ANNA, DEFAULT, HEAD, versions, 1700000000)
    return messages_of(made, lookup, tell_paths=tell_paths)


def test_a_write_a_delete_and_a_rename_are_told_in_the_words_that_users_know():
    messages = told(
        version(1, b"a.txt"),
        version(2, b"gone.txt", op="delete"),
        version(3, b"new.txt", moved_from=RelPath(b"old.txt")),
        version(4, b"old.txt", op="delete"),
    )
    events = [json.loads(m.data) for m in messages]
    assert [m.subject for m in messages] == [f"STATE.{ANNA}.{e['type']}" for e in events]
    head = {"namespace": "default", "seq": 7, "hash": HEAD.hash}
    common = {"device_id": ANNA, "timestamp": 1700000000, "head": head}
    assert events == [
        {
            "type": "file_synced",
            "rel_path": "a.txt",
            "blake3": "63" * 32,
            "size": 5,
            "vclock": {"clocks": {ANNA: 1}},
            "manifest_path": f"ledger/default/{ANNA}/7#1",
            **common,
        },
        {
            "type": "file_deleted",
            "rel_path": "gone.txt",
            "vclock": {"clocks": {ANNA: 2}},
            **common,
        },
        {
            "type": "file_renamed",
            "old_path": "old.txt",
            "new_path": "new.txt",
            "vclock": {"clocks": {ANNA: 3}},
            **common,
        },
    ]


@pytest.mark.parametrize(
    ("content", "resolution"), [(b"m", "keep_local"), (b"t", "keep_remote"), (b"x", "merge")]
)
def test_a_settled_conflict_says_how_it_was_settled(content: bytes, resolution: str):
    mine, theirs = version(1, b"a", content=b"m"), version(1, b"a", device=BEN, content=b"t")
    known = {v.id: v for v in (mine, theirs)}
    settled = version(2, b"a", parents=known, content=content)
    (message,) = told(settled, lookup=known.get)
    assert json.loads(message.data)["resolution"] == resolution
    assert message.subject.endswith(".conflict_resolved")


def test_an_encrypted_repository_tells_the_bus_no_path_hash_or_size():
    secret = [
        version(1, b"secret/one"),
        version(2, b"secret/two"),
        version(3, b"secret/gone", op="delete"),
        version(4, b"secret/new", moved_from=RelPath(b"secret/old")),
    ]
    messages = told(*secret, tell_paths=False)
    raw = b"".join(m.data for m in messages)
    assert b"secret" not in raw
    assert b"63" * 32 not in raw
    assert [m.subject.rpartition(".")[2] for m in messages] == [
        "file_synced",
        "file_deleted",
        "file_renamed",
    ]
    assert understood(messages[0].subject, messages[0].data).head == HEAD


def test_the_same_segment_gives_the_same_ids_and_a_large_one_is_cut_short():
    versions = [version(i, b"f%d" % i) for i in range(1, MAX_EVENTS + 51)]
    first, again = told(*versions), told(*versions)
    assert [m.id for m in first] == [m.id for m in again]
    assert len({m.id for m in first}) == len(first) == MAX_EVENTS
    assert json.loads(first[-1].data)["left_out"] == 50


def test_presence_says_where_a_chain_ends():
    heard = understood(*_parts(presence("device_online", ANNA, DEFAULT, HEAD, 12.5)))
    assert (heard.device, heard.kind, heard.namespace, heard.head) == (
        ANNA,
        "device_online",
        "default",
        HEAD,
    )
    assert understood(*_parts(presence("device_offline", ANNA, DEFAULT, None, 1))).head is None


def _parts(message):
    return message.subject, message.data


GOOD = presence("device_online", ANNA, DEFAULT, HEAD, 1)


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("STATE", GOOD.data),
        (f"OTHER.{ANNA}.file_synced", GOOD.data),
        ("STATE.not-a-device.file_synced", GOOD.data),
        (f"STATE.{BEN}.device_online", GOOD.data),  # speaks for somebody else
        (GOOD.subject, b"not json"),
        (GOOD.subject, b"[" * 60_000),
        (GOOD.subject, b"[]"),
        (GOOD.subject, b"\xff\xfe"),
        (GOOD.subject, GOOD.data[:-1] + b" " * MAX_EVENT + b"}"),
    ],
)
def test_what_is_no_event_is_heard_as_nothing(subject: str, data: bytes):
    assert hear(subject, data) is None


@pytest.mark.parametrize(
    "head",
    [
        None,
        7,
        {},
        {"namespace": "default", "seq": 0, "hash": "x"},
        {"namespace": "default", "seq": True, "hash": "x"},
        {"namespace": "default", "seq": 1 << 64, "hash": "x"},
        {"namespace": 1, "seq": 1, "hash": "x"},
        {"namespace": "default", "seq": 1, "hash": None},
    ],
)
def test_a_head_that_makes_no_sense_is_none(head: object):
    data = json.dumps({"device_id": ANNA, "head": head}).encode()
    assert understood(GOOD.subject, data).head is None
