"""The configuration: the one source for TOML, environment and Nix.

Names are imported on first use, so that a program can look at this package without paying for
pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcfs.config.jsonschema import schema_json
    from tcfs.config.load import LoadedConfig, load_config
    from tcfs.config.paths import HomePaths
    from tcfs.config.schema import Config
    from tcfs.config.show import config_show

__all__ = ["Config", "HomePaths", "LoadedConfig", "config_show", "load_config", "schema_json"]

_HOMES = {
    "Config": "schema",
    "HomePaths": "paths",
    "LoadedConfig": "load",
    "config_show": "show",
    "load_config": "load",
    "schema_json": "jsonschema",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
