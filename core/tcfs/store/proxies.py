"""Which proxy leads to a server, by the variables that most programs know.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``, in either case, and what macOS is set to.
"""

from __future__ import annotations

import base64
import os
import sys
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: its host and port, and what it is to be told."""

    host: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"Proxy({self.host!r})"


def proxy_to(server: str) -> Proxy | None:
    """The proxy to ``http://host:port`` or ``https://host``, if there is one."""
    if sys.platform != "darwin" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    scheme, _, host = server.partition("://")
    found = getproxies().get(scheme)
    if not found or proxy_bypass(host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    where = parts.netloc.rpartition("@")[2]
    if parts.username is None:
        return Proxy(where, {})
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(where, {"Proxy-Authorization": f"Basic {base64.b64encode(secret).decode()}"})
