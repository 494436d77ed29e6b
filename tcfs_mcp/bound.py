"""What reaches an assistant: plain JSON values, escaped, and never longer than a budget.

Names and contents are written by strangers. Everything a tool answers passes through ``render``,
so that no tool can forget: characters that cannot be seen or that steer a terminal are written as
escapes, long texts are cut, and lists are shortened until the whole fits.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from tcfs.sync.jsonify import field_names

BUDGET: Final = 9_000
"""Characters of compact JSON. A result travels twice, structured and as text: 20,000 in all."""
CALL_BUDGET: Final = 400_000
"""The same for ``call``, whose reader is a script."""
MAX_TEXT: Final = 4_096
MAX_KEYS: Final = 32
OMITTED: Final = "omitted"

_HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# Letters and marks that draw nothing: fillers, and selectors that can carry a hidden message.
_HIDDEN_RANGES: Final = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE0FFF),
)


def clean(text: str, *, multiline: bool = True) -> str:
    """``text`` with everything invisible or steering written as ``\\uXXXX``.

    Text that ``tcfs.model.paths.show`` wrote comes back nearly unchanged, and ``unshow`` reads
    these escapes too. Line feeds and tabs stay if ``multiline``.
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    for char in text:
        code = ord(char)
        if multiline and char in "\n\t":
            out.append(char)
        elif _hidden(char, code):
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            out.append(char)
    return "".join(out)


def _hidden(char: str, code: int) -> bool:
    if code < 0x7F:
        return code < 0x20
    if unicodedata.category(char) in _HIDDEN_CATEGORIES:
        return True
    return any(low <= code <= high for low, high in _HIDDEN_RANGES)


def clip(text: str, limit: int) -> str:
    """The first ``limit`` characters of ``text``, saying how many were cut."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit} more characters]"


def plain(value: Any) -> Any:
    """Structs and dataclasses as JSON values; texts escaped. Bytes never get this far."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    cls: type = type(value)
    names = field_names(cls)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {clean(str(key), multiline=False): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return clean(str(value))


def size(data: Any) -> int:
    """Characters that ``data`` takes as compact JSON."""
    return len(to_json(data))


def to_json(data: Any) -> str:
    """Compact JSON, with names in their own script."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def render(value: Any, budget: int = BUDGET) -> dict[str, Any]:
    """A tool's answer as a JSON object of at most ``budget`` characters.

    The key ``omitted`` says, by the place in the object, how many list items or characters of text
    were left out; it is empty if the answer is whole.
    """
    data = plain(value)
    if not isinstance(data, dict):
        data = {"result": data}
    data[OMITTED] = {}
    if size(data) <= budget:
        return data
    omitted: dict[str, int] = data.pop(OMITTED)
    # Texts first: one absurd name must not push everything else out.
    limit = MAX_TEXT
    _clip_texts(data, limit, "", omitted)
    room = budget - 300
    while size(data) + size(omitted) > room:
        longest = max(_long(data, ""), key=lambda found: found[0], default=None)
        if longest is not None:
            _, where, items = longest
            keep = len(items) // 2
            omitted[where] = omitted.get(where, 0) + len(items) - keep
            if isinstance(items, list):
                del items[keep:]
            else:
                for key in list(items)[keep:]:
                    del items[key]
        elif limit > 64:
            limit //= 2
            _clip_texts(data, limit, "", omitted)
        else:
            break
    data[OMITTED] = omitted
    return data


def _long(data: Any, where: str) -> list[tuple[int, str, list[Any] | dict[str, Any]]]:
    """Everything inside that can be shortened, with its size in characters and its place.

    That is lists with anything in them, and objects with more keys than any schema has.
    """
    found: list[tuple[int, str, list[Any] | dict[str, Any]]] = []
    if isinstance(data, dict):
        if len(data) > MAX_KEYS:
            found.append((size(data), where, data))
        for key, item in data.items():
            found += _long(item, f"{where}.{key}" if where else key)
    elif isinstance(data, list) and data:
        found.append((size(data), where, data))
        for item in data:
            found += _long(item, f"{where}[]")
    return found


def _clip_texts(data: Any, limit: int, where: str, omitted: dict[str, int]) -> None:
    """Cut every text longer than ``limit``, in place."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, item in list(items):
        place = f"{where}[]" if isinstance(data, list) else f"{where}.{key}" if where else str(key)
        if isinstance(item, str) and len(item) > limit:
            omitted[place] = omitted.get(place, 0) + len(item) - limit
            data[key] = clip(item, limit)
        elif isinstance(item, dict | list):
            _clip_texts(item, limit, place, omitted)
