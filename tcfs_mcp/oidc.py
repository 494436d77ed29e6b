"""Letting in who an OpenID provider (GitLab, say) vouches for: bearer tokens on the HTTP server.

A request without a good token gets 401 with a pointer to this resource's metadata (RFC 9728), as
the MCP authorization specification asks; one whose user has no role here gets 403. Both are asked
anew for every request.
"""

from __future__ import annotations

import hashlib
import json
import logging
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from tcfs.errors import AccessError, ConfigError, ProviderError
from tcfs.secrets.oidc import Verifier, groups_of, username_of
from tcfs.secrets.web import is_safe
from tcfs_mcp.caller import CALLER_KEY, ROLES, Caller, Role, Roles
from tcfs_mcp.door import actor_name

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tcfs.config.schema import AuthConfig

logger = logging.getLogger(__name__)

METADATA: Final = "/.well-known/oauth-protected-resource"
_RETRY_S: Final = b"10"
_LONGEST_PART: Final = 30


@dataclass(frozen=True, slots=True)
class Gate:
    """Whose tokens are taken, and what their users may do.

    Attributes:
        public_url: this server's URL as callers know it; empty for the address it listens on.
    """

    verifier: Verifier
    roles: Roles
    public_url: str = ""

    def caller(self, token: str) -> Caller | None:
        """Who shows this token; None for a user without a role. Blocks while keys are fetched.

        Raises:
            AccessError: it is not a good token.
            ProviderError: whether it is cannot be told now.
        """
        claims = self.verifier.check(token)
        role = self.roles.of(groups_of(claims))
        return None if role is None else Caller(actor_of(claims), role)


def gate(
    auth: AuthConfig,
    *,
    issuer: str = "",
    audience: str = "",
    groups: tuple[str, ...] = (),
    public_url: str = "",
) -> Gate:
    """The gate that settings and options describe; an option goes before its setting.

    Args:
        groups: ``PATH`` or ``PATH=ROLE``, besides those of the settings; without a role a reader.

    Raises:
        ConfigError: nobody could come in, or something is no address.
    """
    granted: dict[Role, set[str]] = {
        "reader": set(auth.reader_groups),
        "writer": set(auth.writer_groups),
        "admin": set(auth.admin_groups),
    }
    for group in groups:
        path, separator, wanted = group.rpartition("=")
        role = next((role for role in ROLES if role == wanted), None)
        if separator and (role is None or not path):
            raise ConfigError(
                f"--oidc-group {group!r} is not a group and a role",
                remedy=f"Such as org/team=writer; the roles are {', '.join(ROLES)}.",
            )
        granted[role or "reader"].add(path if separator else group)
    others = None if auth.default_role == "none" else auth.default_role
    roles = Roles(**{role: frozenset(held) for role, held in granted.items()}, others=others)
    if not roles.lets_somebody_in:
        raise ConfigError(
            "nobody would be let in: no group has a role",
            remedy="Set auth.reader_groups, auth.writer_groups or auth.admin_groups, or add "
            "--oidc-group org/team=reader; auth.default_role lets in everyone of the provider.",
        )
    if public_url and not is_safe(public_url):
        raise ConfigError(
            "--public-url is not an https URL",
            remedy="Such as https://tcfs.example.com/mcp: where callers reach this server.",
        )
    verifier = Verifier(
        issuer or auth.issuer, audience or auth.audience or auth.client_id, auth.ca_cert_path
    )
    return Gate(verifier, roles, public_url)


def actor_of(claims: Mapping[str, Any]) -> str:
    """How the history names a user: ``sso:SUBJECT/NAME``. The subject alone is unique for ever."""
    subject = str(claims["sub"])
    shown = _part(subject)
    if shown != subject:  # two subjects must not become one
        shown = f"{shown[:20]}-{hashlib.sha256(subject.encode()).hexdigest()[:8]}"
    name = _part(username_of(claims))
    return f"sso:{shown}/{name}" if name else f"sso:{shown}"


def _part(text: str) -> str:
    kept = actor_name("x", text.replace("/", "-")).removeprefix("x").removeprefix(":")
    return kept[:_LONGEST_PART]


class RequireOidc:
    """Answers 401 to every HTTP request without a good token, and tells where to get one."""

    def __init__(self, app: ASGIApp, gate: Gate, base: str) -> None:
        """``base`` is the URL of the address that is listened on, without a path."""
        from mcp.server.auth.middleware.auth_context import AuthContextMiddleware

        self._app = AuthContextMiddleware(app)
        self._gate = gate
        self._resource = gate.public_url or f"{base}/mcp"
        place = urllib.parse.urlsplit(self._resource)
        self._metadata = f"{place.scheme}://{place.netloc}{METADATA}{place.path.rstrip('/')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == METADATA or scope["path"].startswith(f"{METADATA}/"):
            document = {
                "resource": self._resource,
                "authorization_servers": [self._gate.verifier.issuer],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["openid"],
            }
            await _answer(send, 200, document)
            return
        given = [v for k, v in scope["headers"] if k == b"authorization"]
        kind, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        error = "invalid_token" if given else ""
        if kind.lower() == b"bearer" and token.isascii():
            shown = token.decode().strip()
            try:
                caller = await anyio.to_thread.run_sync(self._gate.caller, shown)
            except AccessError as refusal:
                logger.info("refused a request: %s", refusal.message)
            except ProviderError as failure:
                logger.warning("cannot check a token: %s", failure.message)
                await _answer(send, 503, failure.to_json(), (b"retry-after", _RETRY_S))
                return
            else:
                if caller is not None:
                    await self._app(_identified(scope, caller, self._gate), receive, send)
                    return
                error = "insufficient_scope"
        challenge = f'Bearer resource_metadata="{self._metadata}"'
        challenge += f', error="{error}"' if error else ""
        why = AccessError(
            "the token's user is in no group that is let in"
            if error == "insufficient_scope"
            else "a token of the provider is needed",
            remedy="Ask whoever runs this server for a role.",
        )
        status = 403 if error == "insufficient_scope" else 401
        await _answer(send, status, why.to_json(), (b"www-authenticate", challenge.encode()))


def _identified(scope: Scope, caller: Caller, gate: Gate) -> Scope:
    """The scope with who is asking, for the tools, and for the SDK, which ties sessions to it."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    user = AuthenticatedUser(
        AccessToken(
            token="",
            client_id=gate.verifier.audience,
            scopes=[],
            subject=caller.actor,
            claims={"iss": gate.verifier.issuer},
        )
    )
    return {**scope, "user": user, CALLER_KEY: caller}


async def _answer(
    send: Send, status: int, body: Mapping[str, Any], *more: tuple[bytes, bytes]
) -> None:
    data = json.dumps(body).encode()
    kind = (b"content-type", b"application/json")
    headers = [kind, (b"content-length", str(len(data)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
