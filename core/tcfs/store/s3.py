"""A bucket behind the S3 API.

Written for what servers do, not only for what Amazon's does: SeaweedFS lists in the order of its
directories and not of its keys, skips what is below a directory that ``start-after`` names, and
names directories for some time after their last key was deleted.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    ALWAYS,
    Capabilities,
    Condition,
    ETag,
    ObjectInfo,
    ObjectMissing,
    StoreRefused,
    check_key,
    check_prefix,
    check_range,
    is_key,
    too_short,
)
from tcfs.store.endpoint import Endpoint
from tcfs.store.failures import BucketMissing, NotThatStore
from tcfs.store.s3_client import S3Keys, S3Place, make_client
from tcfs.store.s3_errors import RangeRefused, translated

PART: Final = 16 << 20
"""Bytes of a part of a multipart upload."""
MULTIPART_FROM: Final = 48 << 20
"""Bytes from which an object is sent in parts at once. Below, which is where packs are, the two
further requests cost more than several connections for one object gain: other packs use those."""
PAGE: Final = 1000
_LISTERS: Final = 8
_LOWER: Final = "-."
"""Characters of keys that sort before "/"."""


class S3Store:
    """The objects under ``place.prefix`` in one bucket.

    Nothing is asked for until the first call. Errors are those of ``failures``; nothing is
    repeated here.

    Args:
        place: where the bucket is.
        keys: credentials, asked for before each request.
        page: objects that one answer of a listing names at most.
    """

    def __init__(
        self, place: S3Place, keys: Callable[[], S3Keys | None], *, page: int = PAGE
    ) -> None:
        self._place = place
        self._keys = keys
        self._endpoint = Endpoint(
            "s3", place.server, name=place.bucket, prefix=place.prefix, region=place.region
        ).url
        self._base = f"{place.prefix}/" if place.prefix else ""
        self._page = page
        self._lock = threading.Lock()
        # boto3 makes its clients from data: arguments are checked when a request is made.
        self._client: Any = None
        self._pool: ThreadPoolExecutor | None = None
        # SeaweedFS tells itself by its Server header.
        self._hollow_dirs = False

    @classmethod
    def create(cls, place: S3Place, keys: Callable[[], S3Keys | None]) -> S3Store:
        """Open the bucket, making it if it is not there.

        Raises:
            StoreRefused: it cannot be made, or under the prefix is what no tcfs wrote.
        """
        store = cls(place, keys)
        try:
            try:
                store._check_own()
            except BucketMissing:
                store._make_bucket()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_writes=True)

    def get(self, key: StoreKey) -> bytes:
        check_key(key)
        with self._doing(f"reading {key}"):
            answer = self._s3().get_object(Bucket=self._place.bucket, Key=self._base + key)
            data: bytes = answer["Body"].read()
            return data

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_key(key)
        check_range(offset, length)
        if not length:
            return self._empty_range(key, offset)
        try:
            with self._doing(f"reading {key}"):
                answer = self._s3().get_object(
                    Bucket=self._place.bucket,
                    Key=self._base + key,
                    Range=f"bytes={offset}-{offset + length - 1}",
                )
                data: bytes = answer["Body"].read()
        except RangeRefused:
            raise too_short(key) from None
        sent = answer.get("ContentRange", "")
        if not sent:
            data = data[offset : offset + length]  # a server that knows no ranges sent everything
        elif not sent.startswith(f"bytes {offset}-"):
            raise StoreError(f"reading {key}: the server sent another range than was asked for")
        if len(data) < length:
            raise too_short(key)
        return data

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        check_key(key)
        wanted: dict[str, Any] = {}
        if condition.if_absent:
            wanted["IfNoneMatch"] = "*"
        if condition.if_match is not None:
            wanted["IfMatch"] = condition.if_match
        view = memoryview(data).cast("B")
        if len(view) >= MULTIPART_FROM:
            return self._put_parts(key, view, wanted)
        body = data if isinstance(data, bytes | bytearray) else bytes(view)
        with self._doing(f"writing {key}"):
            answer = self._s3().put_object(
                Bucket=self._place.bucket, Key=self._base + key, Body=body, **wanted
            )
            return ETag(answer["ETag"])

    def head(self, key: StoreKey) -> ObjectInfo | None:
        from botocore.exceptions import ClientError

        check_key(key)
        with self._doing(f"looking up {key}"):
            try:
                answer = self._s3().head_object(Bucket=self._place.bucket, Key=self._base + key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (400, 403, 404):
                    raise
                refused = error
            else:
                return ObjectInfo(key, answer["ContentLength"], ETag(answer["ETag"]))
            # An answer to HEAD has no body: why, and whether there is a bucket at all, is in the
            # answer to another question.
            self._s3().list_objects_v2(
                Bucket=self._place.bucket, Prefix=self._base + key, MaxKeys=1
            )
            if refused.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise refused
            return None

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for start, begin in _passes(prefix, after):
            for page in self._pages(start, begin):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._base)
                    if key <= after or not is_key(key):
                        continue
                    if begin and _in_other_pass(key, prefix, after):
                        continue
                    yield ObjectInfo(StoreKey(key), found["Size"], ETag(found["ETag"]))

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        check_prefix(prefix)
        names = [
            name
            for page in self._pages(prefix, "", Delimiter="/")
            for found in page.get("CommonPrefixes", ())
            for name in [found["Prefix"].removeprefix(self._base + prefix).rstrip("/")]
            if is_key(name)
        ]
        if self._hollow_dirs and names:
            with ThreadPoolExecutor(min(_LISTERS, len(names))) as pool:
                full = pool.map(lambda name: self._holds_keys(f"{prefix}{name}/"), names)
                names = [name for name, holds in zip(names, full, strict=True) if holds]
        return names

    def delete(self, key: StoreKey) -> None:
        check_key(key)
        with self._doing(f"deleting {key}"):
            self._s3().delete_object(Bucket=self._place.bucket, Key=self._base + key)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        if client is not None:
            client.close()

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = make_client(self._place, self._keys)
            return self._client

    def _doing(self, doing: str) -> AbstractContextManager[None]:
        return translated(doing, self.endpoint, self._place.tls)

    def _empty_range(self, key: StoreKey, offset: int) -> bytes:
        # HTTP has no range of nothing: what is left to tell is whether it could be there.
        info = self.head(key)
        if info is None:
            raise ObjectMissing(f"the store has no object {key}")
        if offset > info.size:
            raise too_short(key)
        return b""

    def _put_parts(self, key: StoreKey, view: memoryview, wanted: dict[str, Any]) -> ETag:
        """Send an object as parts, several at a time. A failure takes the parts away again."""
        where = {"Bucket": self._place.bucket, "Key": self._base + key}
        s3 = self._s3()
        with self._doing(f"writing {key}"):
            upload = s3.create_multipart_upload(**where)["UploadId"]

        def send(number: int) -> dict[str, Any]:
            with self._doing(f"writing {key}, part {number}"):
                part = bytes(view[(number - 1) * PART : number * PART])
                answer = s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
                return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            count = -(-len(view) // PART)
            parts = builtins.list(self._workers().map(send, range(1, count + 1)))
            with self._doing(f"writing {key}"):
                done = s3.complete_multipart_upload(
                    **where, UploadId=upload, MultipartUpload={"Parts": parts}, **wanted
                )
                return ETag(done["ETag"])
        except BaseException:
            self._abort(where, upload)
            raise

    def _abort(self, where: dict[str, str], upload: str) -> None:

        # What could not be taken away is not seen by anybody, and ends by the bucket's own rules.
        with suppress(StoreError), self._doing("breaking off an upload"):
            self._s3().abort_multipart_upload(**where, UploadId=upload)

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(4, thread_name_prefix="s3-part")
            return self._pool

    def _pages(self, prefix: str, begin: str, **more: Any) -> Iterator[Any]:
        """The pages of a listing. One that is not the last and names no next is an error."""
        asked: dict[str, Any] = {
            "Bucket": self._place.bucket,
            "Prefix": self._base + prefix,
            "MaxKeys": self._page,
            **more,
        }
        if begin:
            asked["StartAfter"] = self._base + begin
        seen: set[str] = set()
        while True:
            with self._doing(f"listing {prefix or 'the store'}"):
                page = self._s3().list_objects_v2(**asked)
            if "IsTruncated" not in page:
                raise NotThatStore(f"what answers at {self.endpoint} is no S3 server")
            server = page["ResponseMetadata"]["HTTPHeaders"].get("server", "")
            self._hollow_dirs = server.startswith("SeaweedFS")
            yield page
            if not page["IsTruncated"]:
                return
            token = page.get("NextContinuationToken", "")
            if not token or token in seen:
                raise StoreError(f"listing {prefix or 'the store'}: the server lost its place")
            seen.add(token)
            asked["ContinuationToken"] = token

    def _holds_keys(self, prefix: str) -> bool:
        return any(page.get("Contents") for page in self._pages(prefix, "", MaxKeys=1))

    def _check_own(self) -> None:
        """Raise StoreRefused if the first names under the prefix can be no keys of ours."""
        page = next(self._pages("", "", MaxKeys=20))
        for found in page.get("Contents", ()):
            key = found["Key"].removeprefix(self._base)
            if key and not is_key(key.rstrip("/")):
                raise StoreRefused(
                    f"{self.endpoint} holds objects that are not from tcfs",
                    remedy="Use an empty bucket, or a prefix of its own: storage.prefix",
                )

    def _make_bucket(self) -> None:
        from botocore.exceptions import ClientError

        place = self._place
        where: dict[str, Any] = {}
        if not place.server and place.region != "us-east-1":
            where["CreateBucketConfiguration"] = {"LocationConstraint": place.region}
        with self._doing("making the bucket"):
            try:
                self._s3().create_bucket(Bucket=place.bucket, **where)
            except ClientError as error:
                # Somebody else was as fast.
                if error.response["Error"].get("Code") != "BucketAlreadyOwnedByYou":
                    raise


def _passes(prefix: str, after: str) -> Iterator[tuple[str, str]]:
    """The listings, as (prefix, start-after), that together name every key greater than ``after``.

    One that starts after ``after`` would do if servers sorted keys. SeaweedFS goes through
    directories by name, so that it misses what is in a directory whose name is ``after`` itself, or
    its beginning up to a character that sorts before "/": ``d0/a`` comes after ``d0-x`` as a key,
    and before it there. Such directories, which are few, are listed on their own.
    """
    if not after.startswith(prefix):
        if prefix > after:
            yield prefix, ""
        return
    if not after:
        yield prefix, ""
        return
    yield prefix, after
    yield from ((directory, "") for directory in _hidden(prefix, after))


def _hidden(prefix: str, after: str) -> builtins.list[str]:
    """Directories that a listing which starts after ``after`` may leave out, one inside another."""
    ends = [
        place
        for place in range(len(prefix) + 1, len(after) + 1)
        if (place == len(after) or after[place] in _LOWER) and after[place - 1] != "/"
    ]
    return [after[:end] + "/" for end in ends]


def _in_other_pass(key: str, prefix: str, after: str) -> bool:
    return any(key.startswith(directory) for directory in _hidden(prefix, after))
