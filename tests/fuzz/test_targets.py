"""No input makes a parser fail in a way of its own, or take more memory than its size explains."""

from __future__ import annotations

import os
import tracemalloc
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tcfs.content.frame import Codec, decompress
from tcfs.content.pack import decode_trailer
from tcfs.errors import ConfigError, TcfsError
from tcfs.ledger.body import decode_body
from tests.fuzz.targets import TARGETS, Target

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "50"))
"""Inputs of each kind for each parser."""
NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 0.5, -0.0, 1e308),
    *("", "0", "root", "..", "/", "\0", "\u202e", "a" * 2000, "g" * 64, "ab" * 32, "é" * 70),
    *([], [[]], [[[[]]]], [1, 2], [None], {}, {"": {}}, {"clocks": []}, {"a": 1}, ["x", 1]),
]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON value."""
    found = [at]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*at, index))
    return found


def changed(value: Any, at: tuple[Any, ...], new: Any, how: str) -> Any:
    """The value with another at a place, without it, or with one more beside it."""
    if not at:
        return new
    copy = orjson.loads(orjson.dumps(value))
    inner = copy
    for step in at[:-1]:
        inner = inner[step]
    if how == "remove":
        del inner[at[-1]]
    elif how == "add" and isinstance(inner, list):
        inner.append(new)
    elif how == "add":
        inner["unknown"] = new
    else:
        inner[at[-1]] = new
    return copy


@st.composite
def json_inputs(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A right object with up to three values replaced, removed or added."""
    value = orjson.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(places(value)))
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        value = changed(value, at, draw(st.sampled_from(NASTY)), how)
    return orjson.dumps(value)


@st.composite
def byte_inputs(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Right bytes, cut, repeated, flipped, or with others put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["cut", "flip", "put", "count", "double"]))
        if how == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "put":
            data[at:at] = draw(st.binary(max_size=24))
        elif how == "count":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\0\1"]))
        elif how == "double":
            data[at:at] = data[at : at + 40]
    return bytes(data)


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """What a target is tried with."""
    seeds = list(target.seeds)
    kinds = [st.binary(max_size=200), byte_inputs(seeds)]
    if target.json:
        kinds += [json_inputs(seeds), json_inputs(seeds)]
    return st.one_of(kinds)


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_our_own_errors_alone(name: str) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    @example(b"")
    @example(b"\xff" * 9)
    @example(b"[" * 100_000)
    @example(b'{"a":' * 5_000)
    def check(data: bytes) -> None:
        try:
            target.run(data)
        except TcfsError as error:
            told.append(error.message)

    told: list[str] = []
    check()
    unseen = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert [t for t in told if unseen & {unicodedata.category(c) for c in t}] == []


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_taken(name: str) -> None:
    refused_anyway = ("segment", "claim", "invite text")
    for seed in TARGETS[name].seeds:
        if name in refused_anyway or name == "remote path":
            continue  # Behind a signature or checksum; or wrong on purpose.
        TARGETS[name].run(seed)


BOMBS = {
    "a body that promises four billion packs": lambda: decode_body(bytes(4) + b"\xff" * 4),
    "a body that promises four billion chunks": lambda: decode_body(bytes(8) + b"\xff" * 8),
    "a trailer that promises four billion frames": lambda: decode_trailer(b"\xff" * 400),
    "a frame that promises more than may be": lambda: decompress(
        Codec.ZSTD, b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 7 + b"\x7f" + bytes(20), limit=1 << 20
    ),
    "a frame that does not say how much it is": lambda: decompress(
        Codec.ZSTD, b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x00a" * 50, limit=1 << 20
    ),
    "an object nested without end": lambda: TARGETS["manifest v2"].run(b'{"a":' * 400_000),
    "a header with a million heads": lambda: TARGETS["segment header"].run(
        b'{"seen":{' + b",".join(b'"%d":[1,""]' % n for n in range(20_000)) + b"}}"
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_follows_from_what_is_there_and_not_from_what_is_promised(bomb: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TcfsError):
            BOMBS[bomb]()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_a_range_that_runs_backwards_in_an_ignore_file_is_an_error_of_its_writer() -> None:
    with pytest.raises(ConfigError):
        TARGETS["ignore file"].run(b"[z-a]\n")
