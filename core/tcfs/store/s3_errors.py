"""What S3 servers refuse, as errors of ours.

Codes are those of "Error responses" in the Amazon S3 API reference, and what SeaweedFS 4.48 and
MinIO answer in their place.
"""

from __future__ import annotations

import re
from typing import Final

from tcfs.errors import StoreError
from tcfs.store.base import ObjectMissing, PreconditionFailed, StoreRefused
from tcfs.store.failures import (
    BucketMissing,
    ClockSkewed,
    CredentialsRefused,
    NotThatStore,
    RightsMissing,
    StoreBusy,
)
from tcfs.store.http import Answer
from tcfs.store.s3_xml import Record, parse

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


def refusal(answer: Answer, doing: str, where: str) -> StoreError:
    """The error for an answer that says no.

    Args:
        doing: such as ``reading packs/00/…``.
        where: the endpoint, without credentials.
    """
    status = answer.status
    said: Record = {}
    if answer.body:
        found = parse(answer.body)
        if found is None or found.root != "Error":
            if status < 500:
                return NotThatStore(f"what answers at {where} is no S3 server")
        else:
            said = found.values
    # An answer to HEAD has no body.
    code = said.get("Code", "") if answer.body else str(status)
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
        if code == "AuthorizationHeaderMalformed" and "Region" in said:
            return _elsewhere(where, said["Region"])
        return CredentialsRefused(f"{where} does not take these credentials: {shown}")
    if code in ("PermanentRedirect", "301", "307", "IllegalLocationConstraintException"):
        return _elsewhere(where, answer.headers.get("x-amz-bucket-region", ""))
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
