"""Secrets in the environment, in systemd's credentials, in a private file; the order of all."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tcfs.errors import AccessError, ConfigError, LocalFileError
from tcfs.model.paths import show
from tcfs.secrets.chain import (
    FILER_KEY,
    S3_ACCESS,
    S3_SECRET,
    S3_TOKEN,
    SECRETS,
    CredentialChain,
    CredentialSource,
    SourceState,
)

if TYPE_CHECKING:
    from tcfs.config.schema import Config

OURS: Final = MappingProxyType(
    {
        S3_ACCESS: "TCFS_S3_ACCESS",
        S3_SECRET: "TCFS_S3_SECRET",
        S3_TOKEN: "TCFS_S3_TOKEN",
        FILER_KEY: "TCFS_FILER_KEY",
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

_LONGEST: Final = 1 << 16
"""Bytes of a credentials file; a longer one is something else."""


@dataclass(frozen=True)
class EnvironmentSource:
    """Variables of the environment: for each secret the one that holds it."""

    environ: Mapping[str, str]
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"environment {self.variables[S3_ACCESS]}"

    def state(self) -> SourceState:
        found = [variable for variable in self.variables.values() if self.environ.get(variable)]
        return SourceState(self.name, bool(found), f"set: {', '.join(found)}" if found else "")

    def stamp(self) -> Hashable:
        return tuple(self.environ.get(variable) for variable in self.variables.values())

    def read(self) -> Mapping[str, str]:
        return {
            name: self.environ[variable]
            for name, variable in self.variables.items()
            if self.environ.get(variable)
        }


@dataclass(frozen=True)
class DirectorySource:
    """A directory with a file for each secret, named as in ``SECRETS``: systemd's credentials.

    Each file's text is the secret; a line end after it does not count. systemd keeps the directory
    from others, so its modes are not looked at.
    """

    directory: Path

    @property
    def name(self) -> str:
        return "$CREDENTIALS_DIRECTORY"

    def state(self) -> SourceState:
        found = [name for name in SECRETS if (self.directory / name).exists()]
        shown = show(os.fsencode(self.directory))
        return SourceState(self.name, bool(found), f"{shown}: {', '.join(found) or 'none of ours'}")

    def stamp(self) -> Hashable:
        return tuple(_stamp(self.directory / name) for name in SECRETS)

    def read(self) -> Mapping[str, str]:
        found = {}
        for name in SECRETS:
            data = _read(self.directory / name, private=False)
            if data is not None:
                found[name] = _text(data, self.directory / name).strip()
        return found


@dataclass(frozen=True)
class FileSource:
    """A file of mode 0600 with lines ``name = value``, as ``parse_credentials`` reads them."""

    path: Path
    setting: str

    @property
    def name(self) -> str:
        return self.setting

    def state(self) -> SourceState:
        shown = show(os.fsencode(self.path))
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except OSError as error:
            return SourceState(self.name, False, f"{shown}: {error.strerror}")
        warning = ": others can read it" if mode & 0o077 else ""
        return SourceState(self.name, True, f"{shown}, mode {mode:04o}{warning}")

    def stamp(self) -> Hashable:
        return _stamp(self.path)

    def read(self) -> Mapping[str, str]:
        data = _read(self.path, private=True)
        if data is None:
            raise ConfigError(
                f"{self.setting} names a file that is not there: {show(os.fsencode(self.path))}",
                remedy=f"Write it, mode 0600, or unset {self.setting}.",
            )
        return parse_credentials(_text(data, self.path), show(os.fsencode(self.path)))


def credential_chain(
    config: Config, *, environ: Mapping[str, str] | None = None, aws: bool = True
) -> CredentialChain:
    """The sources of this device in their order.

    Args:
        config: the settings; ``storage.credentials_file`` is one source.
        environ: the environment; by default the process's own.
        aws: whether to end with what the AWS programs use.
    """
    from tcfs.secrets.aws import AwsSource

    env = os.environ if environ is None else environ
    sources: list[CredentialSource] = [EnvironmentSource(env, OURS), EnvironmentSource(env, AWS)]
    if env.get("CREDENTIALS_DIRECTORY"):
        sources.append(DirectorySource(Path(env["CREDENTIALS_DIRECTORY"])))
    if config.storage.credentials_file is not None:
        sources.append(FileSource(config.storage.credentials_file, "storage.credentials_file"))
    # Sources that have to be opened with a key of their own stand here.
    if aws:
        sources.append(AwsSource(custom_endpoint=not config.storage.endpoint.startswith("s3://")))
    return CredentialChain(sources)


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


def _stamp(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _read(path: Path, *, private: bool) -> bytes | None:
    """The file's bytes, or None if it is not there. Raises AccessError, LocalFileError."""
    shown = show(os.fsencode(path))
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LONGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LocalFileError(f"cannot read {shown}: {error.strerror}") from error
    if private and mode & 0o077:
        raise AccessError(
            f"{shown} can be read by others", remedy=f"Take that right away: chmod 600 {shown}"
        )
    if len(data) > _LONGEST:
        raise ConfigError(f"{shown} is too long for credentials", remedy="Name another file.")
    return data


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{show(os.fsencode(path))} is not text", remedy="Name another file."
        ) from None
