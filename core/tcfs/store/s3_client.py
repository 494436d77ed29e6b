"""The client of an S3 store: one place, and credentials that may change while it lives.

It is botocore's: what boto3 adds to it is not used, and takes a third of a small push to load.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson
from msgspec import Struct

from tcfs.store.failures import CredentialsMissing
from tcfs.tls.contexts import STORE_DEFAULTS, TlsContexts, TlsFiles

if TYPE_CHECKING:
    import ssl

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


class S3Place(Struct, frozen=True):
    """Where a bucket is.

    Attributes:
        server: ``http://host:port`` or ``https://host``; empty for Amazon's own.
        bucket, region: names.
        prefix: before every key, without slashes at its ends; may be empty.
        addressing: whether the bucket stands in the path or in the host name; ``auto`` is the path
            for every server but Amazon's.
        tls: what TLS with it rests on; where it names no files, boto3's own authorities are
            trusted, and those of AWS_CA_BUNDLE.
        connections: at once.
        timeout: seconds without a byte after which a connection counts as broken.
    """

    server: str
    bucket: str
    region: str = "us-east-1"
    prefix: str = ""
    addressing: Addressing = "auto"
    tls: TlsFiles = STORE_DEFAULTS
    connections: int = 16
    timeout: float = 60.0


def make_client(place: S3Place, keys: Callable[[], S3Keys | None]) -> Any:
    """A client that asks ``keys`` before each request, and repeats nothing by itself.

    Raises:
        CredentialsMissing: by its requests, where ``keys`` has none.
        TlsTrouble: by its requests, where the files of ``place.tls`` cannot be used.
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
    client: Any = session.create_client(
        "s3",
        endpoint_url=place.server or None,
        region_name=place.region,
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
    if place.tls.any:
        sender = _Sender(place, client.close)
        client.meta.events.register("before-send.s3", sender)
        client.close = sender.close
    return client


class _Sender:
    """Sends requests in botocore's place: with our context, and another one once files changed.

    Botocore itself gives paths to each connection, which loads whatever is there just then.
    """

    def __init__(self, place: S3Place, close: Callable[[], None]) -> None:
        self._place = place
        self._close = close
        self._contexts = TlsContexts(place.tls)
        self._lock = threading.Lock()
        self._with: tuple[ssl.SSLContext, Any] | None = None

    def __call__(self, request: Any, **_: Any) -> Any:
        return self._session().send(request)

    def _session(self) -> Any:
        context = self._contexts.context()
        with self._lock:
            if self._with is None or self._with[0] is not context:
                before, self._with = self._with, (context, _session_with(context, self._place))
                if before is not None:
                    before[1].close()  # what it is doing now ends first
            return self._with[1]

    def close(self) -> None:
        """Close the client that this sends for, and the connections of both."""
        self._close()
        with self._lock:
            if self._with is not None:
                self._with[1].close()


def _session_with(context: ssl.SSLContext, place: S3Place) -> Any:
    from botocore.httpsession import URLLib3Session
    from botocore.utils import get_environ_proxies

    class Session(URLLib3Session):
        def _get_ssl_context(self) -> ssl.SSLContext:
            return context

        def _setup_ssl_cert(self, conn: Any, url: str, verify: object) -> None:
            conn.cert_reqs, conn.ca_certs = "CERT_REQUIRED", None

    return Session(
        proxies=get_environ_proxies(place.server or "https://s3.amazonaws.com"),
        timeout=(min(CONNECT_TIMEOUT, place.timeout), place.timeout),  # type: ignore[arg-type]
        max_pool_connections=place.connections,
    )


@lru_cache
def _loader() -> Any:
    """Botocore's descriptions of S3: reading them is most of what a client costs to make."""
    from botocore.loaders import JSONFileLoader, Loader

    class Quick(JSONFileLoader):
        """Half of what reading takes otherwise is to make ordered dicts, which all are by now."""

        def load_file(self, file_path: str) -> Any:
            for ending, opened in ((".json", open), (".json.gz", gzip.open)):
                with suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                    return orjson.loads(file.read())
            return None

    class OnlyS3(Loader):
        FILE_LOADER_CLASS = Quick

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
