"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.config.units import parse_duration, parse_size, show_duration, show_size
from tcfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("30s", 30), ("1h30m", 5400), ("2 d", 172800), ("1W", 604800)],
)
def test_durations_are_read(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 65536),
        ("10MB", 10**7),
        ("10MiB", 10 << 20),
        ("1.5 g", 3 << 29),
    ],
)
def test_sizes_are_read(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "h", "1x", "-1", "1h-", "1h 2", "ten", "1m1", "9e9"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "k", "-1", "1kk", "1e3", "1,5"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"),
    ],
)
def test_sizes_are_shown(size: int, text: str):
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1m"),
        (200, "3m 20s"),
        (7500, "2h 5m"),
        (273600, "3d 4h"),
    ],
)
def test_durations_are_shown(seconds: float, text: str):
    assert show_duration(seconds) == text


@given(st.integers(0, 1 << 60))
def test_a_shown_size_is_near_what_it_shows(size: int):
    assert parse_size(show_size(size)) == pytest.approx(size, rel=0.06)
