"""Lists of chunks that are told by what differs from an earlier one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.errors import IntegrityError
from tcfs.ledger.reading import read_event
from tcfs.model.abridged import AbridgedEvent, abridge, read_told
from tcfs.model.event import ContentEvent
from tcfs.model.ids import ChunkId
from tests.model.test_manifest import GOOD
from tests.model.values import DEVICES, version
from tests.values import replace

# Few, so that lists have much in common, and the same chunk more than once.
chunks = st.sampled_from([ChunkId(bytes([n]) * 32) for n in range(4)])
lists = st.lists(chunks, max_size=9).map(tuple)


def event(listed: tuple[ChunkId, ...]) -> ContentEvent:
    made = version(DEVICES[0], 9, content=1)
    manifest = replace(made.manifest, chunks=listed, file_size=len(listed))
    return ContentEvent("write", 9, manifest)


@given(lists, lists.filter(bool), st.frozensets(chunks))
def test_an_abridged_list_is_whole_again_and_names_what_has_to_be_named(earlier, later, untold):
    whole = event(later)
    told = abridge(whole, 4, earlier, untold)
    named = told.event.manifest.chunks
    assert named
    assert told.front + told.back <= len(earlier)
    assert told.front + len(named) + told.back == len(later)
    assert {chunk for chunk in later if chunk in untold} <= set(named)
    assert told.in_full(earlier) == whole
    read = read_event(orjson.dumps(told.to_json()))
    assert read == told


def test_of_a_list_with_one_change_one_chunk_is_named():
    earlier = tuple(ChunkId(n.to_bytes(32, "big")) for n in range(500))
    new = ChunkId(b"n" * 32)
    told = abridge(event((*earlier[:100], new, *earlier[101:])), 4, earlier, {new})
    assert (told.front, told.event.manifest.chunks, told.back) == (100, (new,), 399)
    assert len(orjson.dumps(told.to_json())) < 700


def abridged(**changes: Any) -> dict[str, Any]:
    listed = {"of": 2, "front": 1, "back": 0, "between": ["ab" * 32]} | changes
    return {"op": "write", "n": 3, "manifest": {**GOOD, "chunks": listed}}


def test_an_abridged_list_of_a_stranger_is_read():
    found = read_told(abridged())
    assert isinstance(found, AbridgedEvent)
    assert (found.of, found.front, found.back) == (2, 1, 0)
    assert found.event.manifest.chunks == (b"\xab" * 32,)


@pytest.mark.parametrize(
    "changes",
    [
        {"of": 0},
        {"of": 3},  # itself
        {"of": True},
        {"of": "2"},
        {"front": -1},
        {"front": 1 << 40},
        {"back": 1.0},
        {"back": None},
        {"between": []},
        {"between": ["ab"]},
        {"between": {"of": 1}},
        {"later": 1},
    ],
)
def test_an_abridged_list_that_no_writer_makes_is_refused(changes):
    with pytest.raises(IntegrityError):
        read_told(abridged(**changes))
    with pytest.raises(IntegrityError):
        read_event(orjson.dumps(abridged(**changes)))


def test_a_list_is_abridged_in_segments_alone():
    """Snapshots and what is kept of refused events have lists in full."""
    with pytest.raises(IntegrityError):
        ContentEvent.from_json(abridged())
