"""The file that proves who a device is to a NATS server.

It holds one of: a user JWT with its nkey seed (a ``.creds`` file, as ``nsc`` writes it), an nkey
seed alone, ``user:password``, or a token. The JWT is the server's to verify; here it is read only
to say when it expires.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tcfs.errors import ConfigError, TcfsError
from tcfs.host.private import read_secret
from tcfs.model.paths import show

SETTING: Final = "sync.nats_credentials_file"

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+([A-Za-z0-9_.-]+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(SU[A-Z2-7]{56})\s+-+END USER NKEY SEED-+")
_BARE_SEED = re.compile(r"SU[A-Z2-7]{56}")


@dataclass(frozen=True, slots=True)
class NatsLogin:
    """What a file of NATS credentials holds; fields that it has not are empty.

    Attributes:
        expires: unix seconds at which the JWT ends; None if it does not, or there is none.
        name: whom it says the JWT is of: a stranger's text.
    """

    jwt: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    expires: float | None = None
    name: str = ""


def read_login(path: Path) -> NatsLogin:
    """What the file holds.

    Raises:
        ConfigError: it is not there, or holds nothing of that kind.
        AccessError: others can read it.
    """
    try:
        data = read_secret(path, private=True)
    except TcfsError as error:
        raise type(error)(f"{SETTING}: {error.message}", remedy=error.remedy) from None
    if data is None:
        raise ConfigError(
            f"{SETTING} cannot be read: {show(os.fsencode(path))} is not there",
            remedy=f"Write it, mode 0600, or unset {SETTING}.",
        )
    return parse_login(data)


def parse_login(data: bytes) -> NatsLogin:
    """What the bytes of such a file mean. Raises ConfigError."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise _none_of_these() from None
    if "-BEGIN " in text:
        jwt, seed = _JWT.search(text), _SEED.search(text)
        if jwt is None or seed is None:
            raise _none_of_these()
        claims = _claims(jwt.group(1))
        expires, name = claims.get("exp"), claims.get("name")
        return NatsLogin(
            jwt=jwt.group(1),
            seed=seed.group(1),
            expires=float(expires) if isinstance(expires, int | float) and expires else None,
            name=name if isinstance(name, str) else "",
        )
    if _BARE_SEED.fullmatch(text):
        return NatsLogin(seed=text)
    if not text or "\n" in text:
        raise _none_of_these()
    user, colon, password = text.partition(":")
    return NatsLogin(user=user, password=password) if colon else NatsLogin(token=text)


def _claims(jwt: str) -> dict[str, object]:
    """The claims, which nobody verified."""
    part = jwt.split(".")[1] if jwt.count(".") == 2 else ""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{SETTING} holds a JWT that cannot be read", remedy="Have it made anew.")
    return found


def _none_of_these() -> ConfigError:
    return ConfigError(
        f"{SETTING} is no .creds file, nkey seed, user:password or token",
        remedy="Write one of these into it.",
    )
