"""The names that secrets have in files and in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tcfs.errors import ConfigError
from tcfs.secrets.chain import (
    CLIENT_KEY_PASSWORD,
    FILER_KEY,
    OIDC_SECRET,
    S3_ACCESS,
    S3_SECRET,
    S3_TOKEN,
    SECRETS,
)

OURS: Final = MappingProxyType(
    {
        S3_ACCESS: "TCFS_S3_ACCESS",
        S3_SECRET: "TCFS_S3_SECRET",
        S3_TOKEN: "TCFS_S3_TOKEN",
        FILER_KEY: "TCFS_FILER_KEY",
        CLIENT_KEY_PASSWORD: "TCFS_CLIENT_KEY_PASSWORD",
        OIDC_SECRET: "TCFS_OIDC_SECRET",
    }
)
AWS: Final = MappingProxyType(
    {
        S3_ACCESS: "AWS_ACCESS_KEY_ID",
        S3_SECRET: "AWS_SECRET_ACCESS_KEY",
        S3_TOKEN: "AWS_SESSION_TOKEN",
    }
)

_NAMES: Final = {
    **{name: name for name in SECRETS},
    **{
        variable.lower().replace("_", "-"): name for name, variable in (*OURS.items(), *AWS.items())
    },
}
"""What a line of a credentials file may begin with (lower case, dashes), and what it means."""


def named(values: Mapping[str, str]) -> dict[str, str]:
    """The secrets among some values, by the names in ``SECRETS``; other names are left out."""
    found = {}
    for given, value in values.items():
        name = _NAMES.get(given.strip().lower().replace("_", "-"))
        if name is not None and value:
            found[name] = value
    return found


def parse_credentials(text: str, where: str) -> dict[str, str]:
    """The secrets in lines of ``name = value``.

    Names are those of ``SECRETS`` or of the environment, in either case and with dashes or
    underscores, so that an AWS credentials file with one profile, and a systemd environment file
    without quoting, can be read as well. Empty lines, comments (``#``, ``;``), one section head and
    other names are passed over.

    Raises:
        ConfigError: a line is none of that, a name comes twice, or there is a second section. The
            message names the line's number, never its text.
    """
    found: dict[str, str] = {}
    heads = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            heads += 1
            if heads > 1:
                raise _unreadable(where, number, "a second section")
            continue
        given, equals, value = line.removeprefix("export ").partition("=")
        if not equals:
            raise _unreadable(where, number, "not of the form name = value")
        name = _NAMES.get(given.strip().lower().replace("_", "-"))
        if name is None:
            continue
        if name in found:
            raise _unreadable(where, number, f"{name} for a second time")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name] = value
    return found


def format_credentials(values: Mapping[str, str]) -> str:
    """The text of a credentials file, as ``parse_credentials`` reads it."""
    return "".join(f"{name} = {values[name]}\n" for name in SECRETS if name in values)


def _unreadable(where: str, line: int, why: str) -> ConfigError:
    return ConfigError(
        f"{where}, line {line}: {why}",
        remedy=f"Write lines such as {S3_ACCESS} = … and {S3_SECRET} = …",
    )
