"""JWTs of NATS for tests: an operator, its accounts, their users.

The form is that of nats-io/jwt, version 2: header, claims and Ed25519 signature in base64url, each
claim set named by a hash of itself. See "JWT" in the NATS documentation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nkeys

DAY_S = 86400


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """An nkey of a kind, and what it signs."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public: str = self._pair.public_key.decode()

    def jwt(self, subject: str, name: str, nats: dict[str, Any], expires: float | None) -> str:
        """Claims about ``subject`` by the holder of this key."""
        claims: dict[str, Any] = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject,
            "nats": {"version": 2, **nats},
        }
        if expires is not None:
            claims["exp"] = int(expires)
        digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
        claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64(self._pair.sign(signed.encode()))}"


@dataclass(frozen=True)
class Creds:
    """A user's JWT and seed."""

    jwt: str
    seed: str

    def write(self, path: Path) -> Path:
        """A ``.creds`` file, in one step, in the place of whatever is there."""
        temp = path.with_suffix(".new")
        temp.touch(0o600)
        temp.write_text(
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )
        return temp.rename(path)


@dataclass
class Account:
    """An account; ``stores`` says whether it may use JetStream."""

    operator: Operator
    name: str
    stores: bool = True
    key: Key = field(default_factory=lambda: Key(nkeys.PREFIX_BYTE_ACCOUNT))

    @property
    def jwt(self) -> str:
        limits = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
        )
        if self.stores:
            limits |= dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        nats = {"type": "account", "limits": {**limits, "wildcards": True}}
        return self.operator.key.jwt(self.key.public, self.name, nats, None)

    def user(self, name: str, *, days: float | None = 365) -> Creds:
        """Credentials that are good for so many days; for ever if None."""
        key = Key(nkeys.PREFIX_BYTE_USER)
        expires = None if days is None else time.time() + days * DAY_S
        nats = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        return Creds(self.key.jwt(key.public, name, nats, expires), key.seed)


class Operator:
    """Signs accounts."""

    def __init__(self) -> None:
        self.key = Key(nkeys.PREFIX_BYTE_OPERATOR)

    def account(self, name: str) -> Account:
        return Account(self, name)

    def server_lines(self, *accounts: Account) -> str:
        """What a server's configuration says of its operator and accounts."""
        system = Account(self, "SYS", stores=False)
        jwt = self.key.jwt(self.key.public, "operator", {"type": "operator"}, None)
        known = "\n".join(f"  {a.key.public}: {a.jwt}" for a in (system, *accounts))
        return (
            f"operator: {jwt}\nsystem_account: {system.key.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{known}\n}}\n"
        )
