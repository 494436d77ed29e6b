"""This device's store: from its settings, its credentials and what it remembers of servers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from tcfs.store.base import BlobStore
from tcfs.store.endpoint import Endpoint, parse_endpoint
from tcfs.store.open import MIB, Credentials, Memory, StoreOptions, open_store
from tcfs.sync.private_files import read_private, write_private

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.config.schema import Config
    from tcfs.secrets.chain import CredentialChain
    from tcfs.store.s3_client import S3Keys

REMEMBERED: Final = "stores.json"
_PER_UPLOAD: Final = 80 * MIB
"""Memory that a pack on its way is given: itself, and its share of what is made meanwhile."""
_GOOD_FOR: Final = 30 * 86400
"""Seconds after which a server is tried again: it may have been replaced by a newer one."""


def configured_endpoint(
    loaded: LoadedConfig, url: str = "", *, environ: Mapping[str, str] | None = None
) -> Endpoint:
    """The store that the settings name, in full.

    Args:
        url: one that stands alone, as a binding or an invite has it, for where the settings name
            none; empty for the embedded store.

    Raises:
        ConfigError: the settings name none that can be.
    """
    storage = loaded.config.storage
    env = os.environ if environ is None else environ
    aws_server = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    if url and not storage.endpoint:
        return parse_endpoint(url)
    return parse_endpoint(
        loaded.endpoint,
        bucket=storage.bucket,
        prefix=storage.prefix,
        region=storage.region,
        aws_server=aws_server,
    )


def open_configured(loaded: LoadedConfig, endpoint: Endpoint, *, create: bool = False) -> BlobStore:
    """Open a store with this device's settings and credentials. See ``store.open``."""
    if endpoint.kind in ("file", "memory"):
        storage = loaded.config.storage
        limits = StoreOptions(
            upload_limit=storage.upload_limit, download_limit=storage.download_limit
        )
        return open_store(endpoint, create=create, options=limits)
    return open_store(endpoint, create=create, options=store_options(loaded))


def store_options(loaded: LoadedConfig) -> StoreOptions:
    """How this device's settings want a store behind a network to be used."""
    from tcfs.secrets.sources import credential_chain
    from tcfs.secrets.tls import store_tls

    storage, sync = loaded.config.storage, loaded.config.sync
    remembered = _Remembered(loaded.state_db.parent / REMEMBERED)
    chain = credential_chain(loaded.config)
    return StoreOptions(
        credentials=_credentials(chain),
        memory=Memory(recall=remembered.recall, remember=remembered.remember),
        addressing=storage.addressing_style,
        tls=store_tls(loaded.config, chain),
        enforce_tls=storage.enforce_tls,
        timeout=storage.timeout,
        workers=sync.workers,
        retries=sync.max_retries,
        memory_bytes=sync.memory_mb * MIB,
        upload_limit=storage.upload_limit,
        download_limit=storage.download_limit,
    )


def uploads_at_once(config: Config, endpoint: str) -> int:
    """Packs on their way at a time; each holds its bytes in memory.

    A disk is busy with two, a server with as many as ``sync.workers`` allows and
    ``sync.memory_mb`` holds.
    """
    if endpoint.startswith(("file:", "memory:")):
        return 2
    return max(1, min(config.sync.workers, config.sync.memory_mb * MIB // _PER_UPLOAD))


def source_in_use(loaded: LoadedConfig, chain: CredentialChain) -> str:
    """Name of the source that this store's credentials come from; "" if it needs or has none.

    Raises:
        TcfsError: a source cannot be used.
    """
    from tcfs.secrets.chain import FILER_KEY, S3_ACCESS, S3_SECRET

    kind = configured_endpoint(loaded).kind
    if kind not in ("s3", "seaweedfs"):
        return ""
    found = chain.find(S3_ACCESS, S3_SECRET) if kind == "s3" else chain.find(FILER_KEY)
    return found.source if found is not None else ""


def known_conditional(loaded: LoadedConfig, endpoint: str) -> bool | None:
    """Whether the store keeps conditional writes, as far as it is known here; asks nobody."""
    place = parse_endpoint(endpoint)
    if place.kind != "s3":
        return place.kind != "seaweedfs"
    return _Remembered(loaded.state_db.parent / REMEMBERED).recall(endpoint)


def condition_warnings(loaded: LoadedConfig, endpoint: str) -> list[str]:
    """What to tell of a store without conditional writes, where two can use one invite at once."""
    if known_conditional(loaded, endpoint) is not False:
        return []
    return [
        "this store keeps no conditional writes: a device that joins waits until an admin admits "
        "it, with: tcfs device admit NAME"
    ]


def _credentials(chain: CredentialChain) -> Credentials:
    from tcfs.secrets.chain import FILER_KEY, S3_ACCESS, S3_SECRET, S3_TOKEN
    from tcfs.store.s3_client import S3Keys

    def s3_keys() -> S3Keys | None:
        found = chain.find(S3_ACCESS, S3_SECRET)
        if found is None:
            return None
        values = found.values
        return S3Keys(values[S3_ACCESS], values[S3_SECRET], values.get(S3_TOKEN, ""))

    def filer_key() -> str:
        found = chain.find(FILER_KEY)
        return found.values[FILER_KEY] if found is not None else ""

    return Credentials(s3_keys=s3_keys, filer_key=filer_key)


class _Remembered:
    """What was found out about servers: {url: {"conditional_writes": bool, "at": unix seconds}}."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def recall(self, url: str) -> bool | None:
        found = self._all().get(url)
        if not isinstance(found, dict) or not isinstance(found.get("at"), int | float):
            return None
        fresh = abs(time.time() - found["at"]) < _GOOD_FOR
        kept = found.get("conditional_writes")
        return kept if fresh and isinstance(kept, bool) else None

    def remember(self, url: str, kept: bool) -> None:
        everything = self._all() | {url: {"conditional_writes": kept, "at": int(time.time())}}
        write_private(self._path, orjson.dumps(everything))

    def _all(self) -> dict[str, object]:
        data = read_private(self._path)
        try:
            found = orjson.loads(data) if data else {}
        except orjson.JSONDecodeError:
            found = {}  # only remembered: it is found out again
        return found if isinstance(found, dict) else {}
