"""The objects below a prefix, by whatever names they have."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tcfs.errors import LocalFileError, UsageError
from tcfs.store.base import ObjectMissing
from tcfs.store.endpoint import Endpoint
from tcfs.store.wrappers.retry import try_again

if TYPE_CHECKING:
    from tcfs.store.s3_client import S3Keys, S3Place

T = TypeVar("T")


class UpstreamObjects(Protocol):
    """Objects of an upstream prefix. Names are text, without the prefix."""

    def names(self, start: str) -> Iterator[str]:
        """Every name that begins with ``start``. Raises TcfsError, never ends early."""
        ...

    def read(self, name: str) -> bytes:
        """A whole object. Raises ObjectMissing, TcfsError. Safe to call from several threads."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...


class DirectoryObjects:
    """A copy of a prefix in a directory, as made by ``aws s3 sync`` or ``rclone``."""

    def __init__(self, directory: bytes) -> None:
        self._top = directory
        if not os.path.isdir(directory):
            raise LocalFileError(
                f"there is no directory {os.fsdecode(directory)!r}", remedy="Check the path."
            )

    def names(self, start: str) -> Iterator[str]:
        def fail(error: OSError) -> None:
            raise LocalFileError(f"cannot read the copy: {error.strerror}") from error

        top = os.path.join(self._top, os.fsencode(start))
        for place, _, files in os.walk(top, onerror=fail):
            below = os.fsdecode(os.path.relpath(place, self._top))
            yield from (f"{below}/{os.fsdecode(name)}" for name in files)

    def read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self._top, os.fsencode(name)), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"there is no object {name}") from None
        except OSError as error:
            raise LocalFileError(f"cannot read {name}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is open."""


class BucketObjects:
    """A prefix of a bucket."""

    def __init__(self, place: S3Place, url: str, keys: Callable[[], S3Keys | None]) -> None:
        from tcfs.store.s3_client import make_client

        self._place = place
        self._url = url
        self._base = f"{place.prefix}/" if place.prefix else ""
        self._client: Any = make_client(place, keys)

    def names(self, start: str) -> Iterator[str]:
        asked: dict[str, Any] = {"Bucket": self._place.bucket, "Prefix": self._base + start}
        while True:
            page = self._ask(f"listing {start}", lambda: self._client.list_objects_v2(**asked))
            for found in page.get("Contents", ()):
                yield found["Key"].removeprefix(self._base)
            if not page["IsTruncated"]:
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, name: str) -> bytes:
        def get() -> bytes:
            answer = self._client.get_object(Bucket=self._place.bucket, Key=self._base + name)
            data: bytes = answer["Body"].read()
            return data

        return self._ask(f"reading {name}", get)

    def close(self) -> None:
        self._client.close()

    def _ask(self, doing: str, call: Callable[[], T]) -> T:
        from tcfs.store.s3_errors import translated

        def attempt() -> T:
            with translated(doing, self._url, self._place.tls):
                return call()

        return try_again(attempt, wait=time.sleep, jitter=random.random)


def open_objects(
    place: Endpoint, keys: Callable[[], S3Keys | None], **settings: Any
) -> UpstreamObjects:
    """The objects at an endpoint; ``settings`` as for ``S3Place``.

    Raises:
        UsageError: neither a bucket nor a directory.
        LocalFileError: no such directory.
    """
    if place.kind == "file":
        return DirectoryObjects(os.path.join(place.path, place.prefix.encode()).rstrip(b"/"))
    if place.kind != "s3":
        raise UsageError(
            "an import reads from a bucket, or from a copy of one in a directory",
            remedy="Give s3://bucket/prefix, the URL of its S3 server with both, or file:///dir",
        )
    from tcfs.store.s3_client import S3Place

    where = S3Place(place.server, place.name, region=place.region, prefix=place.prefix, **settings)
    return BucketObjects(where, place.url, keys)
