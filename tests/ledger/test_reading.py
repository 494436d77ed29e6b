"""The quick reader of events takes and refuses exactly what the careful one does."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcfs.errors import IntegrityError
from tcfs.ledger.reading import _DECODE, _plain, read_event
from tcfs.model.event import ContentEvent
from tests.model.test_manifest import GOOD, LINK
from tests.model.values import DEVICES, events, json_values

WRITE = {"op": "write", "n": 3, "manifest": GOOD}
SYMLINK = {"op": "write", "n": 3, "manifest": LINK}
TEXTS = ("", "a", "../up", "x" * 1025, "zz" * 32, "ab" * 32, " a" * 32, "é", "a\0b", DEVICES[0])
NUMBERS = (0, -1, 1, 64, 0o10000, 2**63 - 1, 2**63, 1.0, True, 4 << 40, (4 << 40) + 1)


def judged(data: object) -> object:
    """What the careful reader says of a line."""
    try:
        return ContentEvent.from_json(data)
    except IntegrityError:
        return None


def read(line: bytes) -> object:
    try:
        return read_event(line)
    except IntegrityError:
        return None


@given(events())
def test_what_is_written_reads_back(event):
    assert read_event(orjson.dumps(event.to_json())) == event


def test_the_plain_form_is_what_tcfs_writes():
    """Or nothing would be gained."""
    assert _plain(_DECODE(orjson.dumps(WRITE))) == ContentEvent.from_json(WRITE)
    assert _plain(_DECODE(orjson.dumps(SYMLINK))) == ContentEvent.from_json(SYMLINK)


@st.composite
def changed(draw) -> Any:
    """An event with one field, at any depth, of another value, missing, or new."""
    data = copy.deepcopy(draw(st.sampled_from((WRITE, SYMLINK))))
    place = draw(st.sampled_from((data, data["manifest"], data["manifest"]["vclock"])))
    name = draw(st.sampled_from((*sorted(place), "target", "parents", "unknown", "moved_from")))
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        known: st.SearchStrategy[Any] = st.sampled_from(
            (*TEXTS, *NUMBERS, [], {}, None, [["x", 1]], [[DEVICES[0], 4]])
        )
        clock = st.dictionaries(st.sampled_from((*TEXTS, *DEVICES)), st.sampled_from(NUMBERS))
        place[name] = draw(st.one_of(known, clock, st.lists(known, max_size=2), json_values))
    return data


@given(changed())
@example({**WRITE, "manifest": {**GOOD, "file_hash": "a b" * 21 + "a"}})
@example({**WRITE, "manifest": {**GOOD, "mode": 420.0}})
@example({**WRITE, "op": "delete"})
def test_both_readers_agree_on_whatever_comes(data):
    try:
        line = orjson.dumps(data)
    except TypeError:
        return
    assert read(line) == judged(orjson.loads(line))


@pytest.mark.parametrize(
    "line",
    [
        b'{"op":"write","op":"delete","n":1,"n":2,"manifest":' + orjson.dumps(GOOD) + b"}",
        b'{"op":"write","n":1,"manifest":' + orjson.dumps(GOOD)[:-1] + b',"mode":1}}',
        b'{"op":"write","n":1,"manifest":' + orjson.dumps(GOOD)[:-1] + b',"mode":1.0}}',
        b'{"op":"write","n":1e0,"manifest":' + orjson.dumps(GOOD) + b"}",
        b'{"op":"write","n":1,"manifest":' + orjson.dumps(GOOD) + b"} ",
        orjson.dumps(WRITE).replace(b'"a', b'"\\ud800a', 1),
    ],
)
def test_both_readers_agree_on_unusual_json(line):
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError:
        with pytest.raises(IntegrityError):
            read_event(line)
        return
    assert read(line) == judged(data)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_event_is_an_integrity_error(line):
    with pytest.raises(IntegrityError):
        read_event(line)
