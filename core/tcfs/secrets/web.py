"""Asking an identity provider over HTTP: encrypted, no redirects, answers of bounded size."""

from __future__ import annotations

import json
import logging
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2

from tcfs.errors import ConfigError, ProviderError

logger = logging.getLogger(__name__)

LONGEST: Final = 1 << 20
"""Bytes of the longest answer that is read."""
TIMEOUT_S: Final = 15.0
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
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            f"the certificate authority {ca} cannot be read",
            remedy="auth.ca_cert_path must be a file of certificates in PEM form.",
        ) from None


class Bounded(httpx2.HTTPTransport):
    """A transport whose answers end with an error after ``LONGEST`` bytes."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Limited(response.stream)
        return response


class _Limited(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        left = LONGEST
        for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx2.ReadError("the answer is too long")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def unreachable(error: Exception) -> ProviderError:
    """The error for a provider that did not answer. What it or the system said is left out."""
    logger.warning("the identity provider does not answer: %s", type(error).__name__)
    return ProviderError(f"the identity provider cannot be reached ({type(error).__name__})")


def get_json(url: str, ca: Path | None = None) -> dict[str, Any] | None:
    """The JSON object at an address; None where there is nothing (404).

    Raises:
        ProviderError: the address is not safe, or what is there cannot be had or understood.
    """
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
