"""Credentials in a KeePassXC database (KDBX 3.1 and 4), by the path of an entry.

``pykeepass`` is GPL and an optional extra: nothing imports it but this, when it is asked.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tcfs.errors import AccessError, ConfigError, IntegrityError, LocalFileError, NotFoundError
from tcfs.host.private import read_secret, stamp_of
from tcfs.model.paths import show
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET, SourceState
from tcfs.secrets.files import file_state, text_of
from tcfs.secrets.names import named

PASSWORD_VARIABLE: Final = "TCFS_KDBX_PASSWORD"
PASSWORD_CREDENTIAL: Final = "kdbx-password"
FIELDS: Final = ("username", "password", "url", "notes")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry without its values. ``fields`` are the names of those that are not empty."""

    path: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is, and what opens it.

    Args:
        environ: may hold the password; so may systemd's credentials.
        password: what a person typed, if anyone was asked.
    """

    path: Path
    key_file: Path | None
    environ: Mapping[str, str]
    password: str = field(default="", repr=False)

    def entries(self) -> list[Entry]:
        """Every entry, by path; those in the recycle bin are left out."""
        opened = self._open()
        found = []
        for entry in opened.entries:
            path = _path(entry)
            if path is None or (opened.recyclebin_group in _groups(entry)):
                continue
            fields = [name for name in FIELDS if getattr(entry, name)]
            fields += sorted(name for name, value in entry.custom_properties.items() if value)
            found.append(Entry(path, tuple(fields)))
        return sorted(found, key=lambda entry: entry.path)

    def resolve(self, path: str) -> dict[str, str]:
        """The values of one entry, by field; secrets.

        Raises:
            NotFoundError: there is none of that path, or there are several.
        """
        matches = [e for e in self._open().entries if _path(e) == path.strip("/")]
        if len(matches) != 1:
            raise NotFoundError(
                f"{show(os.fsencode(self.path))} has {'no entry' if not matches else 'two entries'}"
                f" {path!r}",
                remedy="See its entries with: tcfs credentials list",
            )
        entry = matches[0]
        values = {name: getattr(entry, name) for name in FIELDS}
        values |= entry.custom_properties
        return {name: str(value) for name, value in values.items() if value}

    def _open(self) -> Any:
        try:
            from pykeepass import PyKeePass
            from pykeepass.exceptions import (
                CredentialsError,
                HeaderChecksumError,
                PayloadChecksumError,
            )
        except ImportError:
            raise ConfigError(
                "KeePassXC databases need the package pykeepass",
                remedy="Install it: pip install 'tcfs[kdbx]'",
            ) from None
        import construct

        shown = show(os.fsencode(self.path))
        password = self._password()
        if password is None and self.key_file is None:
            raise AccessError(
                f"{shown} needs a password or a key file",
                remedy=f"Set {PASSWORD_VARIABLE} or secrets.kdbx_key_file.",
            )
        key = None if self.key_file is None else str(self.key_file)
        if self.key_file is not None and read_secret(self.key_file, private=True) is None:
            raise ConfigError(
                f"secrets.kdbx_key_file names a file that is not there: "
                f"{show(os.fsencode(self.key_file))}"
            )
        try:
            return PyKeePass(str(self.path), password=password, keyfile=key)
        except CredentialsError:
            raise AccessError(f"the password or key file of {shown} is another") from None
        except FileNotFoundError:
            raise NotFoundError(f"{shown} is not there", remedy="See secrets.kdbx_path.") from None
        except OSError as error:
            raise LocalFileError(f"cannot read {shown}: {error.strerror}") from error
        except (
            HeaderChecksumError,
            PayloadChecksumError,
            construct.ConstructError,
            ValueError,
        ) as error:
            raise IntegrityError(f"{shown} is damaged ({type(error).__name__})") from None

    def _password(self) -> str | None:
        if self.password:
            return self.password
        given = self.environ.get(PASSWORD_VARIABLE)
        directory = self.environ.get("CREDENTIALS_DIRECTORY")
        if given is not None or not directory:
            return given
        path = Path(directory) / PASSWORD_CREDENTIAL
        data = read_secret(path, private=False)
        return None if data is None else text_of(data, path).strip("\r\n")


@dataclass(frozen=True, slots=True)
class KdbxSource:
    """``secrets.kdbx_path``: the entry ``secrets.kdbx_entry``.

    Its user name is the access key and its password the secret key; attributes named as in
    ``SECRETS`` come before them.
    """

    database: Database
    entry: str

    @property
    def name(self) -> str:
        return "secrets.kdbx_path"

    def state(self) -> SourceState:
        found = file_state(self.name, self.database.path, private=False)
        return SourceState(found.name, found.present, f"{found.detail}, entry {self.entry!r}")

    def stamp(self) -> Hashable:
        key = self.database.key_file
        return (
            stamp_of(self.database.path),
            None if key is None else stamp_of(key),
            self.database.environ.get(PASSWORD_VARIABLE),
        )

    def read(self) -> Mapping[str, str]:
        values = self.database.resolve(self.entry)
        found = {}
        if values.get("username") and values.get("password"):
            found = {S3_ACCESS: values["username"], S3_SECRET: values["password"]}
        return found | named({k: v for k, v in values.items() if k not in FIELDS})


def _path(entry: Any) -> str | None:
    names = entry.path
    return None if names is None else "/".join(str(name) for name in names)


def _groups(entry: Any) -> list[Any]:
    found = []
    group = entry.group
    while group is not None:
        found.append(group)
        group = group.parentgroup
    return found
