"""The chain of credential sources.

A source holds named secrets, some or none of ``SECRETS``. Names of sources may be shown to anybody;
values go nowhere but to whoever connects with them.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import Struct

from tcfs.errors import ConfigError

S3_ACCESS: Final = "s3-access"
S3_SECRET: Final = "s3-secret"
S3_TOKEN: Final = "s3-token"
FILER_KEY: Final = "filer-key"
CLIENT_KEY_PASSWORD: Final = "client-key-password"
OIDC_SECRET: Final = "oidc-secret"

SECRETS: Final = (S3_ACCESS, S3_SECRET, S3_TOKEN, FILER_KEY, CLIENT_KEY_PASSWORD, OIDC_SECRET)
"""Access key id, secret key and session token of S3; the key that signs the tokens of a SeaweedFS
filer; what opens the encrypted private keys of client certificates; the secret of the application
that signs in at an OpenID provider."""


class SourceState(Struct, frozen=True):
    """What may be told of a source.

    Attributes:
        name: such as ``environment TCFS_S3_ACCESS``.
        present: whether there is something to read; not whether it can be used.
        detail: a path, a mode, a reason. Never a value.
    """

    name: str
    present: bool
    detail: str = ""


class CredentialSource(Protocol):
    """One place that secrets may come from."""

    @property
    def name(self) -> str:
        """For people; never a value."""
        ...

    def state(self) -> SourceState:
        """What there is, without opening or decrypting it. Cheap, and raises nothing."""
        ...

    def stamp(self) -> Hashable:
        """Equal as long as ``read`` would give the same: size and mtime of a file, say. Cheap."""
        ...

    def read(self) -> Mapping[str, str]:
        """The secrets that are here, by the names in ``SECRETS``; empty if there are none.

        Raises:
            TcfsError: there is something, and it cannot be used. That ends the search: passing
                over a damaged source would use credentials that nobody meant.
        """
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """Secrets that belong together, and where they were found."""

    source: str
    values: Mapping[str, str] = field(repr=False)


class CredentialChain:
    """Asks sources in order. Safe to use from several threads.

    What was read is kept until the stamp of its source changes, so that a changed file is taken up
    by whoever asks next.
    """

    def __init__(self, sources: Sequence[CredentialSource]) -> None:
        self._sources = tuple(sources)
        self._lock = threading.Lock()
        self._read: dict[int, tuple[Hashable, Mapping[str, str]]] = {}

    @property
    def sources(self) -> tuple[CredentialSource, ...]:
        return self._sources

    def find(self, *names: str) -> Found | None:
        """The first source that has every one of ``names``, or None.

        Raises:
            ConfigError: a source has some of the names and not all.
            TcfsError: a source cannot be used.
        """
        with self._lock:
            for number, source in enumerate(self._sources):
                values = self._values(number, source)
                have = [name for name in names if values.get(name)]
                if len(have) == len(names):
                    return Found(source.name, values)
                if have:
                    missing = ", ".join(name for name in names if name not in have)
                    raise ConfigError(
                        f"{source.name} has {', '.join(have)} and no {missing}",
                        remedy="Set both, or neither.",
                    )
        return None

    def states(self) -> tuple[SourceState, ...]:
        """Every source in order, for people."""
        return tuple(source.state() for source in self._sources)

    def _values(self, number: int, source: CredentialSource) -> Mapping[str, str]:
        stamp = source.stamp()
        known = self._read.get(number)
        if known is None or known[0] != stamp:
            known = self._read[number] = (stamp, source.read())
        return known[1]
