"""Signatures of S3 requests: AWS Signature Version 4, in a header.

After "Authenticating Requests: Using the Authorization Header" in the Amazon S3 API reference,
for requests whose body is whole.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote


class S3Keys(NamedTuple):
    """Access key id, secret key and session token ("" for none)."""

    access: str
    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return "S3Keys(…)"


def encoded_path(path: str) -> str:
    """A path as it is sent and signed."""
    return quote(path, safe="/~")


def encoded_query(query: Mapping[str, str]) -> str:
    """A query as it is sent and signed; "" if there is none."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    payload: str,
    *,
    keys: S3Keys,
    region: str,
    now: float,
) -> dict[str, str]:
    """The headers of a request, signed, and the signature.

    Args:
        path, query: encoded.
        headers: all that are to be signed, ``Host`` among them.
        payload: SHA-256 of the body in hexadecimal digits.
        now: seconds since 1970.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    said = {**headers, "X-Amz-Date": stamp, "X-Amz-Content-SHA256": payload}
    if keys.token:
        said["X-Amz-Security-Token"] = keys.token
    lower = sorted((name.lower(), " ".join(value.split())) for name, value in said.items())
    names = ";".join(name for name, _ in lower)
    lines = "".join(f"{name}:{value}\n" for name, value in lower)
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    said["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    return said
