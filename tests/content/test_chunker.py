"""How files are cut."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.content.chunker import MAX_FILE, SINGLE_MAX, cut, cut_bytes, size_class
from tcfs.content.ids import ChunkHasher
from tcfs.host.base import Reader
from tests.content.support import noise, text

TEXT = text(64 << 10)
NOISE = noise(64 << 10)
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
sizes = st.integers(SINGLE_MAX + 1, MAX_FILE)
mid_sizes = st.integers(1, 300 * KIB) | st.integers(300 * KIB, 2 * MIB)
classes = st.sampled_from([14, 15, 16, -14, -15, -17])


class Bytes:
    """A reader of bytes that answers with as few as ``most`` at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = memoryview(data)
        self._most = most

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._data), self._most)
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


def reader(data: bytes, most: int = 1 << 30) -> Reader:
    return cast(Reader, cast(Any, Bytes(data, most)))


def pieces(data: bytes, lengths: list[int]) -> list[bytes]:
    out, start = [], 0
    for length in lengths:
        out.append(data[start : start + length])
        start += length
    return out


def test_files_up_to_the_limit_are_one_chunk() -> None:
    assert size_class(0, None, b"") == 0
    assert size_class(SINGLE_MAX, 17, TEXT) == 0
    assert size_class(SINGLE_MAX + 1, 0, TEXT) == 14
    assert size_class(SINGLE_MAX + 1, None, TEXT, single_max=1 * MIB) == 0


@pytest.mark.parametrize(
    ("size", "noise", "text"),
    [
        (1 * MIB, 14, 14),
        (64 * MIB, 15, 16),
        (1 * GIB, 17, 18),
        (100 * GIB, 21, 22),
        (256 * GIB, 22, 22),
    ],
)
def test_the_average_chunk_grows_with_the_square_root_of_the_file(
    size: int, noise: int, text: int
) -> None:
    assert size_class(size, None, TEXT) == text
    assert size_class(size, None, NOISE) == -noise


def test_very_large_files_are_cut_at_fixed_offsets_whatever_they_hold() -> None:
    assert size_class(1 * TIB, None, TEXT) == -24
    assert size_class(MAX_FILE, None, TEXT) == -26
    with pytest.raises(ValueError, match="larger than"):
        size_class(MAX_FILE + 1, None, TEXT)


@given(sizes)
def test_the_class_is_what_the_format_says(size: int) -> None:
    def ideal(factor: int) -> int:
        return max(
            14,
            math.floor(math.log2(math.sqrt(24 * factor * size)) + 0.5),
            math.ceil(math.log2(size / 65536)),
        )

    assert size_class(size, None, TEXT) == (min(ideal(4), 22) if ideal(1) <= 22 else -ideal(1))
    assert size_class(size, None, NOISE) == -ideal(1)
    assert (size >> ideal(1)) <= 65536


@given(sizes)
def test_a_text_that_was_cut_into_smaller_chunks_before_keeps_them(size: int) -> None:
    plain = -size_class(size, None, NOISE)
    if plain <= 22:
        assert size_class(size, plain, TEXT) == plain


@given(sizes, st.floats(0.25, 4), st.sampled_from([TEXT, NOISE]))
def test_a_file_keeps_its_class_until_its_size_changed_fourfold(
    size: int, factor: float, sample: bytes
) -> None:
    chosen = size_class(size, None, sample)
    later = min(int(size * factor), MAX_FILE)
    if later > SINGLE_MAX:
        assert size_class(later, chosen, TEXT) == chosen


