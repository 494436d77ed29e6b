"""Marked packs in the state: what may be counted on, and what can still be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tcfs.content.address import ChunkAddress
from tcfs.model.ids import DEFAULT_NAMESPACE, ChunkId, PackId, StoreKey
from tcfs.state.index import PackLocation, StoredChunks
from tcfs.state.state import State

SPACE = DEFAULT_NAMESPACE
P, Q, R = (PackId(letter * 64) for letter in "abc")
X, Y = ChunkId(b"x" * 32), ChunkId(b"y" * 32)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state.db")
    for pack in (P, Q, R):
        made.index.add_pack(SPACE, PackLocation(pack, StoreKey(f"packs/{pack[:2]}/{pack}")))
    yield made
    made.close()


def at(pack: PackId) -> ChunkAddress:
    return ChunkAddress(pack, 100, 50, 0, 10)


def stored(state: State) -> set[ChunkId]:
    return StoredChunks(state.database.path, SPACE).contains_many([X, Y])


def place(state: State, chunk: ChunkId) -> PackId | None:
    found = state.index.address(SPACE, chunk)
    return found.pack if found else None


def test_a_chunk_in_a_marked_pack_is_read_there_and_stored_again(state: State) -> None:
    state.index.add_chunks(SPACE, [(X, at(P)), (Y, at(Q))])
    state.garbage.mark(SPACE, [P])
    assert stored(state) == {Y}
    assert place(state, X) == P
    assert state.garbage.uncounted(SPACE, [X, Y]) == [X]
    state.index.add_chunks(SPACE, [(X, at(R))])
    assert stored(state) == {X, Y}
    assert place(state, X) == R


def test_a_chunk_that_is_elsewhere_too_is_found_there_when_its_pack_is_marked(state: State) -> None:
    state.index.add_chunks(SPACE, [(X, at(P))])
    state.index.add_chunks(SPACE, [(X, at(Q))])
    assert place(state, X) == P
    state.garbage.mark(SPACE, [P])
    assert place(state, X) == Q
    assert stored(state) == {X}
    assert [home.id for home in state.garbage.homes(SPACE, X)] == [Q]


def test_a_mark_that_comes_first_holds_for_what_is_told_later(state: State) -> None:
    state.garbage.mark(SPACE, [P])
    told = [(X, at(P)), (Y, at(Q))]
    assert state.garbage.set_aside(SPACE, told) == [(Y, at(Q))]
    assert stored(state) == set()
    assert place(state, X) == P


def test_moved_chunks_are_found_where_they_are_now(state: State) -> None:
    state.index.add_chunks(SPACE, [(X, at(P))])
    state.garbage.prefer(SPACE, [(X, at(R)), (Y, at(R))])
    assert (place(state, X), place(state, Y)) == (R, R)
    assert [home.id for home in state.garbage.homes(SPACE, X)] == [R, P]


def test_a_pending_pack_that_is_marked_is_forgotten(state: State) -> None:
    pending = PackId("d" * 64)
    state.index.add_pack(SPACE, PackLocation(pending, StoreKey("packs/dd/x")), pending=True)
    state.index.add_chunks(SPACE, [(X, at(pending))], announced=False)
    state.garbage.mark(SPACE, [pending])
    assert state.index.pending_packs(SPACE) == []
    assert stored(state) == set()
    assert place(state, X) is None


def test_what_a_forgotten_pack_held_is_found_in_another(state: State) -> None:
    state.index.add_chunks(SPACE, [(X, at(P)), (Y, at(P))])
    state.index.add_chunks(SPACE, [(X, at(Q))])
    state.index.forget_pack(P)
    assert place(state, X) == Q
    assert place(state, Y) is None


def test_what_was_swept_can_be_read_no_longer_and_stays_marked(state: State) -> None:
    state.index.add_chunks(SPACE, [(X, at(P))])
    state.garbage.mark(SPACE, [P])
    state.garbage.forget([P])
    assert place(state, X) is None
    assert state.garbage.set_aside(SPACE, [(X, at(P))]) == []
