"""Signing in at a provider that others wrote, and that was certified: npm's oidc-provider."""

from __future__ import annotations

import html
import http.cookiejar
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from tcfs.config import load_config
from tcfs.secrets.oidc import Verifier
from tcfs.sync.signin import SignIn
from tests.deep import deep
from tests.npm import installed

PACKAGE = "oidc-provider@8.8.1"
SCRIPT = Path(__file__).parents[1] / "oidc" / "peer.mjs"
SERVER = "https://tcfs.example/mcp"

pytestmark = [deep, pytest.mark.slow, pytest.mark.timeout(400)]


@contextmanager
def peer(secret: str) -> Iterator[str]:
    """The provider's address."""
    library = installed(PACKAGE) / "oidc-provider" / "lib" / "index.js"
    with subprocess.Popen(
        ["node", str(SCRIPT), str(library), *([secret] if secret else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # that it is not meant for production
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def person(address: str) -> None:
    """Fill in every form that the provider shows, until it shows no more."""
    jar = http.cookiejar.CookieJar(
        policy=http.cookiejar.DefaultCookiePolicy(secure_protocols=("http", "https"))
    )
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = browser.open(address, timeout=30)
    while form := re.search(r'<form[^>]*action="([^"]*)"', body := page.read().decode()):
        given = dict(re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', body))
        given |= dict.fromkeys(re.findall(r'<input[^>]*name="(login|password)"', body), "anna")
        data = urllib.parse.urlencode({n: html.unescape(v) for n, v in given.items()}).encode()
        target = urllib.parse.urljoin(page.geturl(), html.unescape(form[1]))
        page = browser.open(target, data, timeout=30)


@pytest.mark.parametrize("secret", ["", "a-secret-of-the-application-that-is-long"])
def test_another_s_provider_and_we_understand_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("TCFS_OIDC_SECRET", secret)
    with peer(secret) as issuer:
        environ = {
            "HOME": str(tmp_path),
            "TCFS_HOME": str(tmp_path),
            "TCFS_AUTH_ISSUER": issuer,
            "TCFS_AUTH_CLIENT_ID": "tcfs-app",
            "TCFS_AUTH_CONFIDENTIAL": str(bool(secret)).lower(),
        }

        def signed_in(way: Any, **more: str) -> SignIn:
            people: list[threading.Thread] = []

            def send(address: str) -> None:
                people.append(threading.Thread(target=person, args=(address,)))
                people[-1].start()

            made = SignIn(load_config(environ={**environ, **more}))
            found = made.login(way, tell=lambda code: send(code.complete), show_address=send)
            for one in people:
                one.join(60)
            assert (found.username, found.groups) == ("anna", ("org/team",))
            return made

        for way in ("device", "browser"):
            anna = signed_in(way, TCFS_AUTH_SERVERS=SERVER)
            first, second = (anna.token_for(SERVER, (issuer,)) for _ in range(2))
            assert first != second, "renewed each time, it ends so soon"
            assert Verifier(issuer, "tcfs-app").check(second)["sub"] == "anna"
            assert anna.logout().revoked
        anna = signed_in("browser", TCFS_AUTH_AUDIENCE=SERVER)
        token = anna.token_for(SERVER, (issuer,))
        assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
        assert Verifier(issuer, SERVER).check(token)["sub"] == "anna"
        assert anna.logout().revoked
