"""Digests of settings: they say which settings of two configurations differ, and no value.

Digests are keyed with a secret of the fleet, since most settings have few possible values: without
the key, whoever holds a digest could try them all.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from blake3 import blake3
from msgspec import Struct, field

from tcfs.config.schema import Config, settings

# systemd hands credentials over at a place that is named after the unit: for the daemon another
# than for a command that is run as the daemon would run it.
_HANDED_OVER = re.compile(r"/run/credentials/[^/]+/")

DIGEST_BYTES: Final = 8
"""Of one setting. Enough to tell values apart that nobody chose to collide."""


class SettingsDigest(Struct, frozen=True):
    """A configuration without its values.

    Attributes:
        whole: of all settings, 64 hexadecimal digits.
        settings: of each by its dotted key, 16 hexadecimal digits.
    """

    whole: str
    settings: dict[str, str] = field(default_factory=dict)


def canonical(config: Config, home: str) -> dict[str, str]:
    """Each setting by dotted key, as JSON.

    A path below ``home`` is written with ``~``, so that a host's definition and the program that
    runs there agree on it. ``home`` may be empty if it is not known.
    """
    return {
        key: canonical_value(getattr(getattr(config, section), name), home)
        for key, _ in settings()
        for section, _, name in (key.partition("."),)
    }


def canonical_value(value: Any, home: str) -> str:
    """One value of a validated configuration, as JSON."""
    return json.dumps(_plain(value, home), sort_keys=True, ensure_ascii=True)


def digest(config: Config, *, home: str, key: bytes) -> SettingsDigest:
    """The digest of a configuration. ``key`` has 32 bytes."""
    found = canonical(config, home)
    each = {name: digest_of(name, text, key) for name, text in found.items()}
    whole = blake3(json.dumps(found, sort_keys=True).encode(), key=key).hexdigest()
    return SettingsDigest(whole, each)


def digest_of(name: str, text: str, key: bytes) -> str:
    """The digest of one setting's canonical text."""
    message = json.dumps([name, text]).encode()
    return blake3(message, key=key).hexdigest(length=DIGEST_BYTES)


def _plain(value: Any, home: str) -> Any:
    if isinstance(value, Path):
        text = os.fsencode(value).decode("utf-8", "backslashreplace")
        if home and (text == home or text.startswith(f"{home}/")):
            return f"~{text[len(home) :]}"
        return _HANDED_OVER.sub("/run/credentials/*/", text)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, tuple | list):
        return [_plain(item, home) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item, home) for name, item in value.items()}
    if hasattr(value, "model_dump"):
        return {name: _plain(getattr(value, name), home) for name in type(value).model_fields}
    return value
