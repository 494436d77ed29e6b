"""Names of settings in Nix: camelCase, those of ``[sync]`` at the top, as RFC 0001 has them."""

from __future__ import annotations

import difflib
from functools import cache

from tcfs.config.schema import settings
from tcfs.errors import UsageError

_HOISTED = "sync."
FACTS = ("platform", "manager", "user", "homeDirectory", "stateVersion", "enable")
"""What a host says besides settings, as far as it is a plain value."""


def camel(name: str) -> str:
    """``conflict_mode`` as ``conflictMode``."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def option_of(key: str) -> str:
    """The name in Nix of a setting's dotted key: ``sync.device_name`` is ``deviceName``."""
    section, _, name = key.partition(".")
    return camel(name) if f"{section}." == _HOISTED else f"{camel(section)}.{camel(name)}"


@cache
def options() -> dict[str, str]:
    """Every setting's dotted key by its name in Nix."""
    return {option_of(key): key for key, _ in settings()}


def find_option(name: str) -> str:
    """The option that someone means by its name in Nix, or by its key in the TOML file.

    Raises:
        UsageError: there is none; names the nearest.
    """
    known = options()
    if name in known or name in FACTS:
        return name
    for option, key in known.items():
        if name in (key, f"sync.{option}"):
            return option
    near = difflib.get_close_matches(name, [*known, *FACTS], n=1, cutoff=0.6)
    raise UsageError(
        f"there is no setting {name[:100]!r}",
        remedy=f"Did you mean {near[0]}?" if near else "See docs/nix.md for all of them.",
    )
