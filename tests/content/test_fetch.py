"""From addresses back to chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.content.address import ChunkAddress
from tcfs.content.fetch import (
    DamagedChunk,
    OpenedChunk,
    RangePlan,
    cut_windows,
    open_frames,
    plan_ranges,
    plan_together,
)
from tcfs.content.pack import Pack
from tcfs.content.seal import Cipher
from tcfs.content.unpack import PackReaders
from tcfs.errors import IntegrityError
from tcfs.model.ids import ChunkId, PackId
from tests.content.support import (
    KEYS,
    NO_KEYS,
    PLAIN,
    SEALED,
    named,
    noise,
    reader_of,
    small_pack,
)

KIB = 1 << 10
ONE, TWO = PackId("1" * 64), PackId("2" * 64)


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def at(offset: int, length: int, pack: PackId = ONE) -> ChunkAddress:
    return ChunkAddress(pack, offset, length, 0, length)


def read(pack: Pack, plan: RangePlan) -> bytes:
    return bytes(pack.data[plan.offset : plan.offset + plan.length])


@given(st.data())
def test_whatever_is_wanted_comes_back_verified(data: st.DataObject) -> None:
    frames = [[noise(1 + 37 * n, seed=9 * i + n) for n in range(3)] for i in range(8)]
    pack = small_pack(frames)
    plain = {
        name: part
        for part in (part for frame in frames for part in frame)
        for name, _ in named([part])
    }
    wanted = data.draw(st.lists(st.sampled_from(pack.chunks)))
    plans, refused = plan_ranges(
        wanted, max_gap=data.draw(st.integers(0, 500)), max_range=data.draw(st.integers(1, 2000))
    )
    assert refused == []
    got = [item for plan in plans for item in open_frames(read(pack, plan), plan, reader_of(pack))]
    opened = [(item.id, bytes(item.data)) for item in got if isinstance(item, OpenedChunk)]
    assert len(opened) == len(got) == len({name for name, _ in wanted})
    assert dict(opened) == {name: plain[name] for name, _ in wanted}


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(2, 200)), max_size=30),
    st.integers(0, 300),
    st.integers(1, 1000),
)
def test_ranges_hold_their_frames_and_keep_their_bounds(
    frames: list[tuple[int, int]], gap: int, most: int
) -> None:
    wanted = [(chunk(n), at(offset, length)) for n, (offset, length) in enumerate(frames)]
    plans, _ = plan_ranges(wanted, max_gap=gap, max_range=most)
    assert sum(len(plan.frames) for plan in plans) == len(set(frames))
    for plan in plans:
        end = plan.offset + plan.length
        assert end == max(frame.offset + frame.length for frame in plan.frames)
        assert all(plan.offset <= frame.offset for frame in plan.frames)
        assert plan.length <= most or len({frame.offset for frame in plan.frames}) == 1
        reach = plan.offset
        for frame in plan.frames:
            assert frame.offset - reach <= gap
            reach = max(reach, frame.offset + frame.length)


@given(st.data())
def test_plans_made_together_share_their_reads_and_get_what_each_wants(data: st.DataObject) -> None:
    pack = small_pack([[noise(1 + 37 * n, seed=9 * i + n) for n in range(3)] for i in range(8)])
    many = data.draw(st.lists(st.lists(st.sampled_from(pack.chunks)), max_size=4))
    gap, most = data.draw(st.integers(0, 500)), data.draw(st.integers(1, 2000))
    plans = plan_together(many, max_gap=gap, max_range=most)
    for wanted, plan in zip(many, plans, strict=True):
        got = [
            item
            for ranged in plan.ranges
            for item in open_frames(read(pack, ranged), ranged, reader_of(pack))
        ]
        assert {item.id for item in got} == {name for name, _ in wanted}
        assert len(got) == len({name for name, _ in wanted})
        assert all(isinstance(item, OpenedChunk) for item in got)
    every = [place for wanted in many for place in wanted]
    whole = plan_ranges(every, max_gap=gap, max_range=most)
    places = {ranged[:3] for plan in plans for ranged in plan.ranges}
    assert places == {ranged[:3] for ranged in whole.ranges}


def test_neighbours_are_read_together_and_strangers_apart() -> None:
    wanted = [
        (chunk(1), at(5_000_000, 1000)),
        (chunk(2), at(5_001_000, 1000)),
        (chunk(3), at(5_002_000 + 256 * KIB, 1000)),
        (chunk(4), at(9_000_000, 1000)),
        (chunk(5), at(5_000_000, 1000, TWO)),
    ]
    plans, _ = plan_ranges(reversed(wanted))
    assert [(plan.pack, plan.offset, plan.length, len(plan.frames)) for plan in plans] == [
        (ONE, 5_000_000, 3000 + 256 * KIB, 3),
        (ONE, 9_000_000, 1000, 1),
        (TWO, 5_000_000, 1000, 1),
    ]


def test_a_range_near_the_start_brings_the_header_along() -> None:
    pack = small_pack()
    (plan,) = plan_ranges(pack.chunks).ranges
    assert plan.offset == 0

    def fetch(name: PackId) -> bytes:
        raise AssertionError("the header was there already")

    data = read(pack, plan)
    reader = PackReaders(SEALED, KEYS, fetch).reader(plan.pack, plan.head(data))
    assert all(isinstance(item, OpenedChunk) for item in open_frames(data, plan, reader))


def test_a_range_far_from_the_start_does_not() -> None:
    (plan,) = plan_ranges([(chunk(1), at(1_000_000, 1000))]).ranges
    assert plan.offset == 1_000_000
    assert plan.head(bytes(1000)) is None


@pytest.mark.parametrize("cipher", [Cipher.AES_256_GCM, Cipher.NONE])
def test_a_damaged_frame_is_reported_and_the_others_still_come(cipher: Cipher) -> None:
    pack = small_pack([[b"one"], [b"two", b"three"], [b"four"]], cipher)
    broken = pack.chunks[1][1]
    pack.data[broken.frame_offset + 1] ^= 1
    (plan,) = plan_ranges(pack.chunks).ranges
    keys, scope = (NO_KEYS, PLAIN) if cipher is Cipher.NONE else (KEYS, SEALED)
    found = list(open_frames(read(pack, plan), plan, reader_of(pack, keys, scope)))
    damaged = [item for item in found if isinstance(item, DamagedChunk)]
    # Without sealing, only the chunk that holds the flipped bit is lost.
    lost = [name for name, _ in (pack.chunks[1:2] if cipher is Cipher.NONE else pack.chunks[1:3])]
    assert [item.id for item in damaged] == lost
    for item in damaged:
        assert item.error.details == {"pack": pack.id, "chunk": item.id.hex()}
    assert len(found) == 4


def test_an_address_that_points_at_other_bytes_is_reported() -> None:
    pack = small_pack([[b"one", b"two"]])
    (one, at_one), (two, at_two) = pack.chunks
    swapped = [(one, at_two), (two, at_one), (one, at_one)]
    (plan,) = plan_ranges(swapped).ranges
    found = list(open_frames(read(pack, plan), plan, reader_of(pack)))
    opened = [item.id for item in found if isinstance(item, OpenedChunk)]
    damaged = {item.id for item in found if isinstance(item, DamagedChunk)}
    assert (opened, damaged) == ([one], {one, two})


def test_an_address_past_the_end_of_its_frame_is_reported() -> None:
    pack = small_pack([[b"one", b"two"]])
    name, where = pack.chunks[1]
    for address in (where._replace(offset=4), where._replace(offset=400)):
        (plan,) = plan_ranges([(name, address)]).ranges
        (item,) = open_frames(read(pack, plan), plan, reader_of(pack))
        assert isinstance(item, DamagedChunk)


def test_a_range_that_came_short_is_reported_for_what_it_lacks() -> None:
    pack = small_pack([[b"one"], [b"two"], [b"three"]])
    (plan,) = plan_ranges(pack.chunks).ranges
    data = read(pack, plan)
    for size in range(len(data)):
        found = list(open_frames(data[:size], plan, reader_of(pack)))
        assert [item.id for item in found] == [name for name, _ in pack.chunks]
        complete = [at.frame_offset + at.frame_length <= size for _, at in pack.chunks]
        assert [isinstance(item, OpenedChunk) for item in found] == complete


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_offset": -1},
        {"frame_offset": 0},
        {"frame_length": 1},
        {"frame_length": 97 << 20},
        {"frame_offset": 96 << 20},
        {"offset": -1},
        {"length": 0},
        {"offset": 64 << 20},
        {"length": (64 << 20) + 1},
    ],
)
def test_an_impossible_address_is_refused_before_anything_is_read(changes: dict) -> None:
    good = (chunk(1), at(1000, 100))
    plans, refused = plan_ranges([(chunk(2), at(1000, 100)._replace(**changes)), good])
    assert [frame.chunks[0].id for plan in plans for frame in plan.frames] == [chunk(1)]
    ((name, error),) = refused
    assert name == chunk(2)
    assert isinstance(error, IntegrityError)
    assert error.details == {"pack": ONE, "chunk": name.hex()}


def test_nothing_wanted_plans_nothing() -> None:
    assert plan_ranges([]) == ([], [])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300)), max_size=40),
    st.integers(1, 900),
    st.integers(1, 900),
)
def test_windows_hold_all_chunks_in_order_and_keep_their_bounds(
    drawn: list[tuple[int, int]], sealed: int, plain: int
) -> None:
    located = [
        (chunk(number), ChunkAddress(ONE, 1000 * frame, 100, 0, length))
        for number, (frame, length) in enumerate(drawn)
    ]
    windows = list(cut_windows(located, sealed, plain))
    assert [pair for window in windows for pair in window] == located
    for window in windows:
        frames = {address.frame_offset for _, address in window}
        assert len(frames) == 1 or 100 * len(frames) <= sealed
        # One chunk may pass the bound, and none comes after it.
        assert sum(address.length for _, address in window[:-1]) < plain


def test_a_window_ends_where_a_frame_does() -> None:
    located = [
        (chunk(n), ChunkAddress(ONE, 500 + 100 * (n // 3), 100, n % 3, 10)) for n in range(9)
    ]
    assert [len(window) for window in cut_windows(located, 200, 1000)] == [6, 3]
