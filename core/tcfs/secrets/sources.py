"""Secrets in the environment, in systemd's credentials, in a private file; the order of all."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tcfs.errors import ConfigError
from tcfs.host.private import read_secret, stamp_of
from tcfs.model.paths import show
from tcfs.secrets.chain import (
    S3_ACCESS,
    SECRETS,
    CredentialChain,
    CredentialSource,
    SourceState,
)
from tcfs.secrets.files import file_state, text_of
from tcfs.secrets.names import AWS, OURS, format_credentials, parse_credentials

if TYPE_CHECKING:
    from tcfs.config.schema import Config

__all__ = [
    "AWS",
    "OURS",
    "DirectorySource",
    "EnvironmentSource",
    "FileSource",
    "credential_chain",
    "format_credentials",
    "parse_credentials",
]


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
        return tuple(stamp_of(self.directory / name) for name in SECRETS)

    def read(self) -> Mapping[str, str]:
        found = {}
        for name in SECRETS:
            data = read_secret(self.directory / name, private=False)
            if data is not None:
                found[name] = text_of(data, self.directory / name).strip()
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
        return file_state(self.name, self.path)

    def stamp(self) -> Hashable:
        return stamp_of(self.path)

    def read(self) -> Mapping[str, str]:
        data = read_secret(self.path, private=True)
        if data is None:
            raise ConfigError(
                f"{self.setting} names a file that is not there: {show(os.fsencode(self.path))}",
                remedy=f"Write it, mode 0600, or unset {self.setting}.",
            )
        return parse_credentials(text_of(data, self.path), show(os.fsencode(self.path)))


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
    # Sources that have to be opened with a key of their own: read only if none before has any.
    if config.secrets.sops_dir is not None:
        from tcfs.secrets.age import AgeIdentities
        from tcfs.secrets.sealed import SealedSource

        identities = AgeIdentities(env, config.secrets.age_identity)
        sources.append(SealedSource(config.secrets.sops_dir, identities))
    if config.secrets.kdbx_path is not None:
        from tcfs.secrets.kdbx import Database, KdbxSource

        secrets = config.secrets
        database = Database(config.secrets.kdbx_path, secrets.kdbx_key_file, env)
        sources.append(KdbxSource(database, secrets.kdbx_entry))
    if aws:
        sources.append(AwsSource(custom_endpoint=not config.storage.endpoint.startswith("s3://")))
    return CredentialChain(sources)
