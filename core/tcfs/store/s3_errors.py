"""What botocore raises, as errors of ours.

Codes are those of "Error responses" in the Amazon S3 API reference, and what SeaweedFS 4.48 and
MinIO answer in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tcfs.errors import StoreError
from tcfs.store.base import ObjectMissing, PreconditionFailed, StoreRefused
from tcfs.store.failures import (
    BucketMissing,
    ClockSkewed,
    CredentialsMissing,
    CredentialsRefused,
    NotThatStore,
    RightsMissing,
    StoreBusy,
    StoreUnreachable,
    tls_failure,
)
from tcfs.tls.contexts import TlsFiles
from tcfs.tls.trouble import TlsTrouble, ssl_error_in, trouble_of

_UNKNOWN_KEY: Final = frozenset(
    (
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "AuthorizationHeaderMalformed",
    )
)
_CLOCK: Final = frozenset(("RequestTimeTooSkewed", "RequestExpired", "AccessDeniedRequestExpired"))
_ASK_LESS: Final = frozenset(
    ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")
)
_PASSING: Final = frozenset(
    ("InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "BadDigest",
     "ConditionalRequestConflict", "IncompleteBody", "XAmzContentSHA256Mismatch", "InvalidDigest")
)  # fmt: skip
_FULL: Final = frozenset(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"))
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class RangeRefused(StoreRefused):
    """The object ends before the range begins."""


@contextmanager
def translated(doing: str, where: str, tls: TlsFiles) -> Iterator[None]:
    """Raise what botocore raises within as StoreError.

    Args:
        doing: such as ``reading packs/00/…``.
        where: the endpoint, without credentials.
        tls: what TLS with it rests on.
    """
    from botocore import exceptions as b
    from botocore.parsers import ResponseParserError

    try:
        yield
    except b.ClientError as error:
        raise _answered(error.response, doing, where) from None
    except (b.NoCredentialsError, b.PartialCredentialsError):
        raise CredentialsMissing(f"no credentials for {where} were found") from None
    except TlsTrouble as trouble:
        raise tls_failure(trouble, where) from None
    except b.EndpointConnectionError:
        raise StoreUnreachable(f"nobody answers at {where}") from None
    except (b.ConnectTimeoutError, b.ReadTimeoutError):
        # A server that is overloaded looks like this as well: ask it less.
        raise StoreUnreachable(
            f"{where} did not answer in time ({doing})", details={"timeout": True}
        ) from None
    except (
        b.SSLError,
        b.HTTPClientError,
        b.IncompleteReadError,
        b.ResponseStreamingError,
    ) as error:
        inner = ssl_error_in(error)
        if inner is not None:
            found = trouble_of(inner, tls.names, with_cert=tls.cert is not None)
            raise tls_failure(found, where) from None
        raise StoreUnreachable(
            f"the connection to {where} broke off while {doing}: {type(error).__name__}"
        ) from None
    except ResponseParserError:
        raise NotThatStore(f"what answers at {where} is no S3 server") from None
    except b.BotoCoreError as error:
        raise StoreRefused(f"{doing} at {where} failed: {error}") from None


def _answered(response: Mapping[str, Any], doing: str, where: str) -> StoreError:
    """The error for an answer that says no."""
    said = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(said.get("Code", ""))
    # A server's text is a stranger's: its code alone is shown, and only if it looks like one.
    shown = code if _CODE.fullmatch(code) else "an unknown reason"
    details = {"status": status, "code": shown}
    text = f"{doing} at {where} was refused: {shown}"
    if code in ("NoSuchKey", "NoSuchVersion"):
        return ObjectMissing(f"the store has no object ({doing})")
    if code in ("PreconditionFailed", "412"):
        return PreconditionFailed(f"{doing}: the object exists already, or has changed")
    if code in ("InvalidRange", "416"):
        return RangeRefused(f"{doing}: no such range")
    if code == "NoSuchBucket":
        return BucketMissing(f"there is no bucket at {where}", details=details)
    if code == "NoSuchUpload":
        return StoreError(f"{doing}: the upload was broken off by the server", details=details)
    if code in _CLOCK:
        return ClockSkewed(
            f"{where}: this machine's clock and the server's differ", details=details
        )
    if code in _UNKNOWN_KEY:
        region = said.get("Region")
        if code == "AuthorizationHeaderMalformed" and isinstance(region, str):
            return _elsewhere(where, region)
        return CredentialsRefused(f"{where} does not take these credentials: {shown}")
    if code in ("PermanentRedirect", "301", "307", "IllegalLocationConstraintException"):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return _elsewhere(where, str(headers.get("x-amz-bucket-region", "")))
    if status in (401, 403):
        return RightsMissing(text, details=details)
    if code in _FULL or status == 507:
        return StoreRefused(
            text, remedy="Free space on the server, or raise its quota.", details=details
        )
    if code in _ASK_LESS or status in (429, 503):
        return StoreBusy(text, details=details)
    if status == 501:
        return StoreRefused(text, details=details)
    if code in _PASSING or status >= 500:
        return StoreError(text, details=details)
    if status == 404:
        return NotThatStore(f"what answers at {where} is no S3 server, or has no such path")
    return StoreRefused(text, details=details)


def _elsewhere(where: str, region: str) -> StoreRefused:
    there = region if re.fullmatch(r"[a-z0-9-]{1,32}", region) else ""
    return StoreRefused(
        f"the bucket at {where} is in another region{': ' + there if there else ''}",
        remedy=f"Set storage.region{' = ' + there if there else ' to that of the bucket'}",
    )
