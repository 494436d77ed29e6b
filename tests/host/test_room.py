"""Memory that items of work lie in: found again by those who do the work, given back and reused."""

from __future__ import annotations

import pickle
import sys

import pytest

from tcfs.host.executor import ProcessExecutor, SerialExecutor, ThreadExecutor
from tcfs.host.room import GRAIN, Arena, Room
from tests.host import worker_functions as functions

needs_arena = pytest.mark.skipif(
    sys.platform != "linux", reason="memory without a name is Linux's: rooms are private elsewhere"
)


def test_a_private_room_travels_by_value():
    room = Room.private(5)
    room.view[:] = b"bytes"
    assert pickle.loads(pickle.dumps(room)).view == b"bytes"


@needs_arena
def test_rooms_of_an_arena_never_overlap_and_are_used_again():
    arena = Arena(4 * GRAIN)
    one, two, three = arena.room(GRAIN), arena.room(GRAIN + 1), arena.room(1)
    assert one is not None
    assert two is not None
    assert three is not None
    assert arena.room(1) is None
    for number, room in enumerate((one, two, three)):
        room.view[:] = bytes([number]) * len(room.view)
    assert [set(room.view) for room in (one, two, three)] == [{0}, {1}, {2}]
    two.release()
    assert arena.room(2 * GRAIN + 1) is None
    again = arena.room(2 * GRAIN)
    assert again is not None
    assert set(again.view) == {1}
    one.release()
    assert arena.room(0) is not None
    arena.close()


@needs_arena
def test_workers_see_what_was_put_into_a_room_and_it_does_not_pass_the_pipe():
    executor = ProcessExecutor(2)
    executor.start()  # also those that were started before the first room was asked for
    for _ in range(3):
        rooms = [executor.room(300_000) for _ in range(8)]
        for number, room in enumerate(rooms):
            room.view[:300_000] = bytes([number]) * 300_000
            assert len(pickle.dumps(room)) < 200
        found = sorted(executor.map(functions.first_and_size, rooms))
        assert found == [(number, len(rooms[0].view)) for number in range(8)]
        for room in rooms:
            room.release()
    executor.close()


def test_where_there_is_no_such_memory_rooms_are_private(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("os.memfd_create", raising=False)
    assert Arena.of(1 << 20) is None
    executor = ProcessExecutor(2)
    room = executor.room(5)
    room.view[:] = b"bytes"
    assert list(executor.map(functions.first_and_size, [room])) == [(ord("b"), 5)]
    executor.close()


@pytest.mark.parametrize(
    "make", [SerialExecutor, lambda: ThreadExecutor(2), lambda: ProcessExecutor(2)]
)
def test_every_executor_has_room_for_more_than_it_shares(make):
    executor = make()
    rooms = [executor.room(9 << 20) for _ in range(6)]
    for number, room in enumerate(rooms):
        room.view[0] = number
    found = sorted(executor.map(functions.first_and_size, rooms, ahead=1))
    assert [first for first, _ in found] == list(range(6))
    assert all(size >= 9 << 20 for _, size in found)
    executor.close()
