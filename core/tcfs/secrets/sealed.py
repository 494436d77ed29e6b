"""Credentials in files that are opened with the age identity: a directory of SOPS and age files."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tcfs.errors import ConfigError, LocalFileError
from tcfs.host.private import read_secret, stamp_of
from tcfs.model.paths import show
from tcfs.secrets.age import AgeIdentities, decrypt
from tcfs.secrets.chain import SourceState
from tcfs.secrets.files import text_of
from tcfs.secrets.names import named, parse_credentials
from tcfs.secrets.sops import FORMATS, open_sops, opener_of


@dataclass(frozen=True, slots=True)
class SealedSource:
    """``secrets.sops_dir``: ``*.yaml``, ``*.json`` and ``*.env`` by sops, ``*.age`` by age.

    In a SOPS file a secret stands under its own name or that of its variable, or in a map:
    ``s3: {access: …, secret: …}``. An age file holds lines ``name = value``. Of several files each
    may add secrets; two must not differ on one.
    """

    directory: Path
    identities: AgeIdentities

    @property
    def name(self) -> str:
        return "secrets.sops_dir"

    def state(self) -> SourceState:
        shown = show(os.fsencode(self.directory))
        try:
            names = [show(os.fsencode(path.name)) for path in self.files()]
        except LocalFileError as error:
            return SourceState(self.name, False, error.message)
        return SourceState(
            self.name, bool(names), f"{shown}: {', '.join(names) or 'no such files'}"
        )

    def stamp(self) -> Hashable:
        try:
            return self.identities.stamp(), tuple((p.name, stamp_of(p)) for p in self.files())
        except LocalFileError as error:
            return error.message

    def read(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for path in self.files():
            for name, value in self.open(path).items():
                if found.setdefault(name, value) != value:
                    raise ConfigError(
                        f"two files in {show(os.fsencode(self.directory))} have another {name}",
                        remedy="Leave it in one of them.",
                    )
        return found

    def open(self, path: Path) -> Mapping[str, str]:
        """The secrets of one file.

        Raises:
            ConfigError, AccessError, IntegrityError: it is none of these, or does not open.
        """
        where = show(os.fsencode(path))
        data = read_secret(path, private=False)
        if data is None:
            return {}
        _, identities = self.identities.find()
        if path.suffix == ".age":
            plain = decrypt(data, identities, where)
            return parse_credentials(text_of(plain, path), where)
        return named(open_sops(data, FORMATS[path.suffix], opener_of(identities), where).flat())

    def files(self) -> list[Path]:
        """The files that count, in order. Raises LocalFileError."""
        return sorted(self._files())

    def _files(self) -> Iterator[Path]:
        try:
            if self.directory.is_file():
                yield self.directory
                return
            for entry in os.scandir(self.directory):
                path = Path(entry.path)
                known = path.suffix in FORMATS or path.suffix == ".age"
                if known and not entry.name.startswith(".") and entry.is_file():
                    yield path
        except OSError as error:
            raise LocalFileError(
                f"cannot read {show(os.fsencode(self.directory))}: {error.strerror}"
            ) from error
