"""A thin HTTP client for one server: kept connections, whole answers, errors of ours."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tcfs.errors import StoreError
from tcfs.store.failures import NotThatStore, StoreUnreachable, TlsFailed

_BROKEN: Final = (http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Requests to one server, from several threads at once.

    Args:
        server: ``http://host:port`` or ``https://host``.
        timeout: seconds without a byte after which a connection counts as broken.
        ca_cert: certificate authorities (PEM) to trust instead of the system's.

    Raises:
        TlsFailed: the file of certificate authorities cannot be used.
    """

    def __init__(self, server: str, *, timeout: float, ca_cert: Path | None = None) -> None:
        self._server = server
        scheme, _, self._host = server.partition("://")
        self._timeout = timeout
        self._context = _trust(ca_cert) if scheme == "https" else None
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | bytearray | memoryview | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask, and read the whole answer. The request must be one that may be sent twice.

        Raises:
            StoreUnreachable: there was no answer, or not all of it.
            TlsFailed, NotThatStore: whoever listens there is not to be trusted, or speaks no HTTP.
        """
        while True:
            connection, used = self._take()
            try:
                connection.request(method, target, body=body, headers=dict(headers or {}))
                answer = connection.getresponse()
                data = answer.read()
            except _BROKEN as error:
                connection.close()
                # The server may have closed a connection that was kept; that says nothing of it.
                if used and not isinstance(error, TimeoutError):
                    continue
                raise self._failure(error) from None
            except BaseException:
                connection.close()
                raise
            with self._lock:
                self._idle.append(connection)
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, data)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        if self._context is not None:
            secure = http.client.HTTPSConnection(
                self._host, timeout=self._timeout, context=self._context
            )
            return secure, False
        return http.client.HTTPConnection(self._host, timeout=self._timeout), False

    def _failure(self, error: BaseException) -> StoreError:
        where = self._server
        if isinstance(error, TimeoutError):
            return StoreUnreachable(f"{where} did not answer in time", details={"timeout": True})
        if isinstance(error, ssl.SSLError):
            why = getattr(error, "verify_message", "") or error.reason or "no TLS"
            return TlsFailed(f"no trusted connection to {where}: {why}")
        if isinstance(error, http.client.BadStatusLine) and not isinstance(
            error, http.client.RemoteDisconnected
        ):
            return NotThatStore(f"what answers at {where} speaks no HTTP")
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return StoreUnreachable(f"nobody answers at {where}")
        return StoreUnreachable(f"the connection to {where} broke off: {type(error).__name__}")


def _trust(ca_cert: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError):
        raise TlsFailed(
            f"{ca_cert} holds no certificates", remedy="Mend storage.ca_cert_path."
        ) from None
