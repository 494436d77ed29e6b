"""Which files TLS with the store and with the NATS server rests on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tcfs.secrets.chain import CLIENT_KEY_PASSWORD, CredentialChain
from tcfs.tls.contexts import NATS, STORE, TlsFiles
from tcfs.tls.trouble import Names

if TYPE_CHECKING:
    from tcfs.config.schema import Config

CERT: Final = "client-cert"
KEY: Final = "client-key"


def store_tls(
    config: Config,
    chain: CredentialChain,
    *,
    environ: Mapping[str, str] | None = None,
    now: Callable[[], float] = time.time,
) -> TlsFiles:
    """What the settings say of TLS with the store.

    Where they name no client certificate, one that systemd handed over is used:
    ``store-client-cert`` and ``store-client-key`` in ``$CREDENTIALS_DIRECTORY``.
    """
    storage = config.storage
    given = storage.client_cert_path, storage.client_key_path
    pair = _pair("store", given, os.environ if environ is None else environ)
    return _files(STORE, storage.ca_cert_path, pair, chain, now)


def nats_tls(
    config: Config,
    chain: CredentialChain,
    *,
    environ: Mapping[str, str] | None = None,
    now: Callable[[], float] = time.time,
) -> TlsFiles:
    """What the settings say of TLS with the NATS server; see ``store_tls``."""
    sync = config.sync
    given = sync.nats_client_cert, sync.nats_client_key
    pair = _pair("nats", given, os.environ if environ is None else environ)
    return _files(NATS, sync.nats_ca_cert, pair, chain, now)


def _files(
    names: Names,
    ca: Path | None,
    pair: tuple[Path | None, Path | None],
    chain: CredentialChain,
    now: Callable[[], float],
) -> TlsFiles:
    def password() -> str:
        found = chain.find(CLIENT_KEY_PASSWORD)
        return found.values[CLIENT_KEY_PASSWORD] if found is not None else ""

    return TlsFiles(names, ca, *pair, password=password, now=now)


def _pair(
    server: str, given: tuple[Path | None, Path | None], environ: Mapping[str, str]
) -> tuple[Path | None, Path | None]:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if any(given) or not directory:
        return given
    cert, key = (Path(directory) / f"{server}-{word}" for word in (CERT, KEY))
    return (cert, key) if cert.exists() or key.exists() else given
