"""A directory of a SeaweedFS filer, over the filer's own HTTP API.

See "Filer Server API" in the SeaweedFS wiki; behaviour checked with 4.48. It has no conditional
writes. Directories are made as objects need them and stay when they are empty. In the directory
lies a marker, ``.tcfs-store``, which is no key: what looks absent is believed only where the marker
is, so that a filer that lost its data is not an empty store.
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

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
from tcfs.store.failures import (
    CredentialsMissing,
    CredentialsRefused,
    NotThatStore,
    RightsMissing,
    StoreBusy,
)
from tcfs.store.http import Answer, HttpClient

_MARKER: Final = ".tcfs-store"
_MARKER_TEXT: Final = b"tcfs store, layout 1\n"
PAGE: Final = 1000
_TOKEN_LIFE: Final = 600
"""Seconds that a token is good for; the clocks of both sides may differ by less."""
_DIRECTORY: Final = 1 << 31
"""Of ``Mode`` in a listing: os.ModeDir of Go."""
_KEY_REMEDY: Final = (
    "Put the filer's signing key (jwt.filer_signing.key of its security.toml) into TCFS_FILER_KEY, "
    "or as filer-key into the credentials file."
)


class SeaweedStore:
    """The objects in the directory ``place.prefix`` of a filer.

    Args:
        place: of kind ``seaweedfs``.
        client: to its server.
        key: the key that signs the filer's tokens; empty if the filer asks for none. Asked for
            whenever a new token is needed.
        now: seconds since 1970.
        page: names that one answer of a listing has at most.
    """

    def __init__(
        self,
        place: Endpoint,
        client: HttpClient,
        key: Callable[[], str],
        *,
        now: Callable[[], float] = time.time,
        page: int = PAGE,
    ) -> None:
        self._place = place
        self._client = client
        self._key = key
        self._now = now
        self._names = page
        self._base = f"/{place.prefix}/" if place.prefix else "/"
        self._lock = threading.Lock()
        self._token = ("", "", 0.0)

    @classmethod
    def create(cls, place: Endpoint, client: HttpClient, key: Callable[[], str]) -> SeaweedStore:
        """Make a store in an absent or empty directory, and open it; or open the one there is.

        Raises:
            StoreRefused: there is something else.
        """
        store = cls(place, client, key)
        try:
            store._make()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def endpoint(self) -> str:
        return self._place.url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_writes=False)

    def get(self, key: StoreKey) -> bytes:
        check_key(key)
        return self._object("GET", key).body

    def get_range(self, key: StoreKey, offset: int, length: int) -> bytes:
        check_key(key)
        check_range(offset, length)
        if not length:
            if offset > _size(self._object("HEAD", key)):
                raise too_short(key)
            return b""
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = self._object("GET", key, headers=wanted)
        if answer.status == 416:
            raise too_short(key)
        data = answer.body
        if answer.status == 200:
            data = data[offset : offset + length]  # an object of no bytes has no ranges
        elif not answer.headers.get("content-range", "").startswith(f"bytes {offset}-"):
            raise StoreError(f"reading {key}: the server sent another range than was asked for")
        if len(data) < length:
            raise too_short(key)
        return data

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        """Write an object. Conditions are refused: ``wrappers.conditions`` sees to them."""
        check_key(key)
        if condition != ALWAYS:
            raise StoreRefused(f"{self.endpoint} has no conditional writes")
        answer = self._ask("PUT", key, f"writing {key}", body=memoryview(data).cast("B"))
        # Of what it received, the server tells the MD5: the only thing that covers the way there.
        told = answer.headers.get("content-md5", "")
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        if told and told != base64.b64encode(md5).decode():
            raise StoreError(f"writing {key}: the server received other bytes than were sent")
        return ETag(md5.hex())

    def head(self, key: StoreKey) -> ObjectInfo | None:
        check_key(key)
        try:
            answer = self._object("HEAD", key)
        except ObjectMissing:
            return None
        return ObjectInfo(key, _size(answer), ETag(answer.headers.get("etag", "").strip('"')))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        found = False
        for info in self._walk(prefix, after):
            found = True
            yield info
        if not found:
            self._check_there()

    def list_dirs(self, prefix: str) -> builtins.list[str]:
        check_prefix(prefix)
        names = [
            name
            for name, entry in self._entries(prefix)
            if entry is None and any(True for _ in self._walk(f"{prefix}{name}/", ""))
        ]
        if not names:
            self._check_there()
        return names

    def delete(self, key: StoreKey) -> None:
        check_key(key)
        doing = f"deleting {key}"
        answer = self._ask("DELETE", key, doing, fine=(404, 500))
        if answer.status == 404:
            self._check_there()
        # What a filer says of a directory that has something in it: no object, and so no failure.
        if answer.status == 500 and self.head(key) is not None:
            raise self._refusal(answer, doing, signed=True)

    def close(self) -> None:
        self._client.close()

    def _walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        for name, entry in self._entries(prefix):
            if entry is None:
                below = f"{prefix}{name}/"
                if below > after or after.startswith(below):
                    yield from self._walk(below, after)
            elif prefix + name > after:
                yield ObjectInfo(StoreKey(prefix + name), entry.size, entry.etag)

    def _entries(self, prefix: str) -> Iterator[tuple[str, ObjectInfo | None]]:
        """What a directory holds, by name: an object, or None for a directory. Ours alone."""
        last = ""
        while True:
            query = f"?limit={self._names}&lastFileName={quote(last)}"
            answer = self._ask(
                "GET",
                prefix,
                f"listing {prefix or 'the store'}",
                query=query,
                headers={"Accept": "application/json"},
                fine=(404,),
            )
            if answer.status == 404:
                return
            page = self._page(answer, prefix)
            for entry in page:
                name = str(entry["FullPath"]).rpartition("/")[2]
                if not is_key(name):
                    continue
                if int(entry["Mode"]) & _DIRECTORY:
                    yield name, None
                else:
                    md5 = base64.b64decode(entry["Md5"] or "").hex()
                    yield name, ObjectInfo(StoreKey(prefix + name), entry["FileSize"], ETag(md5))
            if len(page) < self._names:
                return
            last = str(page[-1]["FullPath"]).rpartition("/")[2]

    def _page(self, answer: Answer, prefix: str) -> builtins.list[dict[str, Any]]:
        if "content-disposition" in answer.headers:
            return []  # what stands there is an object
        try:
            found = json.loads(answer.body)
            # The key is there even where there are no entries: null then.
            page: builtins.list[dict[str, Any]] = found["Entries"] or []
        except (ValueError, TypeError, KeyError):
            raise NotThatStore(
                f"what answers at {self.endpoint} for {prefix or 'the store'} is no listing"
            ) from None
        return page

    def _object(
        self, method: str, key: StoreKey, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        answer = self._ask(method, key, f"reading {key}", headers=headers, fine=(404, 416))
        # A directory answers as well, with a page for people.
        if answer.status == 404 or answer.headers.get("content-type", "").startswith("text/html"):
            self._check_there()
            raise ObjectMissing(f"the store has no object {key}")
        return answer

    def _make(self) -> None:
        if self._marker() is None:
            if any(True for _ in self._entries("")):
                raise StoreRefused(
                    f"{self.endpoint} is not empty and holds no store",
                    remedy="Use a directory of its own.",
                )
            self._ask("PUT", _MARKER, "making the store", body=_MARKER_TEXT)

    def _check_there(self) -> None:
        """Raise unless the store's marker is there: nothing below it counts as absent otherwise."""
        if self._marker() is None:
            raise StoreRefused(
                f"there is no store at {self.endpoint}",
                remedy="Check the endpoint with: tcfs config show",
            )

    def _marker(self) -> bytes | None:
        answer = self._ask("GET", _MARKER, "looking for the store", fine=(404,))
        if answer.status == 404:
            return None
        if answer.body != _MARKER_TEXT:
            raise NotThatStore(f"what answers at {self.endpoint} is no store of tcfs")
        return answer.body

    def _ask(
        self,
        method: str,
        name: str,
        doing: str,
        *,
        query: str = "",
        body: bytes | memoryview | None = None,
        headers: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
    ) -> Answer:
        said = dict(headers or {})
        token = self._authorization()
        if token:
            said["Authorization"] = f"Bearer {token}"
        target = quote(self._base + name) + query
        answer = self._client.request(method, target, body=body, headers=said)
        if 200 <= answer.status < 300 or answer.status in fine:
            return answer
        raise self._refusal(answer, doing, signed=bool(token))

    def _refusal(self, answer: Answer, doing: str, *, signed: bool) -> StoreError:
        status = answer.status
        text = f"{doing} at {self.endpoint} was refused: HTTP {status}"
        details = {"status": status}
        if status == 401 and not signed:
            return CredentialsMissing(text, remedy=_KEY_REMEDY)
        if status == 401:
            return CredentialsRefused(text, remedy=_KEY_REMEDY, details=details)
        if status in (403, 405):
            return RightsMissing(text, details=details)
        if status in (429, 503):
            return StoreBusy(text, details=details)
        if status == 507:
            return StoreRefused(text, remedy="Free space on the server.", details=details)
        if status >= 500 or status == 408:
            return StoreError(text, details=details)
        if status in (301, 302, 307, 308, 404):
            return NotThatStore(f"what answers at {self.endpoint} is no SeaweedFS filer")
        return StoreRefused(text, details=details)

    def _authorization(self) -> str:
        """A token (JSON Web Token, RFC 7519, HS256), or "" where there is no key."""
        key = self._key()
        if not key:
            return ""
        now = self._now()
        with self._lock:
            known, token, made = self._token
            if known != key or not made <= now < made + _TOKEN_LIFE / 2:
                token = filer_token(key, int(now) + _TOKEN_LIFE)
                self._token = (key, token, now)
            return token


def filer_token(key: str, expires_at: int) -> str:
    """A token for a filer's HTTP API, good until ``expires_at`` (seconds since 1970)."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"exp": expires_at})
    text = b".".join(_base64url(json.dumps(p, separators=(",", ":")).encode()) for p in parts)
    return (text + b"." + _base64url(hmac.digest(key.encode(), text, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _size(answer: Answer) -> int:
    return int(answer.headers.get("content-length", "0"))