@given(st.integers(32 * MIB, MAX_FILE // 16))
def test_a_file_sixteen_times_its_size_is_cut_anew(size: int) -> None:
    chosen = size_class(size, None, TEXT)
    later = size * 16
    assert size_class(later, chosen, TEXT) == size_class(later, None, TEXT) != chosen


@given(sizes, st.integers(-63, 63))
def test_a_class_that_another_writer_chose_is_kept_only_if_it_is_sensible(
    size: int, previous: int
) -> None:
    chosen = size_class(size, previous, TEXT)
    assert chosen == previous or chosen == size_class(size, None, TEXT)
    assert -26 <= chosen <= -14 or 14 <= chosen <= 22


@given(mid_sizes, classes, st.integers(0, 9))
def test_chunks_are_the_whole_file_within_their_bounds(size: int, chosen: int, seed: int) -> None:
    data = text(size, seed)
    lengths = cut_bytes(data, chosen)
    assert sum(lengths) == size
    if chosen < 0:
        assert set(lengths[:-1]) <= {1 << -chosen}
        assert lengths[-1] <= 1 << -chosen
    else:
        assert all(1 << (chosen - 2) <= length for length in lengths[:-1])
        assert all(length <= 4 << chosen for length in lengths)


@given(
    mid_sizes,
    classes,
    st.integers(0, 9),
    st.integers(1, 600 * KIB),
    st.integers(0, 70_000),
    st.integers(1000, 400_000),
)
def test_cuts_do_not_depend_on_the_window(
    size: int, chosen: int, seed: int, window: int, read_before: int, most: int
) -> None:
    data = text(size, seed)
    head = data[:read_before]
    spans = list(cut(reader(data[len(head) :], most), size, chosen, head=head, window=window))
    assert [length for span in spans for length in span.lengths] == cut_bytes(data, chosen)
    assert b"".join(span.data for span in spans) == data
    assert all(len(span.data) == sum(span.lengths) for span in spans)


@given(mid_sizes, classes, st.integers(0, 100_000))
def test_a_file_that_ends_early_gives_what_it_has(size: int, chosen: int, missing: int) -> None:
    data = text(max(size - missing, 0))
    spans = list(cut(reader(data), size, chosen, window=200_000))
    assert b"".join(span.data for span in spans) == data


@pytest.mark.parametrize("chosen", [0, 14, -14])
def test_what_lies_beyond_the_expected_size_is_not_read(chosen: int) -> None:
    data = text(400 * KIB)
    source = reader(data)
    spans = list(cut(source, 300 * KIB, chosen))
    assert b"".join(span.data for span in spans) == data[: 300 * KIB]
    assert source.readinto(memoryview(bytearray(1 << 20))) == 100 * KIB


@pytest.mark.parametrize("chosen", [0, 14, -14])
def test_an_empty_file_has_no_chunks(chosen: int) -> None:
    assert cut_bytes(b"", chosen) == []
    assert list(cut(reader(b""), 0, chosen)) == []


def test_memory_is_bounded_by_the_window() -> None:
    data = bytes(3 * MIB)
    for chosen in (14, -14):
        spans = list(cut(reader(data), len(data), chosen, window=256 * KIB))
        assert max(len(span.data) for span in spans) <= 256 * KIB


@pytest.mark.parametrize("chosen", [14, -14])
def test_memory_of_a_window_is_used_again_once_nobody_holds_a_part_of_it(chosen: int) -> None:
    data = text(3 * MIB)
    used = {id(span.data.obj) for span in cut(reader(data), len(data), chosen, window=256 * KIB)}
    assert len(used) < 6  # of at least twelve windows; the last one has a size of its own


@given(classes, st.integers(0, 5), st.sets(st.integers(0, 40)))
def test_what_somebody_holds_of_a_window_stays_as_it_was(
    chosen: int, seed: int, held: set[int]
) -> None:
    data = text(2 * MIB, seed)
    parts: list[tuple[int, memoryview]] = []
    position = 0
    for number, span in enumerate(cut(reader(data), len(data), chosen, window=128 * KIB)):
        if number in held:
            half = len(span.data) // 2
            parts.append((position + half, span.data[half:]))
        position += len(span.data)
    assert position == len(data)
    for start, part in parts:
        assert part == data[start : start + len(part)]


def test_cuts_are_the_same_on_every_machine_and_in_every_version() -> None:
    # Of the published algorithm and gear table: if this fails, every large file is sent anew.
    assert cut_bytes(text(200_000, seed=1), 14) == [
        *(13873, 24479, 31142, 19330, 7701, 14185, 20407, 17806, 22091, 28082, 904)
    ]


def test_a_kilobyte_put_into_64_mib_sends_few_chunks_again() -> None:
    hasher = ChunkHasher(None)
    old = text(64 * MIB)
    middle = len(old) // 2
    new = old[:middle] + noise(1000, seed=5) + old[middle:]
    chosen = size_class(len(old), None, old[: 64 * KIB])
    assert size_class(len(new), chosen, new[: 64 * KIB]) == chosen == 16
    before = {hasher.chunk_id(piece) for piece in pieces(old, cut_bytes(old, chosen))}
    resent = [
        piece
        for piece in pieces(new, cut_bytes(new, chosen))
        if hasher.chunk_id(piece) not in before
    ]
    assert 1 <= len(resent) <= 4
    assert sum(map(len, resent)) < 300 * KIB
