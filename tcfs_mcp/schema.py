"""Argument models and schemas, built from the tools' signatures.

Unknown arguments are refused: a misspelt ``dry-run`` must not push for real. Server and ``call``
share these models, so that both take and refuse the same.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from msgspec.json import schema_components
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from tcfs.errors import UsageError
from tcfs_mcp.bound import OMITTED
from tcfs_mcp.registry import ToolSpec
from tcfs_mcp.words import unknown as unknown_argument
from tcfs_mcp.words import usage

_KINDS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    tuple: "array",
    dict: "object",
}

_OMITTED_SCHEMA = {
    "type": "object",
    "additionalProperties": {"type": "integer"},
    "description": "How many list items or characters were left out, by place; {} if none.",
}


@functools.cache
def argument_model(spec: ToolSpec) -> type[BaseModel]:
    """The model of a tool's arguments."""
    hints = typing.get_type_hints(spec.function, include_extras=True)
    parameters = list(inspect.signature(spec.function).parameters.values())[1:]
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters
    }
    return create_model(
        f"{spec.name}_arguments",
        __config__=ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True),
        **fields,
    )


def input_schema(spec: ToolSpec) -> dict[str, Any]:
    """JSON schema of a tool's arguments."""
    schema = argument_model(spec).model_json_schema()
    _tidy(schema)
    return {"properties": {}, **schema}


def output_schema(spec: ToolSpec) -> dict[str, Any]:
    """JSON schema of a tool's answer, as ``bound.render`` writes it."""
    answer = typing.get_type_hints(spec.function)["return"]
    (root,), parts = schema_components((answer,), ref_template="#/$defs/{name}")
    schema: dict[str, Any] = parts.pop(root["$ref"].removeprefix("#/$defs/"))
    if parts:
        schema["$defs"] = parts
    for described in (schema, *parts.values()):
        described["description"] = inspect.cleandoc(described["description"])
    _tidy(schema)
    schema["properties"][OMITTED] = _OMITTED_SCHEMA
    schema["required"] = [*schema.get("required", []), OMITTED]
    return schema


def describe(spec: ToolSpec) -> dict[str, Any]:
    """The whole tool as JSON values: what ``tcfs-mcp tools --json`` prints."""
    return {
        "name": spec.name,
        "title": spec.title,
        "description": spec.description,
        "toolset": spec.toolset,
        "annotations": hints(spec),
        "inputSchema": input_schema(spec),
        "outputSchema": output_schema(spec),
    }


def hints(spec: ToolSpec) -> dict[str, Any]:
    """MCP's annotations of a tool. A fleet is a closed world: nothing outside it is reached."""
    return {
        "title": spec.title,
        "readOnlyHint": spec.read_only,
        "destructiveHint": spec.destructive,
        "idempotentHint": spec.read_only or spec.idempotent,
        "openWorldHint": False,
    }


def validate(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the tool takes them.

    Raises:
        UsageError: an argument is unknown, missing or of the wrong kind. Values are not repeated.
    """
    model = argument_model(spec)
    unknown = [name for name in arguments if name not in model.model_fields]
    if unknown:
        raise unknown_argument(spec.name, str(unknown[0]), model.model_fields)
    try:
        found = model.model_validate(dict(arguments))
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise UsageError(
            f"{spec.name}: {'; '.join(problems)}",
            remedy=usage(spec.name, model.model_fields),
            details={"problems": problems},
        ) from None
    values = {name: getattr(found, name) for name in model.model_fields}
    for name, value in values.items():
        if isinstance(value, str) and not _is_text(value):
            raise UsageError(
                f"{spec.name}: {name} holds half of a surrogate pair, which is no character",
                remedy="Give the name as it was shown: bytes that are no text are written \\xNN.",
            )
    return values


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def kinds(spec: ToolSpec) -> dict[str, str]:
    """JSON schema type of every argument, for ``words.from_words``."""
    found: dict[str, str] = {}
    for name, field in argument_model(spec).model_fields.items():
        annotation = field.annotation
        kind = typing.get_origin(annotation) or annotation
        found[name] = _KINDS.get(kind, "string")
    return found


def _tidy(schema: Any) -> None:
    """Drop what says nothing, as titles that repeat names; say of choices that they are text."""
    if isinstance(schema, dict):
        if all(isinstance(choice, str) for choice in schema.get("enum", [0])):
            schema["type"] = "string"
        if schema.get("required") == []:
            del schema["required"]
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for key, item in schema.items():
            if key not in ("default", "const", "enum", "examples"):
                _tidy(item)
    elif isinstance(schema, list):
        for item in schema:
            _tidy(item)
