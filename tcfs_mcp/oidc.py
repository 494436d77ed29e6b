"""Letting in who an OpenID provider (GitLab, say) vouches for: bearer tokens on the HTTP server.

Discovery and keys as in OpenID Connect Discovery 1.0 and RFC 7517; a request without a good token
gets 401 with a pointer to this resource's metadata (RFC 9728), as the MCP authorization
specification asks.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from tcfs.errors import AccessError, ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

METADATA: Final = "/.well-known/oauth-protected-resource"
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures with a public key only: with a shared one a token could be made from the key set."""
LEEWAY_S: Final = 30.0
_FRESH_S: Final = 600.0
_AGAIN_S: Final = 10.0
"""Least time between fetches of the keys: a stranger's tokens must not make many."""
_LONGEST: Final = 1 << 20


@dataclass(slots=True)
class Provider:
    """One issuer and what its tokens must say.

    Attributes:
        issuer: its URL; https, or on this machine.
        audience: what tokens must be for.
        groups: the user must be in one of these; empty: any user of the provider.
    """

    issuer: str
    audience: str
    groups: frozenset[str] = frozenset()
    _keys: dict[str, Any] = field(default_factory=dict, repr=False)
    _fetched: float = float("-inf")

    def __post_init__(self) -> None:
        place = urllib.parse.urlsplit(self.issuer)
        local = place.hostname in ("127.0.0.1", "localhost", "::1")
        if place.scheme != "https" and not (place.scheme == "http" and local):
            raise ConfigError(
                f"the issuer {self.issuer!r} is not an https URL",
                remedy="Such as --oidc-issuer https://gitlab.example",
            )
        if not self.audience:
            raise ConfigError(
                "tokens must be for somebody",
                remedy="Add --oidc-audience with the application's id.",
            )

    def check(self, token: str) -> Mapping[str, Any]:
        """The claims of a token. Blocks while keys are fetched.

        Raises:
            AccessError: it is not one of this issuer's for this audience, or has expired; or its
                user is in none of the groups. Nothing of the token is in the error.
        """
        import jwt

        try:
            head = jwt.get_unverified_header(token)
            key = self._key(str(head.get("kid", "")))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise AccessError(f"the token is not accepted ({type(error).__name__})") from None
        held = claims.get("groups", claims.get("groups_direct", ()))
        if self.groups and not (isinstance(held, list) and self.groups & set(map(str, held))):
            raise AccessError("the token's user is in none of the groups that are let in")
        return claims

    def _key(self, kid: str) -> Any:
        now = time.monotonic()
        age = now - self._fetched
        if age > _FRESH_S or (kid not in self._keys and age > _AGAIN_S):
            self._fetched = now
            self._keys = self._fetch()
        try:
            return self._keys[kid]
        except KeyError:
            raise AccessError(
                "the token is signed with a key that its issuer does not show"
            ) from None

    def _fetch(self) -> dict[str, Any]:
        import jwt

        found = _get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise AccessError("the provider says that it is another issuer")
        keys = {}
        for one in _get(str(found.get("jwks_uri"))).get("keys", ()):
            try:
                key = jwt.PyJWK(one)
            except jwt.PyJWTError:
                continue  # of a kind that is not used here
            if one.get("use", "sig") == "sig" and one.get("kty") != "oct":
                keys[str(one.get("kid", ""))] = key
        return keys


def _get(url: str) -> dict[str, Any]:
    if urllib.parse.urlsplit(url).scheme not in ("https", "http"):
        raise AccessError("the provider names a place that is no web address")
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read(_LONGEST))
    except (OSError, ValueError) as error:
        logger.warning("the identity provider does not answer: %s", type(error).__name__)
        raise AccessError("the identity provider cannot be asked now") from None
    if not isinstance(found, dict):
        raise AccessError("the identity provider's answer is not understood")
    return found


class RequireOidc:
    """Answers 401 to every HTTP request without a good token, and tells where to get one."""

    def __init__(self, app: ASGIApp, provider: Provider, base: str) -> None:
        """``base`` is this server's own URL, without a path."""
        self._app = app
        self._provider = provider
        self._base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in (METADATA, f"{METADATA}/mcp"):
            document = {
                "resource": f"{self._base}/mcp",
                "authorization_servers": [self._provider.issuer],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["openid"],
            }
            await _answer(send, 200, json.dumps(document).encode(), b"application/json")
            return
        given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        why = "" if not given else ', error="invalid_token"'
        if kind.lower() == b"bearer" and token.isascii():
            try:
                await anyio.to_thread.run_sync(self._provider.check, token.decode().strip())
            except AccessError as error:
                logger.info("refused a request: %s", error.message)
            else:
                await self._app(scope, receive, send)
                return
        challenge = f'Bearer resource_metadata="{self._base}{METADATA}/mcp"{why}'
        await _answer(send, 401, b"", b"text/plain", (b"www-authenticate", challenge.encode()))


async def _answer(
    send: Send, status: int, body: bytes, kind: bytes, *more: tuple[bytes, bytes]
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
