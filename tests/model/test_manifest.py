"""Manifests and events read back as they were written; anything malformed is refused."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.errors import IntegrityError
from tcfs.model.event import ContentEvent
from tcfs.model.ids import RelPath
from tcfs.model.manifest import (
    MAX_FILE_SIZE,
    SyncManifest,
    is_manifest_v1,
    parse_manifest_v1,
)
from tests.model.values import DEVICES, events, json_values, manifests

HASH = "0a" * 32
GOOD = {
    "version": 2,
    "rel_path": "a/b",
    "kind": "file",
    "file_hash": HASH,
    "file_size": 3,
    "chunks": [HASH],
    "vclock": {"clocks": {DEVICES[0]: 1}},
    "parents": [[DEVICES[0], 1]],
    "written_by": "ann",
    "written_at": 5,
    "mode": 0o644,
    "mtime_ns": 7,
    "actor": "cli",
    "size_class": 0,
}
LINK = {**GOOD, "kind": "symlink", "file_hash": "", "file_size": 0, "chunks": [], "target": "to"}


@settings(max_examples=50)
@given(manifests())
def test_a_manifest_reads_back_as_it_was_written(manifest):
    read = SyncManifest.from_json(orjson.loads(orjson.dumps(manifest.to_json())))
    assert read == manifest
    assert read.extra == manifest.extra
    assert dict(read.vclock.clocks) == dict(manifest.vclock.clocks)


@settings(max_examples=50)
@given(events())
def test_an_event_reads_back_as_it_was_written(event):
    assert ContentEvent.from_json(orjson.loads(orjson.dumps(event.to_json()))) == event


@settings(max_examples=20)
@given(manifests(RelPath(b"caf\xe9/\xff")))
def test_a_path_that_is_not_utf8_travels_as_base64(manifest):
    data = json.loads(json.dumps(manifest.to_json()))
    assert "rel_path" not in data
    assert SyncManifest.from_json(data).rel_path == b"caf\xe9/\xff"


@settings(max_examples=50)
@given(manifests(), json_values)
def test_fields_of_a_later_version_are_kept(manifest, value):
    data = manifest.to_json() | {"from-the-future": value}
    assert SyncManifest.from_json(data).to_json()["from-the-future"] == value


def test_upstreams_manifest_without_our_fields_is_a_file():
    ours = ("kind", "parents", "mode", "mtime_ns", "actor", "size_class")
    manifest = SyncManifest.from_json({k: v for k, v in GOOD.items() if k not in ours})
    assert (manifest.kind, manifest.parents, manifest.mode) == ("file", (), 0)


WRONG: dict[str, list[object]] = {
    "version": [None, 1, 3, "2", [2]],
    "rel_path": [None, "", "/a", "../a", "a//b", "a\0", "a/.tcfs/b", "x" * 256, 1, ["a"], "\ud800"],
    "kind": [None, "", "fifo", 1, ["file"], {}],
    "file_hash": [None, "", "0a", "0g" * 32, " a" * 32, "0a " * 21 + "0", "0a" * 33, 1, "é" * 64],
    "file_size": [None, -1, MAX_FILE_SIZE + 1, 3.0, "3", True, 0],
    "chunks": [None, {}, "", [""], ["0a"], [1], [None], [HASH, ""], []],
    "vclock": [None, {}, [], {"clocks": 1}, {"clocks": {"x": 1}}, {"clocks": {DEVICES[0]: -1}}],
    "parents": [
        *(None, {}, [1], [[DEVICES[0]]], [[DEVICES[0], 0]], [[DEVICES[0], 2**63]]),
        *([[DEVICES[0], "1"]], [["x", 1]], [[1, 1]], [[DEVICES[0], 1, 1]], [[["x"], 1]]),
    ],
    "written_by": [1, [], "x" * 1025],
    "written_at": [None, -1, 2**63, 1.5, "1", False],
    "mode": [None, -1, 0o10000, 1.0, "0644"],
    "mtime_ns": [None, 2**63, -(2**63), 0.5, "0"],
    "target": ["somewhere", 1, [], "a\0b"],
    "actor": [1, {}, "x" * 1025],
    "size_class": [None, 64, -64, 1.0],
    "encrypted_file_key": [1, [], {}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_every_malformed_field_is_refused(name, value):
    SyncManifest.from_json(GOOD)
    with pytest.raises(IntegrityError):
        SyncManifest.from_json({**GOOD, name: value})


@pytest.mark.parametrize("target", [None, "", 1, "a\0b", "x" * 4097])
def test_a_symlink_without_a_usable_target_is_refused(target):
    SyncManifest.from_json(LINK)
    with pytest.raises(IntegrityError):
        SyncManifest.from_json({**LINK, "target": target})


@pytest.mark.parametrize("kind", ["dir", "symlink", "tombstone"])
def test_only_files_have_content(kind):
    with pytest.raises(IntegrityError):
        SyncManifest.from_json({**GOOD, "kind": kind, "target": "to"})


@given(st.sampled_from(sorted(GOOD)), json_values)
def test_whatever_a_field_holds_is_read_or_refused(name, value):
    try:
        manifest = SyncManifest.from_json({**GOOD, name: value})
    except IntegrityError:
        return
    assert SyncManifest.from_json(manifest.to_json()) == manifest


@given(json_values)
def test_whatever_is_no_manifest_is_refused(value):
    with pytest.raises(IntegrityError):
        SyncManifest.from_json(value)


@pytest.mark.parametrize(
    "change",
    [
        {"op": "rename"},
        {"op": None},
        {"op": ["write"]},
        {"op": "delete"},
        {"n": 0},
        {"n": 2**63},
        {"n": True},
        {"n": None},
        {"manifest": None},
        {"moved_from": "../a"},
        {"moved_from": 1},
        {"moved_from_b64": "*"},
    ],
)
def test_a_malformed_event_is_refused(change):
    good = {"op": "write", "n": 1, "manifest": GOOD}
    ContentEvent.from_json(good)
    with pytest.raises(IntegrityError):
        ContentEvent.from_json(good | change)


def test_a_write_of_a_tombstone_is_refused():
    tombstone = {**GOOD, "kind": "tombstone", "file_hash": "", "file_size": 0, "chunks": []}
    ContentEvent.from_json({"op": "delete", "n": 1, "manifest": tombstone})
    with pytest.raises(IntegrityError):
        ContentEvent.from_json({"op": "write", "n": 1, "manifest": tombstone})


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1))
def test_a_first_version_manifest_is_its_chunks(chunks):
    text = "\n".join(chunk.hex() for chunk in chunks) + "\n"
    assert is_manifest_v1(text)
    assert list(parse_manifest_v1(text)) == chunks


@pytest.mark.parametrize("text", ['{"version": 2', "{", " {}", "\n"])
def test_corrupt_json_is_never_a_first_version_manifest(text):
    assert not is_manifest_v1(text)


@pytest.mark.parametrize("text", ["zz" * 32, HASH + "00", "chunks", HASH + " " + HASH])
def test_a_first_version_manifest_of_anything_else_is_refused(text):
    with pytest.raises(IntegrityError):
        parse_manifest_v1(text)
