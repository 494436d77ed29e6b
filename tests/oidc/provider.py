"""Starting the OpenID provider of the tests, and telling it what to do."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import Pair

SERVER = Path(__file__).with_name("server.py")


class Issuer:
    """The provider, and what it signs with."""

    def __init__(
        self, url: str, key: rsa.RSAPrivateKey, trust: ssl.SSLContext | None = None
    ) -> None:
        self.url = url
        self.key = key
        self._trust = trust

    def token(self, *, key: Any = None, kid: str = "k1", algorithm: str = "RS256", **changes: Any):
        """A token that the provider could have given; None takes a claim away."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": "tcfs-app",
            "sub": "42",
            "exp": now + 300,
            "groups": ["infra", "everyone"],
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers={"kid": kid})

    def control(self, **changes: Any) -> dict[str, Any]:
        """Change what it does, and see its books."""
        return self._control(changes)

    def reset(self) -> None:
        """As it was at the beginning."""
        self._control(None)

    def _control(self, change: dict[str, Any] | None) -> dict[str, Any]:
        body = json.dumps(change).encode()
        address = f"{self.url}/control"
        with urllib.request.urlopen(address, body, timeout=10, context=self._trust) as answer:
            return dict(json.loads(answer.read()))


@contextmanager
def running(tls: Pair | None = None, trust: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    """A provider while the context lasts; with ``tls`` behind that certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k1"}
    shared = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXRoYXQtaXMtc2hvd24tdG8tYWxsLW9mLXVz"}
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        files = [str(tls.cert), str(tls.key)] if tls else None
        start = {"shown": [shown, shared], "key": pem, "tls": files}
        process.stdin.write(json.dumps(start) + "\n")
        process.stdin.flush()
        try:
            place = f"127.0.0.1:{process.stdout.readline().strip()}"
            yield Issuer(f"{'https' if tls else 'http'}://{place}", key, trust)
        finally:
            process.terminate()
