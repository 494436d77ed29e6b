"""A bucket behind the S3 API.

Written for what servers do, not only for what Amazon's does: SeaweedFS lists in the order of its
directories and not of its keys, skips what is below a directory that ``start-after`` names, and
names directories for some time after their last key was deleted.
"""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

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
from tcfs.store.http import Answer
from tcfs.store.s3_client import ListPage, S3Client, S3Place
from tcfs.store.s3_errors import RangeRefused, refusal
from tcfs.store.sigv4 import S3Keys

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

PART: Final = 16 << 20
"""Bytes of a part of a multipart upload."""
MULTIPART_FROM: Final = 48 << 20
"""Bytes from which an object is sent in parts at once. Below, which is where packs are, the two
further requests cost more than several connections for one object gain: other packs use those."""
PAGE: Final = 1000
_LISTERS: Final = 8
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
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
        now: seconds since 1970.
    """

    def __init__(
        self,
        place: S3Place,
        keys: Callable[[], S3Keys | None],
        *,
        page: int = PAGE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._place = place
        self._endpoint = Endpoint(
            "s3", place.server, name=place.bucket, prefix=place.prefix, region=place.region
        ).url
        self._base = f"{place.prefix}/" if place.prefix else ""
        self._page = page
        self._s3 = S3Client(place, keys, self._endpoint, now=now)
        self._lock = threading.Lock()
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
        return self._s3.ask("GET", self._base + key, f"reading {key}").body

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_key(key)
        check_range(offset, length)
        if not length:
            return self._empty_range(key, offset)
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            answer = self._s3.ask("GET", self._base + key, f"reading {key}", headers=wanted)
        except RangeRefused:
            raise too_short(key) from None
        data = answer.body
        sent = answer.headers.get("content-range", "")
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
        wanted: dict[str, str] = {}
        if condition.if_absent:
            wanted["If-None-Match"] = "*"
        if condition.if_match is not None:
            wanted["If-Match"] = condition.if_match
        view = memoryview(data).cast("B")
        if len(view) >= MULTIPART_FROM:
            return self._put_parts(key, view, wanted)
        answer = self._s3.ask(
            "PUT",
            self._base + key,
            f"writing {key}",
            headers=wanted,
            body=view,
            # Sent again after it arrived, it would be refused for what it did itself.
            once=bool(wanted),
        )
        return self._etag(answer, key)

    def head(self, key: StoreKey) -> ObjectInfo | None:
        check_key(key)
        doing = f"looking up {key}"
        answer = self._s3.ask("HEAD", self._base + key, doing, fine=(400, 403, 404))
        if answer.status < 300:
            size = answer.headers.get("content-length", "")
            if not size.isdecimal():
                raise NotThatStore(f"what answers at {self.endpoint} for {key} is no S3 server")
            return ObjectInfo(key, int(size), self._etag(answer, key))
        # An answer to HEAD has no body: why, and whether there is a bucket at all, is in the
        # answer to another question.
        self._s3.list_page({"prefix": self._base + key, "max-keys": "1"}, doing)
        if answer.status != 404:
            raise refusal(answer, doing, self.endpoint)
        return None

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for start, begin in _passes(prefix, after):
            for page in self._pages(start, begin):
                for found in page.objects:
                    key = found.name.removeprefix(self._base)
                    if key <= after or not is_key(key):
                        continue
                    if begin and _in_other_pass(key, prefix, after):
                        continue
                    yield ObjectInfo(StoreKey(key), found.size, ETag(found.etag))

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        check_prefix(prefix)
        names = [
            name
            for page in self._pages(prefix, "", {"delimiter": "/"})
            for found in page.directories
            for name in [found.removeprefix(self._base + prefix).rstrip("/")]
            if is_key(name)
        ]
        if self._hollow_dirs and names:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(_LISTERS, len(names))) as pool:
                full = pool.map(lambda name: self._holds_keys(f"{prefix}{name}/"), names)
                names = [name for name, holds in zip(names, full, strict=True) if holds]
        return names

    def delete(self, key: StoreKey) -> None:
        check_key(key)
        self._s3.ask("DELETE", self._base + key, f"deleting {key}")

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self._s3.close()

    def _etag(self, answer: Answer, key: str) -> ETag:
        etag = answer.headers.get("etag")
        if etag is None:
            raise NotThatStore(f"what answers at {self.endpoint} for {key} is no S3 server")
        return ETag(etag)

    def _empty_range(self, key: StoreKey, offset: int) -> bytes:
        # HTTP has no range of nothing: what is left to tell is whether it could be there.
        info = self.head(key)
        if info is None:
            raise ObjectMissing(f"the store has no object {key}")
        if offset > info.size:
            raise too_short(key)
        return b""

    def _put_parts(self, key: StoreKey, view: memoryview, wanted: dict[str, str]) -> ETag:
        """Send an object as parts, several at a time. A failure takes the parts away again."""
        s3, name, doing = self._s3, self._base + key, f"writing {key}"
        begun = s3.ask("POST", name, doing, query={"uploads": ""})
        upload = s3.told(begun, "InitiateMultipartUploadResult", doing).values.get("UploadId", "")
        if not upload:
            raise NotThatStore(f"what answers at {self.endpoint} is no S3 server")

        def send(number: int) -> str:
            answer = s3.ask(
                "PUT",
                name,
                f"{doing}, part {number}",
                query={"partNumber": str(number), "uploadId": upload},
                body=view[(number - 1) * PART : number * PART],
            )
            return self._etag(answer, key)

        try:
            count = -(-len(view) // PART)
            etags = self._workers().map(send, range(1, count + 1))
            done = s3.ask(
                "POST",
                name,
                doing,
                query={"uploadId": upload},
                headers=wanted,
                body=_completion(etags),
                once=True,
            )
            told = s3.told(done, "CompleteMultipartUploadResult", doing)
            return ETag(told.values.get("ETag") or self._etag(done, key))
        except BaseException:
            self._abort(name, upload)
            raise

    def _abort(self, name: str, upload: str) -> None:
        # What could not be taken away is not seen by anybody, and ends by the bucket's own rules.
        with suppress(StoreError):
            self._s3.ask("DELETE", name, "breaking off an upload", query={"uploadId": upload})

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(4, thread_name_prefix="s3-part")
            return self._pool

    def _pages(
        self, prefix: str, begin: str, more: Mapping[str, str] | None = None
    ) -> Iterator[ListPage]:
        """The pages of a listing. One that is not the last and names no next is an error."""
        asked = {"prefix": self._base + prefix, "max-keys": str(self._page), **(more or {})}
        if begin:
            asked["start-after"] = self._base + begin
        doing = f"listing {prefix or 'the store'}"
        seen: set[str] = set()
        while True:
            page = self._s3.list_page(asked, doing)
            self._hollow_dirs = self._s3.server.startswith("SeaweedFS")
            yield page
            if page.last:
                return
            if page.following in seen:
                raise StoreError(f"{doing}: the server lost its place")
            seen.add(page.following)
            asked["continuation-token"] = page.following

    def _holds_keys(self, prefix: str) -> bool:
        return any(page.objects for page in self._pages(prefix, "", {"max-keys": "1"}))

    def _check_own(self) -> None:
        """Raise StoreRefused if the first names under the prefix can be no keys of ours."""
        page = next(self._pages("", "", {"max-keys": "20"}))
        for found in page.objects:
            key = found.name.removeprefix(self._base)
            if key and not is_key(key.rstrip("/")):
                raise StoreRefused(
                    f"{self.endpoint} holds objects that are not from tcfs",
                    remedy="Use an empty bucket, or a prefix of its own: storage.prefix",
                )

    def _make_bucket(self) -> None:
        place = self._place
        body = b""
        if not place.server and place.region != "us-east-1":
            body = (
                f'<CreateBucketConfiguration xmlns="{_NAMESPACE}"><LocationConstraint>'
                f"{place.region}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        answer = self._s3.ask("PUT", "", "making the bucket", body=body, fine=(409,))
        # Somebody else was as fast.
        if answer.status == 409 and b"BucketAlreadyOwnedByYou" not in answer.body:
            raise refusal(answer, "making the bucket", self.endpoint)


def _completion(etags: Iterable[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{_escaped(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return (
        f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'
    ).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


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
