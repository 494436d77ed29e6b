"""A device that signs in, with nobody at its keyboard."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path
from typing import Any

from tcfs.config import load_config
from tcfs.config.load import LoadedConfig
from tcfs.secrets.oauth import UserCode
from tcfs.sync.signin import SignIn, SignInStatus
from tests.oidc.provider import Issuer


class Clock:
    """Time that passes when somebody waits for it."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        return 1_800_000_000 + self.passed

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.passed += seconds


def settings(oidc: Issuer, home: Path, **more: str) -> dict[str, str]:
    """The environment of a device that may sign in."""
    return {
        "HOME": str(home),
        "TCFS_HOME": str(home / "tcfs"),
        "TCFS_AUTH_ISSUER": oidc.url,
        "TCFS_AUTH_CLIENT_ID": "tcfs-app",
        **more,
    }


def loaded(oidc: Issuer, home: Path, **more: str) -> LoadedConfig:
    return load_config(environ=settings(oidc, home, **more))


class Person:
    """Signs in on one device, and does what it is told on the way."""

    def __init__(self, oidc: Issuer, home: Path, **more: str) -> None:
        self.clock = Clock()
        self.told: list[UserCode] = []
        self.addresses: list[str] = []
        self.sign_in = SignIn(loaded(oidc, home, **more), clock=self.clock)

    def by_device(self) -> SignInStatus:
        return self.sign_in.login("device", tell=self.told.append)

    def by_browser(self) -> SignInStatus:
        browsers: list[threading.Thread] = []

        def show(address: str) -> None:
            self.addresses.append(address)
            browsers.append(threading.Thread(target=browse, args=(address,)))
            browsers[-1].start()

        try:
            return self.sign_in.login("browser", show_address=show)
        finally:
            for browser in browsers:
                browser.join(10)


def browse(address: str) -> int:
    """What a browser does with an address: goes there, and where it is sent."""
    request: Any = urllib.request.Request(address)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(answer.status)
