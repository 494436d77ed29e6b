"""From files to what a connection is made with, taken up again when they change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from msgspec import Struct

from tcfs.errors import TcfsError
from tcfs.host.private import read_secret, stamp_of
from tcfs.model.paths import show
from tcfs.tls.certificates import Certificate, read_certificates
from tcfs.tls.trouble import Names, TlsTrouble

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("tcfs.tls")

STORE: Final = Names(
    ca="storage.ca_cert_path", cert="storage.client_cert_path", key="storage.client_key_path"
)
NATS: Final = Names(
    ca="sync.nats_ca_cert", cert="sync.nats_client_cert", key="sync.nats_client_key"
)


class TlsFiles(Struct, frozen=True):
    """What TLS with one server rests on. Nothing is read before it is needed.

    Attributes:
        names: what the settings are called.
        ca: authorities (PEM) to trust instead of the system's.
        cert: the certificate that says who we are, and those between it and its authority (PEM).
        key: its private key (PEM), readable by this user alone.
        password: what an encrypted key opens with; "" if there is none. May raise TcfsError.
        now: unix seconds.
    """

    names: Names
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    password: Callable[[], str] = lambda: ""
    now: Callable[[], float] = time.time

    @property
    def any(self) -> bool:
        """Whether any file is named."""
        return bool(self.ca or self.cert or self.key)


STORE_DEFAULTS: Final = TlsFiles(STORE)
"""The system's authorities, and no client certificate."""


class _Made(Struct, frozen=True):
    context: ssl.SSLContext
    own: Certificate | None


class TlsContexts:
    """Contexts for new connections, from the files as they are then. For several threads.

    While files cannot be used (a certificate whose key is still being written, say), what was
    loaded before is used further; ``problem`` says what is wrong.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.problem: TlsTrouble | None = None
        self._lock = threading.Lock()
        self._stamp: Hashable = None
        self._made: _Made | None = None

    def context(self) -> ssl.SSLContext:
        """The same one until a file changes.

        Raises:
            TlsTrouble: the files cannot be used and none were before, or our certificate has
                expired: a server that asks for it would refuse it, and say less.
        """
        with self._lock:
            made = self._current()
        if made.own is not None and made.own.not_after <= self.files.now():
            raise expired(self.files.names, made.own)
        return made.context

    def _current(self) -> _Made:
        files = self.files
        # Before they are read: what changes meanwhile is seen next time.
        stamp = tuple(path and stamp_of(path) for path in (files.ca, files.cert, files.key))
        if self._made is not None and self._stamp == stamp and self.problem is None:
            return self._made
        try:
            made = _load(files)
        except TlsTrouble as trouble:
            if self._made is None:
                raise
            if self.problem is None or self.problem.text != trouble.text:
                log.warning("TLS: %s; what was loaded before is used further", trouble.text)
            self.problem = trouble
            return self._made
        if self._made is not None:
            log.info("TLS: %s: taken up anew", files.names.cert if files.cert else files.names.ca)
        self._made, self._stamp, self.problem = made, stamp, None
        return made


def expired(names: Names, own: Certificate) -> TlsTrouble:
    """What to say of a client certificate that has expired."""
    day = datetime.fromtimestamp(own.not_after, UTC).date()
    return TlsTrouble(
        "client_expired",
        f"our client certificate ({names.cert}) expired on {day}",
        f"Put a new certificate and its key where {names.cert} and {names.key} say: they are taken "
        "up without a restart. Or set this machine's clock, if that is wrong.",
    )


def own_certificate(files: TlsFiles) -> Certificate | None:
    """The certificate that says who we are, if one is named; its key is there and belongs to it.

    Raises:
        TlsTrouble: they cannot be used.
    """
    import ssl

    return _show_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def authorities(files: TlsFiles) -> tuple[Certificate, ...]:
    """The authorities that are trusted instead of the system's, if any are named.

    Raises:
        TlsTrouble: the file cannot be used.
    """
    if files.ca is None:
        return ()
    _trust(files)
    try:
        return read_certificates(files.ca.read_bytes())
    except (OSError, ValueError):
        return ()  # OpenSSL reads certificates that only a strict reader refuses


def _load(files: TlsFiles) -> _Made:
    context = _trust(files)
    return _Made(context, _show_pair(context, files))


def _show_pair(context: ssl.SSLContext, files: TlsFiles) -> Certificate | None:
    """Have connections of this context show who we are, if files for that are named."""
    import ssl

    if files.cert is None and files.key is None:
        return None
    names = files.names
    if files.cert is None or files.key is None:
        have, lack = (names.key, names.cert) if files.cert is None else (names.cert, names.key)
        raise TlsTrouble("files", f"{have} is set, and {lack} is not", "Set both, or neither.")
    own = _certificates(files.cert, names.cert)[0]
    try:
        if read_secret(files.key, private=True) is None:
            _unusable(names.key, files.key, "is not there")
    except TcfsError as error:
        raise TlsTrouble("files", f"{names.key}: {error.message}", error.remedy) from None
    try:
        context.load_cert_chain(files.cert, files.key, password=lambda: _password(files))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsTrouble(
                "files",
                f"the key in {names.key} does not belong to the certificate in {names.cert}",
                "Put both in place; if they are just being renewed, this passes.",
            ) from None
        _unusable(names.key, files.key, "holds no private key, or another password opens it")
    except OSError as error:
        _unusable(names.cert, files.cert, f"cannot be read: {error.strerror}")
    return own


def _trust(files: TlsFiles) -> ssl.SSLContext:
    import ssl

    if files.ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=files.ca)
    except ssl.SSLError:
        _unusable(files.names.ca, files.ca, "holds no certificates (PEM)")
    except OSError as error:
        _unusable(files.names.ca, files.ca, f"cannot be read: {error.strerror}")


def _password(files: TlsFiles) -> str:
    try:
        found = files.password()
    except TcfsError as error:
        raise TlsTrouble("files", f"{files.names.key}: {error.message}", error.remedy) from None
    if not found:
        raise TlsTrouble(
            "files",
            f"the key in {files.names.key} is encrypted, and there is no password",
            "Set TCFS_CLIENT_KEY_PASSWORD or client-key-password in a source of credentials; or "
            "keep the key without one, mode 0600.",
        )
    return found


def _certificates(path: Path, setting: str) -> tuple[Certificate, ...]:
    try:
        return read_certificates(path.read_bytes())
    except OSError as error:
        _unusable(setting, path, f"cannot be read: {error.strerror}")
    except ValueError:
        _unusable(setting, path, "holds no certificates (PEM)")


def _unusable(setting: str, path: Path, why: str) -> NoReturn:
    raise TlsTrouble(
        "files", f"{setting}: {show(os.fsencode(path))} {why}", f"Mend the file, or {setting}."
    ) from None
