"""Telling systemd how a service is: sd_notify(3), by the protocol alone."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Speaks to the socket that ``NOTIFY_SOCKET`` names; without one it is silent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_s: float | None = int(usec) / 1e6 if usec.isdigit() and mine else None
        """Systemd restarts the service unless it hears of it this often."""

    def send(self, **fields: str) -> None:
        """Send fields such as ``READY="1"``. A supervisor that is gone is no trouble of ours."""
        if not self._address:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        lines = (f"{key}={value}".splitlines()[0] for key, value in fields.items())
        text = "\n".join(lines)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(name)
            s.send(text.encode())

    def reloading(self) -> None:
        """Say that a reload begins, as ``Type=notify-reload`` wants it; ``READY=1`` ends it."""
        self.send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
