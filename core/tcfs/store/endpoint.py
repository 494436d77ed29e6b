"""URLs of stores.

What people write may lean on other settings (``storage.bucket``, ``prefix``, ``region``); what is
kept in a binding or sent in an invite code stands alone. ``Endpoint.url`` is of the second kind,
and ``parse_endpoint`` reads both:

    file:///dir[?prefix=P]
    memory://name[?prefix=P]
    s3://bucket[/P][?region=R]                  Amazon's servers
    s3+https://host[:port]/bucket[/P][?region=R]  any other, also s3+http
    https://host[:port][/bucket[/P]]            the same, as people write it; also http
    seaweedfs://host:port[/P]                   a SeaweedFS filer; seaweedfs+https with TLS
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from msgspec import Struct

from tcfs.errors import ConfigError

Kind = Literal["file", "memory", "s3", "seaweedfs"]

_REMEDY: Final = (
    "Set storage.endpoint to a directory's URL, such as file:///srv/tcfs, to the URL of an S3 "
    "server, to s3://bucket, or to seaweedfs://host:8888/path"
)
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")
_PREFIX: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*(/[a-z0-9_-][a-z0-9._-]*)*")
_LONGEST_PREFIX: Final = 256
DEFAULT_REGION: Final = "us-east-1"


class Endpoint(Struct, frozen=True):
    """Where a store is, in full.

    Attributes:
        kind: of the store.
        server: ``http://host:port`` or ``https://host``; empty for files, memory and Amazon's S3.
        path: the directory of a ``file`` store; absolute, bytes as the system has them.
        name: the bucket, or the name of a store in memory.
        prefix: before every key, without slashes at its ends.
        region: of an S3 server.
    """

    kind: Kind
    server: str = ""
    path: bytes = b""
    name: str = ""
    prefix: str = ""
    region: str = DEFAULT_REGION

    @property
    def url(self) -> str:
        """The URL that stands alone."""
        if self.kind == "s3":
            region = "" if self.region == DEFAULT_REGION else f"?region={self.region}"
            start = "s3://"
            if self.server:
                scheme, _, host = self.server.partition("://")
                start = f"s3+{scheme}://{host}/"
            return start + _joined(self.name, self.prefix) + region
        if self.kind == "seaweedfs":
            scheme, _, host = self.server.partition("://")
            start = "seaweedfs" if scheme == "http" else "seaweedfs+https"
            return f"{start}://{host}/{self.prefix}"
        rest = f"?prefix={self.prefix}" if self.prefix else ""
        return (
            f"file://{quote(self.path)}{rest}"
            if self.kind == "file"
            else f"memory://{self.name}{rest}"
        )

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read what goes there."""
        return not self.server.startswith("http://")


def parse_endpoint(
    text: str,
    *,
    bucket: str = "",
    prefix: str = "",
    region: str = DEFAULT_REGION,
    aws_server: str = "",
) -> Endpoint:
    """The store that a URL names.

    Args:
        bucket: where the URL names none.
        prefix: below the one that the URL names.
        region: where the URL names none.
        aws_server: the server to use for ``s3://`` instead of Amazon's, as AWS_ENDPOINT_URL says.

    Raises:
        ConfigError: not a URL of a store. The message shows its scheme alone, since the rest may
            carry credentials.
    """
    scheme, colon, rest = text.partition("://")
    if not colon:
        raise ConfigError("the endpoint is not a URL", remedy=_REMEDY)
    rest, question, query = rest.partition("?")
    options = _options(query, scheme) if question else {}
    region = options.pop("region", region)
    prefix = _checked_prefix(_joined(options.pop("prefix", ""), prefix), scheme)
    if options or "#" in rest or ("@" in rest.partition("/")[0]):
        raise _wrong(scheme, "has parts that no endpoint has")
    if not _REGION.fullmatch(region):
        raise _wrong(scheme, "names a region that is none")
    if scheme == "file":
        return Endpoint("file", path=_file_path(rest), prefix=prefix)
    if scheme == "memory":
        return Endpoint("memory", name=rest, prefix=prefix)
    if scheme == "s3":
        name, _, inside = rest.strip("/").partition("/")
        server = _server(*aws_server.partition("://")[::2]) if aws_server else ""
        return _bucket(scheme, server, name, inside, prefix, region)
    if scheme in ("http", "https", "s3+http", "s3+https"):
        host, _, path = rest.partition("/")
        name, _, inside = path.strip("/").partition("/")
        server = _server(scheme.removeprefix("s3+"), host)
        return _bucket(scheme, server, name or bucket, inside, prefix, region)
    if scheme in ("seaweedfs", "seaweedfs+http", "seaweedfs+https"):
        host, _, path = rest.partition("/")
        server = _server("https" if scheme.endswith("https") else "http", host)
        inside = _checked_prefix(_joined(path.strip("/"), prefix), scheme)
        return Endpoint("seaweedfs", server=server, prefix=inside)
    raise ConfigError(f"unknown kind of store: {scheme[:32]!r}", remedy=_REMEDY)


def _bucket(scheme: str, server: str, name: str, inside: str, prefix: str, region: str) -> Endpoint:
    if not _BUCKET.fullmatch(name):
        raise _wrong(scheme, "names no bucket")
    inside = _checked_prefix(_joined(inside, prefix), scheme)
    return Endpoint("s3", server=server, name=name, prefix=inside, region=region)


def _server(scheme: str, host: str) -> str:
    host = host.strip("/")
    if scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise _wrong(scheme, "names no host")
    return f"{scheme}://{host.lower()}"


def _checked_prefix(prefix: str, scheme: str) -> str:
    if prefix and (len(prefix) > _LONGEST_PREFIX or not _PREFIX.fullmatch(prefix)):
        raise _wrong(scheme, "has a prefix that is not names of a-z, 0-9, '.', '_' and '-'")
    return prefix


def _options(query: str, scheme: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    found = dict(pairs)
    if not pairs or len(found) < len(pairs):
        raise _wrong(scheme, "has parts that no endpoint has")
    return found


def _file_path(rest: str) -> bytes:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError("a file:// endpoint takes an absolute path and no host", remedy=_REMEDY)
    raw = b"/" + unquote_to_bytes(path.encode("utf-8", "surrogateescape")).strip(b"/")
    if raw == b"/" or b"\0" in raw:
        raise ConfigError("the path in the file:// endpoint is not a directory's", remedy=_REMEDY)
    return raw


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _wrong(scheme: str, why: str) -> ConfigError:
    return ConfigError(f"the {scheme[:32]}:// endpoint {why}", remedy=_REMEDY)
