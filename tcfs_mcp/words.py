"""Arguments as a command line gives them: ``key=value`` words and one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tcfs.errors import UsageError
from tcfs_mcp.bound import clean

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def from_words(
    tool: str, kinds: Mapping[str, str], words: Iterable[str], whole: str = ""
) -> dict[str, Any]:
    """The arguments, coerced by what the tool's schema says they are.

    Args:
        tool: name of the tool, for messages.
        kinds: JSON schema type of every argument.
        words: ``key=value``; lists and objects are written as JSON.
        whole: a JSON object with arguments.

    Raises:
        UsageError: no ``=``, an unknown key, a key given twice, or text of the wrong kind.
    """
    arguments = _whole(tool, kinds, whole) if whole else {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UsageError(f"not key=value: {clean(word)[:100]!r}", remedy=usage(tool, kinds))
        name = key if key in kinds else key.replace("-", "_")
        if name not in kinds:
            raise unknown(tool, key, kinds)
        if name in arguments:
            raise UsageError(f"{name} is given twice", remedy="Give each argument once.")
        arguments[name] = _coerce(name, kinds[name], text)
    return arguments


def unknown(tool: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for an argument that a tool does not have, with the nearest one that it has."""
    names = list(known)
    import difflib

    near = difflib.get_close_matches(name.replace("-", "_"), names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    return UsageError(
        f"{tool} has no argument {clean(name)[:100]!r}", remedy=hint + usage(tool, names)
    )


def usage(tool: str, known: Iterable[str]) -> str:
    """What a tool takes, in one line."""
    names = list(known)
    return f"{tool} takes: {', '.join(names)}." if names else f"{tool} takes no arguments."


def _whole(tool: str, kinds: Mapping[str, str], text: str) -> dict[str, Any]:
    try:
        loaded = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--args is not JSON: {error}", remedy='Write it like {"key": "value"}.'
        ) from None
    if not isinstance(loaded, dict):
        raise UsageError("--args is not a JSON object", remedy='Write it like {"key": "value"}.')
    for name in loaded:
        if name not in kinds:
            raise unknown(tool, name, kinds)
    return loaded


def _coerce(name: str, kind: str, text: str) -> Any:
    if kind in ("array", "object"):
        try:
            return json.loads(text)
        except ValueError:
            raise UsageError(f"{name} is not JSON", remedy='Write it like ["a", "b"].') from None
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise UsageError(f"{name} is neither true nor false", remedy=f"Write {name}=true.")
        return _BOOLEANS[text.lower()]
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            raise UsageError(f"{name} is not a number", remedy=f"Write it like {name}=3.") from None
    return text
