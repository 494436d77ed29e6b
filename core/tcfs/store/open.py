"""From an endpoint to a store, with everything around it that a store behind a network needs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tcfs.errors import ConfigError
from tcfs.host.base import Clock
from tcfs.host.system import SystemClock
from tcfs.store.base import BlobStore, StoreRefused
from tcfs.store.endpoint import Endpoint, parse_endpoint
from tcfs.store.local import LocalStore
from tcfs.store.memory import MemoryStore
from tcfs.tls.contexts import STORE_DEFAULTS, TlsFiles

if TYPE_CHECKING:
    from tcfs.store.s3_client import Addressing, S3Keys
    from tcfs.store.wrappers.limit import TokenBucket

_memory: dict[str, MemoryStore] = {}
_memory_lock = threading.Lock()

MIB: Final = 1 << 20


class Credentials(Struct, frozen=True):
    """Where a store behind a network gets its secrets from, whenever it needs them.

    ``s3_keys`` and ``filer_key`` are asked often and answer from memory; None and "" are "there are
    none".
    """

    s3_keys: Callable[[], S3Keys | None] = lambda: None
    filer_key: Callable[[], str] = lambda: ""


class Memory(Struct, frozen=True):
    """What is remembered of stores between runs: whether conditional writes are kept, by URL."""

    recall: Callable[[str], bool | None] = lambda url: None
    remember: Callable[[str, bool], None] = lambda url, kept: None


class StoreOptions(Struct, frozen=True):
    """How to use a store behind a network; of a directory, only the limits count.

    Attributes:
        credentials: its secrets.
        memory: what was found out about it.
        addressing: see ``S3Place``.
        tls: what TLS with it rests on.
        enforce_tls: refuse a server without TLS.
        timeout: seconds without a byte after which a connection counts as broken.
        workers: requests at once, at most.
        retries: attempts after one that failed.
        memory_bytes: of objects in flight.
        upload_limit, download_limit: bytes a second; 0 for no limit.
        wait: waits for that many seconds.
    """

    credentials: Credentials = Credentials()
    memory: Memory = Memory()
    addressing: Addressing = "auto"
    tls: TlsFiles = STORE_DEFAULTS
    enforce_tls: bool = False
    timeout: float = 60.0
    workers: int = 8
    retries: int = 5
    memory_bytes: int = 256 * MIB
    upload_limit: int = 0
    download_limit: int = 0
    wait: Callable[[float], None] = time.sleep


def open_store(
    endpoint: str | Endpoint, *, create: bool = False, options: StoreOptions | None = None
) -> BlobStore:
    """The store that a URL names. See ``endpoint`` for the kinds of URLs.

    ``file:///dir`` is the embedded store in an absolute path, percent-encoded where needed.
    ``memory://name`` is one of this process, for tests. ``create`` makes the store, an S3 bucket
    included, if it is not there yet; otherwise that is an error: at once for a directory, with the
    first request elsewhere.

    Raises:
        ConfigError: not an endpoint, or one without TLS where that is enforced.
        StoreError: there is no store, or it cannot be made.
    """
    place = parse_endpoint(endpoint) if isinstance(endpoint, str) else endpoint
    chosen = options if options is not None else StoreOptions()
    if place.kind == "file":
        store: BlobStore = LocalStore.create(place.path) if create else LocalStore(place.path)
    elif place.kind == "memory":
        store = _memory_store(place.name, create=create)
    else:
        return _remote_store(place, create, chosen)
    if place.prefix:
        from tcfs.store.wrappers.prefix import PrefixStore

        store = PrefixStore(store, place.prefix)
    return _limited(store, SystemClock(), chosen)


def _remote_store(place: Endpoint, create: bool, options: StoreOptions) -> BlobStore:
    from tcfs.store.wrappers.circuit import CircuitStore
    from tcfs.store.wrappers.conditions import ConditionStore
    from tcfs.store.wrappers.gate import GateStore
    from tcfs.store.wrappers.retry import RetryPolicy, RetryStore

    if options.enforce_tls and not place.encrypted:
        raise ConfigError(
            f"{place.url} has no TLS, which storage.enforce_tls asks for",
            remedy="Write https:// in the endpoint, or unset storage.enforce_tls.",
        )
    names = options.tls.names
    if (options.tls.cert or options.tls.key) and not place.encrypted:
        raise ConfigError(
            f"{place.url} has no TLS, so nobody there sees the certificate of {names.cert}",
            remedy=f"Write https:// in the endpoint, or unset {names.cert} and {names.key}.",
        )
    clock = SystemClock()
    store = _s3(place, create, options) if place.kind == "s3" else _filer(place, create, options)
    store = GateStore(store, most=options.workers, memory=options.memory_bytes)
    store = _limited(store, clock, options)
    store = RetryStore(
        store,
        wait=options.wait,
        jitter=random.random,
        policy=RetryPolicy(tries=options.retries + 1),
    )
    store = CircuitStore(store, clock=clock)

    def recall() -> bool | None:
        return False if place.kind == "seaweedfs" else options.memory.recall(place.url)

    return ConditionStore(
        store,
        recall=recall,
        remember=lambda kept: options.memory.remember(place.url, kept),
        token=lambda: f"{random.getrandbits(64):016x}",
    )


def _s3(place: Endpoint, create: bool, options: StoreOptions) -> BlobStore:
    from tcfs.store.s3 import S3Store
    from tcfs.store.s3_client import S3Place

    where = S3Place(
        server=place.server,
        bucket=place.name,
        region=place.region,
        prefix=place.prefix,
        addressing=options.addressing,
        tls=options.tls,
        connections=options.workers + 4,  # parts of a large object are requests of their own
        timeout=options.timeout,
    )
    keys = options.credentials.s3_keys
    return S3Store.create(where, keys) if create else S3Store(where, keys)


def _filer(place: Endpoint, create: bool, options: StoreOptions) -> BlobStore:
    from tcfs.store.http import HttpClient
    from tcfs.store.seaweedfs import SeaweedStore

    client = HttpClient(place.server, timeout=options.timeout, tls=options.tls)
    key = options.credentials.filer_key
    return SeaweedStore.create(place, client, key) if create else SeaweedStore(place, client, key)


def _limited(store: BlobStore, clock: Clock, options: StoreOptions) -> BlobStore:
    """The store held to its bytes a second, if there is a limit."""
    if not (options.upload_limit or options.download_limit):
        return store
    from tcfs.store.wrappers.limit import LimitStore

    return LimitStore(
        store,
        upload=_bucket(options.upload_limit, clock, options),
        download=_bucket(options.download_limit, clock, options),
    )


def _bucket(rate: int, clock: Clock, options: StoreOptions) -> TokenBucket | None:
    from tcfs.store.wrappers.limit import TokenBucket

    return TokenBucket(rate, clock=clock, wait=options.wait) if rate else None


def _memory_store(name: str, *, create: bool) -> MemoryStore:
    with _memory_lock:
        store = _memory.get(name)
        if store is None:
            if not create:
                raise StoreRefused(f"there is no store memory://{name} in this process")
            store = _memory[name] = MemoryStore(name)
        return store
