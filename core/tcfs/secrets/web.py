"""Asking an identity provider over HTTP: encrypted, no redirects, answers of bounded size."""

from __future__ import annotations

import json
import logging
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tcfs.errors import ConfigError, ProviderError
from tcfs.tls.contexts import TlsContexts, TlsFiles
from tcfs.tls.trouble import Names, TlsTrouble, ssl_error_in, trouble_of

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 15.0
PROVIDER: Final = Names(ca="auth.ca_cert_path", cert="", key="")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def is_safe(url: str) -> bool:
    """Whether what goes to this address stays private: https, or on this machine. No user info."""
    try:
        place = urllib.parse.urlsplit(url)
        _ = place.port
    except ValueError:
        return False
    if not place.hostname or place.username is not None or place.password is not None:
        return False
    return place.scheme == "https" or (place.scheme == "http" and place.hostname in LOOPBACK)


def trust(ca: Path | None) -> ssl.SSLContext:
    """The authorities to believe: the system's, or those of a file. Raises ConfigError."""
    try:
        return TlsContexts(TlsFiles(PROVIDER, ca=ca)).context()
    except TlsTrouble as trouble:
        raise ConfigError(trouble.text, remedy=trouble.remedy) from None


def unreachable(error: Exception) -> ProviderError:
    """The error for a provider that did not answer. What it said is left out."""
    tls = ssl_error_in(error)
    if tls is not None:
        trouble = trouble_of(tls, PROVIDER, with_cert=False)
        return ProviderError(
            f"the identity provider is not trusted: {trouble.text}", remedy=trouble.remedy
        )
    logger.warning("the identity provider does not answer: %s", type(error).__name__)
    return ProviderError(f"the identity provider cannot be reached ({type(error).__name__})")


def get_json(url: str, ca: Path | None = None) -> dict[str, Any] | None:
    """The JSON object at an address; None where there is nothing (404).

    Raises:
        ProviderError: the address is not safe, or what is there cannot be had or understood.
    """
    import httpx2

    from tcfs.secrets.bounded import Bounded

    if not is_safe(url):
        raise ProviderError(
            "the identity provider names an address that is not https",
            remedy="Check auth.issuer; the provider is set up wrongly, or is none.",
        )
    try:
        with httpx2.Client(transport=Bounded(verify=trust(ca)), timeout=TIMEOUT_S) as client:
            answer = client.get(url, headers={"Accept": "application/json"})
    except httpx2.HTTPError as error:
        raise unreachable(error) from None
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise ProviderError(f"the identity provider answers with status {answer.status_code}")
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderError("the identity provider's answer is not understood")
    return found
