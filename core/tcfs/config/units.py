"""Durations and sizes as people write them: ``1h30m``, ``64MiB``."""

from __future__ import annotations

import re
from typing import Final

from tcfs.errors import UsageError

_SECONDS: Final = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b?)", re.IGNORECASE)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``30s``, ``1h30m``, ``2d`` or ``1w``. Raises UsageError."""
    compact = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(?:\.\d+)?", compact):
        return float(compact)
    parts = _DURATION_PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UsageError(
            f"not a duration: {text!r}", remedy="Write it like 90, 30s, 15m, 1h30m, 2d or 1w."
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(text: str) -> int:
    """Bytes of ``4096``, ``64k``, ``10MB`` (decimal) or ``10MiB`` (binary). Raises UsageError.

    A bare letter is binary, as ``dd`` and ``du`` have it.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"not a size: {text!r}", remedy="Write it like 4096, 64k, 10MB (10^6) or 10MiB (2^20)."
        )
    number, letter, binary, has_unit = match.groups()
    base = 1000 if letter and has_unit and not binary else 1024
    return int(float(number) * base ** _POWER[letter.lower()])


def show_size(size: int) -> str:
    """``0 B``, ``1.5 KiB``, ``3.0 GiB``: at most four digits and a binary unit."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def show_duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3m 20s``, ``2h 5m``, ``3d 4h``: the two largest units."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    rest = round(seconds)
    if rest < 60:
        return f"{rest} s"
    parts: list[str] = []
    for letter in "dhms":
        number, rest = divmod(rest, int(_SECONDS[letter]))
        if number or parts:
            parts.append(f"{number}{letter}" if number else "")
    return " ".join(part for part in parts[:2] if part)
