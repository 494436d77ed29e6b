"""The client of an S3 store: one place, and credentials that may change while it lives.

It speaks S3 itself. botocore would do, and takes 0.3 s of the processor and 25 MB to load and to
read its descriptions, in every command: longer than all else that a push of a small change does.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from tcfs.errors import StoreError
from tcfs.store.failures import CredentialsMissing, NotThatStore
from tcfs.store.http import Answer, HttpClient
from tcfs.store.s3_errors import refusal
from tcfs.store.s3_xml import Document, parse
from tcfs.store.sigv4 import S3Keys, encoded_path, encoded_query, signed
from tcfs.tls.contexts import STORE_DEFAULTS, TlsFiles

Addressing = Literal["auto", "path", "virtual"]

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where a bucket is.

    Attributes:
        server: ``http://host:port`` or ``https://host``; empty for Amazon's own.
        bucket, region: names.
        prefix: before every key, without slashes at its ends; may be empty.
        addressing: whether the bucket stands in the path or in the host name; ``auto`` is the path
            for every server but Amazon's.
        tls: what TLS with it rests on; where it names no authorities, those of AWS_CA_BUNDLE are
            trusted, or else the system's.
        timeout: seconds without a byte after which a connection counts as broken.
    """

    server: str
    bucket: str
    region: str = "us-east-1"
    prefix: str = ""
    addressing: Addressing = "auto"
    tls: TlsFiles = STORE_DEFAULTS
    timeout: float = 60.0

    @property
    def host_and_path(self) -> tuple[str, str]:
        """Scheme and host that requests go to, and the path before keys, ending with a slash."""
        server = self.server or f"https://s3.{self.region}.{_domain(self.region)}"
        scheme, _, host = server.partition("://")
        host = host.removesuffix(_DEFAULT_PORTS[scheme])
        style = self.addressing
        if style == "auto":
            # No certificate is for a bucket with dots in its name.
            style = "path" if self.server or "." in self.bucket else "virtual"
        if style == "path":
            return f"{scheme}://{host}", f"/{self.bucket}/"
        return f"{scheme}://{self.bucket}.{host}", "/"


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


class Listed(NamedTuple):
    """An object, by its name in the bucket."""

    name: str
    size: int
    etag: str


class ListPage(NamedTuple):
    """One answer of a listing.

    Attributes:
        directories: names up to the delimiter that was asked for.
        last: whether nothing follows.
        following: what to ask with for the next one.
    """

    objects: list[Listed]
    directories: list[str]
    last: bool
    following: str


class S3Client:
    """Signed requests for one bucket, from several threads at once. Repeats nothing by itself.

    Args:
        place: where the bucket is.
        keys: credentials, asked for before each request.
        where: what errors call the place.
        now: seconds since 1970.

    Attributes:
        server: what the server called itself with the last listing.
    """

    def __init__(
        self,
        place: S3Place,
        keys: Callable[[], S3Keys | None],
        where: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._where = where
        self._now = now
        self.server = ""
        self._region = place.region
        server, self._path = place.host_and_path
        self._top = self._path.rstrip("/") or "/"
        self._host = server.partition("://")[2]
        tls = place.tls
        bundle = os.environ.get("AWS_CA_BUNDLE")
        if tls.ca is None and bundle:
            tls = replace(tls, ca=Path(bundle))
        self._http = HttpClient(server, timeout=place.timeout, tls=tls, proxies=True)

    def ask(
        self,
        method: str,
        key: str,
        doing: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | bytearray | memoryview = b"",
        fine: tuple[int, ...] = (),
        once: bool = False,
    ) -> Answer:
        """Ask for a key, or with "" for the bucket.

        Args:
            doing: such as ``reading packs/00/…``, for errors.
            query, headers: what else the request says.
            fine: status codes that are answers, besides those from 200 to 299.
            once: as for ``HttpClient.request``.

        Raises:
            StoreError: there was no answer, or it says no.
        """
        keys = self._keys()
        if keys is None:
            raise CredentialsMissing(f"no credentials for {self._where} were found")
        path, asked = (
            encoded_path(self._path + key if key else self._top),
            encoded_query(query or {}),
        )
        said = signed(
            method,
            path,
            asked,
            {"Host": self._host, **(headers or {})},
            # Covers the body on its way; when it is read every byte is checked against its hash.
            hashlib.sha256(body).hexdigest(),
            keys=keys,
            region=self._region,
            now=self._now(),
        )
        answer = self._http.request(
            method,
            f"{path}?{asked}" if asked else path,
            body=body if body or method in ("PUT", "POST") else None,
            headers=said,
            once=once,
        )
        if 200 <= answer.status < 300 or answer.status in fine:
            return answer
        raise refusal(answer, doing, self._where)

    def told(self, answer: Answer, root: str, doing: str) -> Document:
        """What an answer says in XML.

        Raises:
            StoreError: it says no, as it can after it said 200 when the work took long.
            NotThatStore: it is of another kind.
        """
        found = parse(answer.body)
        if found is not None and found.root == "Error":
            raise refusal(replace(answer, status=500), doing, self._where)
        if found is None or found.root != root:
            raise NotThatStore(f"what answers at {self._where} is no S3 server")
        return found

    def list_page(self, asked: Mapping[str, str], doing: str) -> ListPage:
        """One page of a listing (ListObjectsV2).

        Raises:
            StoreError: there was none, or it is not the last and does not say how to go on.
        """
        query = {"list-type": "2", "encoding-type": "url", **asked}
        answer = self.ask("GET", "", doing, query=query)
        page = page_of(self.told(answer, "ListBucketResult", doing), doing)
        if page is None:
            raise NotThatStore(f"what answers at {self._where} is no S3 server")
        self.server = answer.headers.get("server", "")
        return page

    def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        self._http.close()


def page_of(told: Document, doing: str) -> ListPage | None:
    """Read the answer to a listing; None if it is none.

    Raises:
        StoreError: it is not the last page, and does not say how to go on.
    """
    try:
        objects = [
            Listed(unquote(said["Key"]), int(said["Size"]), said["ETag"])
            for kind, said in told.records
            if kind == "Contents"
        ]
        directories = [
            unquote(said["Prefix"]) for kind, said in told.records if kind == "CommonPrefixes"
        ]
        last = told.values["IsTruncated"] == "false"
    except (KeyError, ValueError):
        return None
    following = told.values.get("NextContinuationToken", "")
    if not last and not following:
        raise StoreError(f"{doing}: the server lost its place")
    return ListPage(objects, directories, last, following)
