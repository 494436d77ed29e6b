"""The client of an S3 store: one place, and credentials that may change while it lives.

It is botocore's: what boto3 adds to it is not used, and takes a third of a small push to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from tcfs.store.failures import CredentialsMissing

Addressing = Literal["auto", "path", "virtual"]

CONNECT_TIMEOUT: Final = 10.0
"""Seconds; longer than any handshake takes over a line that works."""


class S3Keys(NamedTuple):
    """Access key id, secret key and session token ("" for none)."""

    access: str
    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return "S3Keys(…)"


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket is.

    Attributes:
        server: ``http://host:port`` or ``https://host``; empty for Amazon's own.
        bucket, region: names.
        prefix: before every key, without slashes at its ends; may be empty.
        addressing: whether the bucket stands in the path or in the host name; ``auto`` is the path
            for every server but Amazon's.
        ca_cert: certificate authorities (PEM) to trust instead of the system's.
        connections: at once.
        timeout: seconds without a byte after which a connection counts as broken.
    """

    server: str
    bucket: str
    region: str = "us-east-1"
    prefix: str = ""
    addressing: Addressing = "auto"
    ca_cert: Path | None = None
    connections: int = 16
    timeout: float = 60.0


def make_client(place: S3Place, keys: Callable[[], S3Keys | None]) -> Any:
    """A client that asks ``keys`` before each request, and repeats nothing by itself.

    Raises:
        CredentialsMissing: by its requests, where ``keys`` has none.
    """
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    session.set_config_variable("ignore_configured_endpoint_urls", True)  # ``place`` says all
    resolver: Any = session.get_component("credential_provider")
    resolver.providers[:] = [_provider(keys, place)]
    style = place.addressing
    if style == "auto":
        style = "path" if place.server else "virtual"
    return session.create_client(
        "s3",
        endpoint_url=place.server or None,
        region_name=place.region,
        verify=str(place.ca_cert) if place.ca_cert is not None else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            max_pool_connections=place.connections,
            connect_timeout=min(CONNECT_TIMEOUT, place.timeout),
            read_timeout=place.timeout,
            # The store's wrappers do that, and know which requests may be repeated.
            retries={"total_max_attempts": 1},
            # Every byte is checked against its hash when it is read; on its way it is covered by
            # the signature or by TLS. Other checksums would be computed for nothing.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@lru_cache
def _loader() -> Any:
    """Botocore's descriptions of S3: reading them is most of what a client costs to make."""
    from botocore.loaders import Loader

    class OnlyS3(Loader):
        def list_available_services(self, type_name: str) -> list[str]:
            return ["s3"]  # instead of a look into every directory of all that Amazon offers

    return OnlyS3()


def _provider(keys: Callable[[], S3Keys | None], place: S3Place) -> Any:
    from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials

    class Current(Credentials):
        """Asked for each signature: what the chain has by then."""

        def __init__(self) -> None:
            super().__init__("", "")

        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            found = keys()
            if found is None:
                where = place.server or "Amazon S3"
                raise CredentialsMissing(f"no credentials for {where} were found")
            return ReadOnlyCredentials(found.access, found.secret, found.token or None)

    class Provider(CredentialProvider):
        METHOD = "tcfs"

        def load(self) -> Credentials:
            return Current()

    return Provider()
