"""Segment bodies: what goes in comes out, and what no writer makes is refused."""

from __future__ import annotations

import contextlib
import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.content.address import MAX_FRAME, MAX_PACK
from tcfs.errors import IntegrityError
from tcfs.ledger.body import (
    decode_body,
    decode_control_body,
    encode_body,
    encode_control_body,
    encode_event,
)
from tcfs.model.event import ContentEvent
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.paths import path_problem
from tests.ledger.world import address, chunk, device_id, manifest

ONE = device_id(1)

paths = st.binary(min_size=1, max_size=40).filter(lambda path: path_problem(path) is None)


@st.composite
def events(draw):
    made = []
    for counter in range(1, draw(st.integers(0, 6)) + 1):
        numbers = draw(st.lists(st.integers(0, 9), max_size=4))
        moved = draw(st.none() | paths)
        made.append(
            ContentEvent(
                "write",
                counter,
                manifest(
                    draw(paths),
                    {ONE: counter},
                    chunks=tuple(map(chunk, numbers)),
                    file_size=10 * len(numbers),
                    parents=(VersionId(ONE, 7),) if draw(st.booleans()) else (),
                    mode=draw(st.integers(0, 0o7777)),
                    mtime_ns=draw(st.integers(-(2**60), 2**60)),
                    extra=draw(st.just({}) | st.just({"later": [1, "x", None]})),
                ),
                None if moved is None else RelPath(moved),
            )
        )
    return made


@given(events(), st.sets(st.integers(0, 9)))
def test_a_body_reads_back_as_it_was_written(made, addressed):
    table = {chunk(number): address(number, pack=number % 3) for number in addressed}
    found = decode_body(encode_body(made, table))
    assert list(found.events) == made
    named = {c for event in made for c in event.manifest.chunks}
    assert dict(found.addresses) == {c: a for c, a in table.items() if c in named}


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(-5, 5)), max_size=4))
def test_a_control_body_reads_back_as_it_was_written(made):
    assert list(decode_control_body(encode_control_body(made))) == made


@given(events(), st.sets(st.integers(0, 9)), st.data())
def test_a_damaged_body_is_refused_or_another_valid_one_and_never_a_crash(made, addressed, data):
    body = bytearray(encode_body(made, {chunk(n): address(n) for n in addressed}))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(IntegrityError):
        decode_body(body)


def test_packs_without_an_address_are_committed_too():
    made = [ContentEvent("write", 1, manifest(b"a", {ONE: 1}, chunks=(chunk(1),), file_size=10))]
    extra = [address(1, pack=7).pack, address(1).pack]
    found = decode_body(encode_body(made, {chunk(1): address(1)}, extra))
    assert found.packs == (address(1).pack, extra[0])
    twice = encode_body(made, {chunk(1): address(1)}, extra).replace(
        bytes.fromhex(extra[0]), bytes.fromhex(extra[1])
    )
    with pytest.raises(IntegrityError, match="twice"):
        decode_body(twice)


def test_a_shortened_or_lengthened_body_is_refused():
    made = [ContentEvent("write", 1, manifest(b"a", {ONE: 1}, chunks=(chunk(1),), file_size=10))]
    body = encode_body(made, {chunk(1): address(1)})
    for size in range(len(body)):
        with pytest.raises(IntegrityError):
            decode_body(body[:size])
    with pytest.raises(IntegrityError):
        decode_body(body + b"\0")


@pytest.mark.parametrize(
    "values",
    [
        (0, 1000, 0, 10),
        (200, 1, 0, 10),
        (MAX_PACK - 10, 11, 0, 10),
        (200, 1000, 0, 0),
        (200, 1000, MAX_FRAME, 1),
        (200, 1000, 0, MAX_FRAME + 1),
    ],
)
def test_an_address_that_no_pack_can_hold_is_neither_written_nor_read(values):
    made = [ContentEvent("write", 1, manifest(b"a", {ONE: 1}, chunks=(chunk(1),), file_size=10))]
    with pytest.raises(ValueError, match="no possible pack"):
        encode_body(made, {chunk(1): address(1)._replace(**dict(zip(FIELDS, values, strict=True)))})
    body = encode_body(made, {chunk(1): address(1)})
    forged = body[:-16] + struct.pack(">4I", *values)
    with pytest.raises(IntegrityError, match="address"):
        decode_body(forged)


FIELDS = ("frame_offset", "frame_length", "offset", "length")


def test_counts_beyond_the_bytes_that_are_there_are_refused_without_allocating():
    for forged in (b"\xff" * 4, bytes(4) + b"\xff" * 4, bytes(8) + b"\xff" * 4):
        with pytest.raises(IntegrityError):
            decode_body(forged)


def test_a_control_segment_with_a_table_of_chunks_is_refused():
    with pytest.raises(IntegrityError, match="table"):
        decode_control_body(bytes(4) + struct.pack(">III", 0, 1, 0))


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"op":[]}', b'{"op":"write","n":1,"manifest":{"kind":[]}}', b"{"]
)
def test_a_line_that_is_no_event_is_refused(line):
    body = struct.pack(">I", len(line) + 1) + line + b"\n" + bytes(12)
    with pytest.raises(IntegrityError):
        decode_body(body)


def test_a_manifest_whose_unknown_fields_cannot_be_written_again_is_refused():
    deep = b"[" * 600 + b"]" * 600
    line = encode_event(ContentEvent("write", 1, manifest(b"a", {ONE: 1})))
    forged = line.replace(b'"manifest":{', b'"manifest":{"later":' + deep + b",")
    assert orjson.loads(forged)
    with pytest.raises(IntegrityError, match="kept"):
        decode_body(struct.pack(">I", len(forged)) + forged + bytes(12))


def test_hashes_with_spaces_between_their_digits_are_refused():
    line = encode_event(ContentEvent("write", 1, manifest(b"a", {ONE: 1})))
    forged = line.replace((b"h" * 32).hex().encode(), b"ab " * 21 + b"a")
    assert len(forged) == len(line)
    with pytest.raises(IntegrityError, match="hash"):
        decode_body(struct.pack(">I", len(forged)) + forged + bytes(12))
