"""Tokens of an OpenID provider, against a provider that is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tcfs.errors import AccessError, ConfigError
from tcfs_mcp.oidc import Provider
from tests.tcfs_mcp import processes

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

keys = json.loads(sys.argv[1])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        issuer = f"http://127.0.0.1:{self.server.server_port}"
        found = {
            "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": issuer + "/keys"},
            "/keys": {"keys": keys},
        }.get(self.path)
        body = json.dumps(found).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Issuer:
    """The provider, and what it signs with."""

    def __init__(self, url: str, key: rsa.RSAPrivateKey) -> None:
        self.url = url
        self.key = key

    def token(self, *, key: Any = None, kid: str = "k1", algorithm: str = "RS256", **changes: Any):
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


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {"kid": "k1"}
    secret = {"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXRoYXQtaXMtc2hvd24tdG8tYWxsLW9mLXVz"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps([shown, secret])],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    yield Issuer(f"http://127.0.0.1:{port}", key)
    process.terminate()
    process.wait(10)
    process.stdout.close()


def provider(issuer: Issuer, *groups: str) -> Provider:
    return Provider(issuer.url, "tcfs-app", frozenset(groups))


def test_a_token_of_the_issuer_for_this_audience_is_taken(issuer: Issuer) -> None:
    assert provider(issuer).check(issuer.token())["sub"] == "42"
    assert provider(issuer, "infra", "other").check(issuer.token())["sub"] == "42"


def test_every_other_token_is_refused(issuer: Issuer) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    bad = {
        "expired": issuer.token(exp=int(time.time()) - 100),
        "without end": issuer.token(exp=None),
        "of another issuer": issuer.token(iss="http://127.0.0.1:1"),
        "for another": issuer.token(aud="other-app"),
        "of nobody": issuer.token(sub=None),
        "signed by a stranger": issuer.token(key=stranger),
        "of an unknown key": issuer.token(key=stranger, kid="k2"),
        "unsigned": jwt.encode({"iss": issuer.url, "aud": "tcfs-app"}, "", algorithm="none"),
        "with the shown secret": issuer.token(
            key="secret-that-is-shown-to-all-of-us", kid="shared", algorithm="HS256"
        ),
        "no token": "abc",
    }
    checked = provider(issuer)
    for name, token in bad.items():
        with pytest.raises(AccessError) as caught:
            checked.check(token)
        assert token not in str(caught.value), name
    with pytest.raises(AccessError, match="groups"):
        provider(issuer, "admins").check(issuer.token())


def test_a_provider_that_is_no_https_or_lies_about_itself_is_refused(issuer: Issuer) -> None:
    with pytest.raises(ConfigError, match="https"):
        Provider("http://gitlab.example", "a")
    with pytest.raises(ConfigError):
        Provider(issuer.url, "")
    with pytest.raises(AccessError, match="another issuer"):
        Provider(issuer.url + "/", "tcfs-app").check(issuer.token())


def test_the_server_asks_for_a_token_and_says_where_to_get_one(
    issuer: Issuer, tmp_path: Path
) -> None:
    options = ("--oidc-issuer", issuer.url, "--oidc-audience", "tcfs-app", "--oidc-group", "infra")
    with processes.http(tmp_path, *options) as url:
        base = url.removesuffix("/mcp")
        for header in ({}, {"Authorization": "Bearer abc"}):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(url, b"{}", header), timeout=30)
            assert caught.value.code == 401
            challenge = caught.value.headers["www-authenticate"]
            assert (
                f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"' in challenge
            )
            caught.value.close()
        with urllib.request.urlopen(
            f"{base}/.well-known/oauth-protected-resource/mcp", timeout=30
        ) as answer:
            found = json.loads(answer.read())
        assert found["resource"] == url
        assert found["authorization_servers"] == [issuer.url]
        token = tmp_path / "token"
        token.write_text(issuer.token())
        done = processes.run(
            tmp_path, "call", "daemon_status", "--server", url, "--token-file", str(token)
        )
        assert done.returncode == 0, done.stderr
