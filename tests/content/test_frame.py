"""Compression of frames."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tcfs.content.frame import Codec, compress, decompress, plain_size
from tcfs.errors import IntegrityError
from tests.content.support import noise, text

MIB = 1 << 20


@given(st.binary(max_size=2000) | st.integers(1, 700_000).map(text), st.integers(1, 9))
def test_what_was_compressed_comes_back(data: bytes, level: int) -> None:
    codec, payload = compress(data, level)
    assert bytes(decompress(codec, payload)) == data
    assert plain_size(codec, payload) == len(data)
    assert len(payload) <= len(data)


@pytest.mark.parametrize("size", [1, 100, 5000, 300_000, 2 * MIB])
def test_what_does_not_shrink_is_stored_without_a_copy(size: int) -> None:
    data = noise(size)
    codec, payload = compress(data)
    assert codec is Codec.STORED
    assert payload is data


def test_a_large_frame_is_compressed_if_only_a_part_of_it_shrinks() -> None:
    data = noise(400_000) + text(200_000) + noise(400_000)
    assert compress(data)[0] is Codec.ZSTD


def test_compressors_are_not_shared_between_threads() -> None:
    data = [text(300_000, seed) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        for plain, (codec, payload) in zip(data, pool.map(compress, data), strict=True):
            assert decompress(codec, payload) == plain


@pytest.mark.parametrize("limit", [0, 1, 64 * MIB])
def test_a_bomb_is_refused_before_it_is_decompressed(limit: int) -> None:
    bomb = zstandard.compress(bytes(65 * MIB))
    assert len(bomb) < 10_000
    with pytest.raises(IntegrityError, match="more than"):
        decompress(Codec.ZSTD, bomb, limit=limit)


def test_a_stored_frame_is_bounded_too() -> None:
    with pytest.raises(IntegrityError, match="more than 9"):
        decompress(Codec.STORED, bytes(10), limit=9)


def test_a_frame_that_hides_its_size_is_refused() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(65 * MIB))
    with pytest.raises(IntegrityError, match="declares no size"):
        decompress(Codec.ZSTD, hidden)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    honest = bytearray(zstandard.compress(text(1000)))
    at = honest.index((1000 - 256).to_bytes(2, "little"))
    honest[at : at + 2] = (999 - 256).to_bytes(2, "little")
    assert plain_size(Codec.ZSTD, honest) == 999
    with pytest.raises(IntegrityError, match="does not decompress"):
        decompress(Codec.ZSTD, honest)


@pytest.mark.parametrize("codec", [2, 3, 255])
def test_an_unknown_codec_is_refused(codec: int) -> None:
    with pytest.raises(IntegrityError, match=f"unknown codec {codec}"):
        decompress(codec, b"abc")


def test_truncated_or_longer_payloads_are_refused() -> None:
    payload = zstandard.compress(text(500))
    for end in range(len(payload)):
        with pytest.raises(IntegrityError):
            decompress(Codec.ZSTD, payload[:end])
    with pytest.raises(IntegrityError):
        decompress(Codec.ZSTD, payload + b"x")
    with pytest.raises(IntegrityError):
        decompress(Codec.ZSTD, payload + payload)
