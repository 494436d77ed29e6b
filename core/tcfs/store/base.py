"""The protocol every store and every wrapper implements.

A store holds immutable-by-convention objects under keys. What callers rely on, and the
conformance suite checks for each store:

- ``put`` is durable and visible to every reader when it returns (read after write, list after
  write); a failed ``put`` leaves the old object, the new one, or none, never a torn one.
- ``list`` is complete, in any order, and an error is raised, never a shorter listing.
- ``get`` of an absent key raises ``ObjectMissing``; every other failure raises ``StoreError``.
- Keys outside ``[a-z0-9._/-]``, with empty components or ones that begin with a dot, are refused.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Final, NewType, Protocol, runtime_checkable

from msgspec import Struct

from tcfs.errors import StoreError, UsageError
from tcfs.model.ids import StoreKey

ETag = NewType("ETag", str)

# A leading dot is refused: it excludes "." and "..", and leaves a store names for its own files.
_KEY = re.compile(r"[a-z0-9_-][a-z0-9._-]*(/[a-z0-9_-][a-z0-9._-]*)*")
MAX_KEY: Final = 512


class ObjectMissing(StoreError):
    """No object under that key. Not a fault of the store."""

    code = "object_missing"
    default_remedy = "The store is incomplete. Look closer with: tcfs verify"
    retryable = False


class StoreRefused(StoreError):
    """The store said no and will say so again: no rights, no space, not there."""

    code = "store_refused"
    retryable = False


class PreconditionFailed(StoreError):
    """A conditional write lost: the object exists already, or has changed."""

    code = "precondition_failed"
    retryable = False


class ObjectInfo(Struct, frozen=True):
    """What a listing says of one object. ``size`` is in bytes."""

    key: StoreKey
    size: int
    etag: ETag


class Condition(Struct, frozen=True):
    """When a put may happen: always, if the key is absent, or if the object still has ``etag``."""

    if_absent: bool = False
    if_match: ETag | None = None


ALWAYS: Final = Condition()
IF_ABSENT: Final = Condition(if_absent=True)


class Capabilities(Struct, frozen=True):
    """What the server behind this store really enforces."""

    conditional_writes: bool


@runtime_checkable
class BlobStore(Protocol):
    """Objects under keys. Safe to call from several threads at once."""

    @property
    def endpoint(self) -> str:
        """The URL that names this store, without credentials."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the server enforces."""
        ...

    def get(self, key: StoreKey) -> bytes:
        """The whole object. Raises ObjectMissing, StoreError."""
        ...

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``.

        Raises:
            ObjectMissing: no such object.
            StoreError: the object ends before ``offset + length``, or the store failed.
        """
        ...

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        """Write an object, durably. Raises PreconditionFailed, StoreError."""
        ...

    def head(self, key: StoreKey) -> ObjectInfo | None:
        """What there is under the key, or None if nothing. Raises StoreError."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix`` and is greater than ``after``.

        ``prefix`` is empty or ends at a ``/``. ``after`` lets a server skip; keys are compared as
        bytes and none at or below it is returned.
        """
        ...

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        """The distinct names directly below ``prefix`` that have keys below themselves."""
        ...

    def delete(self, key: StoreKey) -> None:
        """Remove an object; absent is fine. Raises StoreError."""
        ...

    def close(self) -> None:
        """Give back connections and threads."""
        ...


def check_key(key: str) -> StoreKey:
    """Validate a key. Raises UsageError: a key is made by us, never by a stranger."""
    if not is_key(key):
        raise UsageError(f"not a store key: {key!r}")
    return StoreKey(key)


def is_key(name: str) -> bool:
    """Whether a stranger's name could be a key of ours."""
    return len(name) <= MAX_KEY and _KEY.fullmatch(name) is not None


def check_prefix(prefix: str) -> str:
    """Validate a prefix for listing: empty, or a key and a ``/``. Raises UsageError."""
    if prefix and not (prefix.endswith("/") and _KEY.fullmatch(prefix[:-1])):
        raise UsageError(f"not a store prefix: {prefix!r}")
    return prefix


def check_condition(condition: Condition, current: ETag | None, key: StoreKey) -> None:
    """Raise PreconditionFailed unless a put may replace ``current`` (None: there is nothing)."""
    if condition.if_absent and current is not None:
        raise PreconditionFailed(f"{key} exists already")
    if condition.if_match is not None and current != condition.if_match:
        raise PreconditionFailed(f"{key} has changed meanwhile")


def check_range(offset: int, length: int) -> None:
    """Refuse ranges that cannot exist. Raises UsageError."""
    if offset < 0 or length < 0:
        raise UsageError(f"not a range: {length} bytes from {offset}")


def too_short(key: StoreKey) -> StoreRefused:
    """The error for a range that reaches past the end of an object."""
    return StoreRefused(
        f"object {key} ends too early", remedy="It is damaged. Look closer with: tcfs verify"
    )
