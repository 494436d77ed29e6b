"""Showing a server the token of this device's sign-in, if it asks for one and may see it.

A server that wants a token answers 401 and names its metadata (RFC 9728). They count only if they
lie at the server itself and are about the very URL that the user named; which servers may then be
shown a token is for the settings to say (``SignIn.token_for``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from typing import Final

import anyio.to_thread
import httpx2

from tcfs.errors import AccessError, ProviderError, SignInError
from tcfs.secrets.web import get_json, is_safe
from tcfs_mcp.bound import clean

_METADATA: Final = re.compile(r'(?:^|[,\s])resource_metadata="([^"]*)"', re.IGNORECASE)

TokenFor = Callable[[str, tuple[str, ...]], str]
"""The token for a resource of one of these issuers. Blocks. Raises TcfsError."""


class BearerAuth(httpx2.Auth):
    """Shows a token to one server alone: a given one, or this device's once the server asks.

    Args:
        server: the URL that the user named.
        token_for: finds the token, and says which server may see it.
        given: the token that the user gave for this server.
    """

    def __init__(self, server: str, token_for: TokenFor | None, given: str = "") -> None:
        self._server = httpx2.URL(server)
        self._token_for = token_for
        self._given = given
        self._token = given

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """One request, and again with a token where it was refused without one."""
        if not self._is_ours(request.url):
            yield request
            return
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == 401 and self._given:
            raise AccessError(
                "the server does not take the token that was given",
                remedy="Check --token-file; or leave it out, and sign in: tcfs auth login",
            )
        if response.status_code == 401:
            address = self._metadata_of(response)
            self._token = await anyio.to_thread.run_sync(self._find, address)
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code == 401:
                raise SignInError("the server does not take the token of this sign-in")
        if response.status_code == 403:
            raise AccessError(
                "the server does not let this user in",
                remedy="Ask whoever runs it for a role: yours come with the groups in "
                "tcfs auth status.",
            )

    def _is_ours(self, url: httpx2.URL) -> bool:
        ours = self._server
        return (url.scheme, url.host, url.port) == (ours.scheme, ours.host, ours.port)

    def _metadata_of(self, response: httpx2.Response) -> str:
        """Where the server's metadata are. Raises AccessError."""
        if not is_safe(str(self._server)):
            raise AccessError(
                "the server wants a token, and it could be read on the way: its URL is not https",
                remedy="Have it served over https.",
            )
        found = _METADATA.search(response.headers.get("www-authenticate", ""))
        if found is None:
            raise AccessError(
                "the server wants a token, and does not say whose",
                remedy="Give it one with --token-file FILE.",
            )
        address = found[1]
        if not is_safe(address) or not self._is_ours(httpx2.URL(address)):
            raise _stranger("its metadata lie elsewhere")
        return address

    def _issuers(self, address: str) -> tuple[str, ...]:
        """The providers whose tokens the server takes. Blocks. Raises AccessError."""
        try:
            found = get_json(address)
        except ProviderError:
            found = None
        if found is None:
            raise _stranger("its metadata cannot be read")
        if found.get("resource") != str(self._server):
            raise _stranger(f"its metadata are about {clean(str(found.get('resource')))[:200]!r}")
        issuers = found.get("authorization_servers")
        return tuple(map(str, issuers)) if isinstance(issuers, list) else ()

    def _find(self, address: str) -> str:
        if self._token_for is None:
            raise SignInError("the server wants a token of a sign-in")
        return self._token_for(str(self._server), self._issuers(address))


def _stranger(why: str) -> AccessError:
    return AccessError(
        f"the server wants a token, and is not shown one: {why}",
        remedy="Use exactly the URL that the server calls itself by (its --public-url).",
    )
