"""Strict JSON objects, for the few small objects whose every field is signed or decides trust.

What two readers could read in two ways is refused: a key that stands twice, NaN and infinities,
encodings other than UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tcfs.errors import IntegrityError

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")


def parse_object(data: bytes | memoryview, what: str) -> dict[str, Any]:
    """Read a JSON object of a stranger; ``what`` names it in errors.

    Raises:
        IntegrityError: not UTF-8, not JSON, not an object, or a key stands twice.
    """
    try:
        # orjson refuses other encodings, NaN, half characters and absurd depth; it takes the last
        # of two equal keys, which the standard library can be made to refuse.
        found = orjson.loads(data)
        json.loads(str(data, "utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise IntegrityError(f"{what} is not strict JSON") from None
    if not isinstance(found, dict):
        raise IntegrityError(f"{what} is not a JSON object")
    return found


def canonical(data: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces: the one form that signatures are made over."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hex_bytes(value: object, size: int, what: str) -> bytes:
    """``size`` bytes from lower-case hex. Raises IntegrityError that names ``what`` alone."""
    if isinstance(value, str) and len(value) == 2 * size and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    raise IntegrityError(f"{what} is not {size} bytes in hex")


def integer(value: object, low: int, high: int, what: str) -> int:
    """An integer in bounds. Raises IntegrityError."""
    if type(value) is not int or not low <= value <= high:
        raise IntegrityError(f"{what} is not an integer in bounds")
    return value


def text(value: object, what: str, limit: int = 1024) -> str:
    """A text of at most ``limit`` characters. Raises IntegrityError."""
    if not isinstance(value, str) or len(value) > limit:
        raise IntegrityError(f"{what} is not a short text")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made
