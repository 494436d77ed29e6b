"""The engine's values as JSON, for ``--json`` and for tool results."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import cache
from os import PathLike, fspath
from typing import Any

from msgspec import Struct


@cache
def field_names(cls: type) -> tuple[str, ...] | None:
    """The fields of a struct or dataclass; None for everything else."""
    if issubclass(cls, Struct):
        return cls.__struct_fields__
    return tuple(field.name for field in fields(cls)) if is_dataclass(cls) else None


def to_json(value: Any) -> Any:
    """JSON values of a result: structs and dataclasses as objects, tuples as lists.

    Fields that are None are left out; empty texts and lists stay, so that a reader finds every
    field it knows. Raises TypeError for bytes: a path must have been made text before.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, PathLike):
        return fspath(value)
    cls: type = type(value)
    names = field_names(cls)
    if names is None:
        raise TypeError(f"{cls.__name__} has no JSON form")
    found = ((name, getattr(value, name)) for name in names)
    return {name: to_json(item) for name, item in found if item is not None}


def to_json_text(value: Any, *, indent: int | None = 2) -> str:
    """``value`` as one JSON document, ASCII alone, so that no terminal and no locale minds it."""
    return json.dumps(to_json(value), indent=indent, ensure_ascii=True)
