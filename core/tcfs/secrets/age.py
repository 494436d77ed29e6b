"""The age identity of this machine's user, and files that it opens.

Looked for in the order of the seed: what the settings name, systemd's credential ``age-identity``,
``SOPS_AGE_KEY_FILE``, ``SOPS_AGE_KEY``, then sops' own place. The first that is there counts.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tcfs.errors import AccessError, ConfigError
from tcfs.host.private import read_secret, stamp_of
from tcfs.model.paths import show
from tcfs.secrets.chain import SourceState
from tcfs.secrets.files import file_state, text_of

CREDENTIAL: Final = "age-identity"
_PREFIX: Final = "AGE-SECRET-KEY-1"
_SSH: Final = "-----BEGIN OPENSSH PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class AgeIdentities:
    """Where identities may be.

    Args:
        environ: the environment.
        setting: ``secrets.age_identity``, if it is set.
    """

    environ: Mapping[str, str]
    setting: Path | None = None

    def _places(self) -> Iterator[tuple[str, Path | None]]:
        """Names and files in order; None for a variable that holds the identity itself."""
        if self.setting is not None:
            yield "secrets.age_identity", self.setting
        if self.environ.get("CREDENTIALS_DIRECTORY"):
            yield (
                f"$CREDENTIALS_DIRECTORY/{CREDENTIAL}",
                Path(self.environ["CREDENTIALS_DIRECTORY"]) / CREDENTIAL,
            )
        if self.environ.get("SOPS_AGE_KEY_FILE"):
            yield "SOPS_AGE_KEY_FILE", Path(self.environ["SOPS_AGE_KEY_FILE"]).expanduser()
        if self.environ.get("SOPS_AGE_KEY"):
            yield "SOPS_AGE_KEY", None
        home = self.environ.get("XDG_CONFIG_HOME") or os.path.join(
            self.environ.get("HOME", "~"), ".config"
        )
        yield "sops/age/keys.txt", Path(home).expanduser() / "sops" / "age" / "keys.txt"

    def states(self) -> tuple[SourceState, ...]:
        """Every place, for people."""
        return tuple(
            SourceState(f"age identity: {name}", True, "set")
            if path is None
            else file_state(f"age identity: {name}", path, private=not name.startswith("$"))
            for name, path in self._places()
        )

    def stamp(self) -> Hashable:
        """Equal as long as the identities are."""
        return tuple(
            self.environ.get("SOPS_AGE_KEY") if path is None else stamp_of(path)
            for _, path in self._places()
        )

    def find(self) -> tuple[str, Sequence[Any]]:
        """The name of the first place that is there, and its identities (pyrage's).

        Raises:
            ConfigError: there is none, or what is there is no identity.
            AccessError: others may read it.
        """
        for name, path in self._places():
            if path is None:
                return name, parse_identities(self.environ["SOPS_AGE_KEY"], name)
            # systemd keeps its directory from others.
            data = read_secret(path, private=not name.startswith("$"))
            if data is not None:
                return name, parse_identities(text_of(data, path), show(os.fsencode(path)))
            if name in ("secrets.age_identity", "SOPS_AGE_KEY_FILE"):
                raise ConfigError(
                    f"{name} names a file that is not there: {show(os.fsencode(path))}",
                    remedy="Correct it, or make one: age-keygen -o FILE",
                )
        raise ConfigError(
            "no age identity is there to open sealed credentials with",
            remedy="Put one at ~/.config/sops/age/keys.txt (age-keygen -o FILE), or set "
            "SOPS_AGE_KEY_FILE.",
        )


def parse_identities(text: str, where: str) -> list[Any]:
    """The identities in a key file: native ones, one a line, or one OpenSSH private key.

    Raises:
        ConfigError: there is none; nothing of the text is shown.
    """
    import pyrage

    found: list[Any] = []
    try:
        if text.lstrip().startswith(_SSH):
            return [pyrage.ssh.Identity.from_buffer(text.strip().encode() + b"\n")]
        for line in text.splitlines():
            stripped = line.strip()
            if stripped and not stripped.startswith("#"):
                found.append(pyrage.x25519.Identity.from_str(stripped))
    except (pyrage.IdentityError, ValueError):
        found = []
    if not found:
        raise ConfigError(
            f"{where} holds no age identity",
            remedy=f"Each line is {_PREFIX}…; keys with a passphrase and hardware keys are not "
            "taken.",
        )
    return found


def decrypt(data: bytes, identities: Sequence[Any], what: str) -> bytes:
    """What an age file (binary or armoured) holds. Raises AccessError."""
    import pyrage

    try:
        return bytes(pyrage.decrypt(data, list(identities)))
    except pyrage.DecryptError:
        raise AccessError(
            f"{what} is not sealed to this machine's age identity, or damaged",
            remedy="Seal it to this machine's recipient too: age-keygen -y shows that.",
        ) from None
