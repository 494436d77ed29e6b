"""The JSON schema of the configuration, from which the Nix modules make their options.

pydantic's own schema lacks what functions check and, where a setting also takes text, the bounds of
its number. Both are added here in the form that other readers can check with. Functions are in the
schema of ``Config``; patterns stand here because they must be POSIX extended regular expressions
too, which is what Nix has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo

from tcfs.config.schema import ENDPOINT_SCHEMES, Config, is_path, sections

_NAME = "[A-Za-z0-9][A-Za-z0-9._-]"
_PART = r"([a-z0-9_-]|\.[a-z0-9_-]|\.\.[a-z0-9._-])[a-z0-9._-]*"
_SERVERS = "|".join(s.replace("+", "[+]") for s in ENDPOINT_SCHEMES if s != "file")
_DURATION = r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$"

# Stricter than the program: a file in the Nix store is no place for credentials.
_SERVER = "(nats|tls)://[^@, ]+"
_NATS = (
    f"^({_SERVER}(,{_SERVER})*)?$",
    "empty, or URLs without credentials that begin with nats:// or tls://, by ','",
)
_LOCAL = r"http://(127\.0\.0\.1|localhost|\[::1])(:[0-9]+)?(/[^?# ]*)?"
_WEB = (
    f"^(https://[^@/?# ]+(/[^?# ]*)?|{_LOCAL})?$",
    "empty, or an https URL without credentials, '?' and '#'",
)

PATTERNS: Final = {
    "storage.endpoint": (
        f"^(file:///.*|({_SERVERS})://[^@/]*(/.*)?)?$",
        "empty, or a URL without credentials that begins with "
        + ", ".join(f"{scheme}://" for scheme in ENDPOINT_SCHEMES),
    ),
    "storage.prefix": (f"^({_PART}(/{_PART})*)?$", "names of a-z, 0-9, '.', '_' and '-', by '/'"),
    "storage.remote_name": (f"^{_NAME}*$", "letters, digits, '.', '_' and '-'"),
    "auth.issuer": _WEB,
    "auth.device_endpoint": _WEB,
    "sync.namespace": ("^[a-z0-9][a-z0-9._-]{0,62}$", "1 to 63 of a-z, 0-9, '.', '_' and '-'"),
    "sync.device_name": (
        f"^({_NAME}{{0,62}})?$",
        "empty, or 1 to 63 letters, digits, '.', '_' and '-'",
    ),
    "sync.nats_url": _NATS,
    "sync.nats_hub_url": _NATS,
}
"""What the validators of these settings accept, and in words. Anchored, in the syntax of both ECMA
and POSIX."""

_SECRET = re.compile(r"(^|_)(credentials|identity|key|kdbx|password|secret|token)(_|$)")


def is_secret(key: str, field: FieldInfo) -> bool:
    """Whether a setting names a file or directory of secrets, by its name.

    Such a file must not lie in the Nix store, which everyone on a machine can read.
    """
    return is_path(field) and _SECRET.search(key) is not None


def schema_json() -> str:
    """The JSON schema of the configuration, formatted and ending in a newline.

    ``x-secret`` marks settings for which ``is_secret`` holds, ``x-form`` says a pattern in words. A
    bound beside ``anyOf`` means the number alone, as JSON Schema has it.
    """
    schema = Config.model_json_schema()
    for section, model in sections().items():
        properties: dict[str, Any] = schema["$defs"][model.__name__]["properties"]
        for key, field in model.model_fields.items():
            found = properties[key]
            if f"{section}.{key}" in PATTERNS:
                found["pattern"], found["x-form"] = PATTERNS[f"{section}.{key}"]
            if is_secret(key, field):
                found["x-secret"] = True
            for name, bound in _bounds(field):
                found.setdefault(name, bound)
            for choice in found.get("anyOf", ()):
                # The one kind of setting that is a number or a text is a duration.
                if choice == {"type": "string"} and {"type": "number"} in found["anyOf"]:
                    choice["pattern"], choice["x-form"] = _DURATION, "text such as 30s or 1h30m"
        schema["properties"][section].pop("default", None)
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def _bounds(field: FieldInfo) -> Iterator[tuple[str, float]]:
    """The bounds of a number under JSON Schema's names."""
    names = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
    for rule in field.metadata:
        for name, known_as in names.items():
            if (bound := getattr(rule, name, None)) is not None:
                yield known_as, bound
