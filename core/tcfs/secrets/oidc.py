"""An OpenID provider (GitLab, say): what it tells about itself, and whether a token is its own.

Discovery as in OpenID Connect Discovery 1.0 and RFC 8414; keys as in RFC 7517.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tcfs.errors import AccessError, ConfigError, IntegrityError, ProviderError
from tcfs.secrets.web import get_json, is_safe

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures with a public key only: with a shared one a token could be made from the key set."""
LEEWAY_S: Final = 30.0
_FRESH_S: Final = 600.0
_AGAIN_S: Final = 10.0
"""Least time between fetches of the keys: a stranger's tokens must not make many."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where a provider's doors are; empty for one that it does not have.

    Attributes:
        names_itself: it promises to name itself in every authorization response (RFC 9207).
        secret_in_body: it takes a client's secret in the request's body alone.
    """

    issuer: str
    keys: str
    authorization: str = ""
    token: str = ""
    device: str = ""
    revocation: str = ""
    names_itself: bool = False
    secret_in_body: bool = False


def discover(issuer: str, ca: Path | None = None) -> Metadata:
    """What the provider tells about itself. Blocks.

    Raises:
        ConfigError: the issuer is not a safe address.
        ProviderError: it cannot be asked, or names doors that are not safe.
        IntegrityError: it says that it is another issuer.
    """
    check_issuer(issuer)
    place = urllib.parse.urlsplit(issuer)
    base, path = f"{place.scheme}://{place.netloc}", place.path.rstrip("/")
    found = get_json(f"{base}{path}/.well-known/openid-configuration", ca)
    if found is None:
        found = get_json(f"{base}/.well-known/oauth-authorization-server{path}", ca)
    if found is None:
        raise ProviderError(
            "there is no OpenID provider at this address",
            remedy="Check auth.issuer: for a GitLab it is its address, such as "
            "https://gitlab.example.com, without a path and without a slash at the end.",
        )
    if found.get("issuer") != issuer:
        raise IntegrityError(
            "the provider says that it is another issuer",
            remedy="Set auth.issuer to exactly what the provider calls itself; a slash at the end "
            "counts. If it never was another, somebody stands between you and it.",
        )
    methods = found.get("token_endpoint_auth_methods_supported")
    metadata = Metadata(
        issuer=issuer,
        keys=_text(found, "jwks_uri"),
        authorization=_text(found, "authorization_endpoint"),
        token=_text(found, "token_endpoint"),
        device=_text(found, "device_authorization_endpoint"),
        revocation=_text(found, "revocation_endpoint"),
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        secret_in_body=isinstance(methods, list)
        and "client_secret_basic" not in methods
        and "client_secret_post" in methods,
    )
    doors = (metadata.authorization, metadata.token, metadata.device, metadata.revocation)
    if not is_safe(metadata.keys) or not all(is_safe(door) for door in doors if door):
        raise ProviderError(
            "the provider names an address that is not https",
            remedy="Its administrator has to mend that: what is sent there could be read.",
        )
    return metadata


def check_issuer(issuer: str) -> None:
    """Raises ConfigError for what cannot be an issuer."""
    if not is_safe(issuer) or "?" in issuer or "#" in issuer:
        raise ConfigError(
            f"the issuer {issuer!r} is not an https URL",
            remedy="Such as https://gitlab.example.com; plain http is for this machine alone.",
        )


def groups_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups that a token says its user is in: full paths, as GitLab has them."""
    found = set()
    for name in ("groups", "groups_direct"):
        held = claims.get(name)
        if isinstance(held, list):
            found |= {group for group in held if isinstance(group, str)}
    return tuple(sorted(found))


def username_of(claims: Mapping[str, Any]) -> str:
    """What its user is called at the provider; empty if the token does not say."""
    for name in ("preferred_username", "nickname"):
        if isinstance(claims.get(name), str):
            return str(claims[name])
    return ""


@dataclass(slots=True)
class Verifier:
    """Checks tokens of one issuer for one audience. Safe to use from several threads.

    Attributes:
        issuer: its URL; https, or on this machine.
        audience: what tokens must be for.
        ca: certificate authorities to believe instead of the system's.
    """

    issuer: str
    audience: str
    ca: Path | None = None
    _keys: dict[str, Any] = field(default_factory=dict, repr=False)
    _fetched: float = float("-inf")
    _tried: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        check_issuer(self.issuer)
        if not self.audience:
            raise ConfigError(
                "tokens must be for somebody",
                remedy="Set auth.client_id, or auth.audience; or add --oidc-audience.",
            )

    def check(self, token: str) -> Mapping[str, Any]:
        """The claims of a token. Blocks while keys are fetched.

        Raises:
            AccessError: it is not one of this issuer's for this audience, or has expired. Nothing
                of the token is in the error.
            ProviderError: the keys cannot be had.
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
        return claims

    def _key(self, kid: str) -> Any:
        known = self._keys.get(kid)
        if known is not None and time.monotonic() - self._fetched <= _FRESH_S:
            return known  # nobody waits for a fetch that another's made-up token began
        with self._lock:
            now = time.monotonic()
            stale = now - self._fetched > _FRESH_S or kid not in self._keys
            if stale and now - self._tried > _AGAIN_S:
                self._tried = now
                self._keys = self._fetch()
                self._fetched = now
            if kid not in self._keys:
                raise AccessError("the token is signed with a key that its issuer does not show")
            return self._keys[kid]

    def _fetch(self) -> dict[str, Any]:
        import jwt

        keys = {}
        found = get_json(discover(self.issuer, self.ca).keys, self.ca) or {}
        shown = found.get("keys")
        for one in shown if isinstance(shown, list) else ():
            try:
                key = jwt.PyJWK(one)
            except (jwt.PyJWTError, AttributeError, TypeError, ValueError):
                continue  # of a kind that is not used here
            if one.get("use", "sig") == "sig" and one.get("kty") != "oct":
                keys[str(one.get("kid", ""))] = key
        return keys


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""
