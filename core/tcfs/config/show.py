"""The configuration for people and tools, with nothing secret in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tcfs.config.load import LoadedConfig

_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY_SECRET = re.compile(
    r"([?&][^=&#\s]*(?:token|secret|key|password|signature)[^=&#\s]*=)[^&#\s]*", re.IGNORECASE
)


def redact_url(text: str) -> str:
    """The text with credentials in its URLs replaced by ``***``."""
    return _QUERY_SECRET.sub(r"\1***", _USERINFO.sub("***@", text))


def config_show(loaded: LoadedConfig) -> dict[str, Any]:
    """Settings, sources, places and warnings as JSON values, redacted.

    ``config`` has a table per section; ``sources`` says for each dotted key where its value came
    from; ``endpoint`` is the store in use. A setting that is not set is null.
    """
    config = {
        section: {key: _plain(value) for key, value in table} for section, table in loaded.config
    }
    paths = loaded.paths
    return {
        "endpoint": redact_url(loaded.endpoint),
        "file": _plain(loaded.file),
        "config": config,
        "sources": dict(loaded.sources),
        "paths": {
            name: _plain(getattr(paths, name))
            for name in (
                "config_file",
                "identity_dir",
                "state_dir",
                "cache_dir",
                "data_dir",
                "runtime_dir",
                "embedded_store",
            )
        },
        "warnings": list(loaded.warnings),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        # A name that is not UTF-8 must not make the whole answer impossible to encode.
        return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
