"""From an endpoint to a store."""

from __future__ import annotations

import threading
from typing import Final
from urllib.parse import unquote_to_bytes

from tcfs.errors import ConfigError
from tcfs.store.base import BlobStore, StoreRefused
from tcfs.store.local import LocalStore
from tcfs.store.memory import MemoryStore

_REMEDY: Final = "Set storage.endpoint to a directory's URL, such as file:///srv/tcfs"
_PLANNED: Final = ("s3", "s3+http", "s3+https", "seaweedfs", "http", "https")

_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()


def open_store(endpoint: str, *, create: bool = False) -> BlobStore:
    """The store that a URL names.

    ``file:///dir`` is the embedded store in an absolute path, percent-encoded where needed.
    ``memory://name`` is one of this process, for tests. ``create`` makes the store if it is not
    there yet; otherwise that is an error.

    Raises:
        ConfigError: not an endpoint, or of a kind that this version does not have.
        StoreRefused: there is no store.
    """
    scheme, colon, rest = endpoint.partition("://")
    # Only the scheme is ever shown: the rest may carry credentials.
    if not colon:
        raise ConfigError("the endpoint is not a URL", remedy=_REMEDY)
    if scheme == "file":
        path = _file_path(rest)
        return LocalStore.create(path) if create else LocalStore(path)
    if scheme == "memory":
        return _memory_store(rest, create=create)
    if scheme in _PLANNED:
        raise ConfigError(f"this version has no {scheme}:// stores yet", remedy=_REMEDY)
    raise ConfigError(f"unknown kind of store: {scheme[:32]!r}", remedy=_REMEDY)


def _file_path(rest: str) -> bytes:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise ConfigError("a file:// endpoint takes an absolute path and no host", remedy=_REMEDY)
    if "?" in path or "#" in path:
        raise ConfigError("write ? and # in a file:// endpoint as %3F and %23", remedy=_REMEDY)
    raw = b"/" + unquote_to_bytes(path.encode("utf-8", "surrogateescape")).strip(b"/")
    if raw == b"/" or b"\0" in raw:
        raise ConfigError("the path in the file:// endpoint is not a directory's", remedy=_REMEDY)
    return raw


def _memory_store(name: str, *, create: bool) -> MemoryStore:
    with _memory_lock:
        store = _memory.get(name)
        if store is None:
            if not create:
                raise StoreRefused(f"there is no store memory://{name} in this process")
            store = _memory[name] = MemoryStore(name)
        return store
