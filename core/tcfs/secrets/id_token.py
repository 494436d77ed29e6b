"""Whether an ID token is what a sign-in must bring (OpenID Connect Core 1.0, 3.1.3.6 and 7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from tcfs.errors import AccessError, IntegrityError
from tcfs.secrets.oidc import Verifier


def verified(verifier: Verifier, token: str, *, access: str, nonce: str = "") -> Mapping[str, Any]:
    """The claims of an ID token, once everything about it was checked.

    Args:
        verifier: for its issuer and the application.
        access: the access token that came with it.
        nonce: what was sent along with the question; empty where the way has none.

    Raises:
        IntegrityError: it is not the provider's, or not for this sign-in.
        ProviderError: the provider's keys cannot be had.
    """
    try:
        claims = verifier.check(token)
    except AccessError as error:
        raise forged(error.message) from None
    if nonce and not _same(claims.get("nonce"), nonce):
        raise forged("it was made for another sign-in (nonce)")
    if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
        raise forged("it is for several and does not say who asked")
    if claims.get("azp", verifier.audience) != verifier.audience:
        raise forged("another application asked for it")
    if "iat" not in claims:
        raise forged("it does not say when it was made")
    hashed = claims.get("at_hash")
    if hashed is not None and hashed not in _half_hashes(access):
        raise forged("it belongs to another access token (at_hash)")
    return claims


def forged(why: str) -> IntegrityError:
    """The error for an ID token that is not believed."""
    return IntegrityError(
        f"the provider's ID token does not verify: {why}",
        remedy="Nothing was kept. Check auth.issuer and auth.client_id, and this machine's clock; "
        "then sign in again.",
    )


def _half_hashes(access: str) -> set[str]:
    """``at_hash`` for each hash that the signature's algorithm may have used."""
    made = set()
    for name in ("sha256", "sha384", "sha512"):
        digest = hashlib.new(name, access.encode()).digest()
        made.add(base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("="))
    return made


def _same(found: object, wanted: str) -> bool:
    return isinstance(found, str) and hmac.compare_digest(found.encode(), wanted.encode())
