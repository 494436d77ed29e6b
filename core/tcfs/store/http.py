"""A thin HTTP client for one server: kept connections, whole answers, errors of ours."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tcfs.errors import StoreError
from tcfs.store.failures import NotThatStore, StoreUnreachable, tls_failure
from tcfs.tls.contexts import STORE_DEFAULTS, TlsContexts, TlsFiles
from tcfs.tls.trouble import TlsTrouble, ssl_error_in, trouble_of

_LAST_WORD_S: Final = 1.0
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
        tls: what TLS with it rests on. Kept connections are left when it changes.
    """

    def __init__(self, server: str, *, timeout: float, tls: TlsFiles = STORE_DEFAULTS) -> None:
        self._server = server
        scheme, _, self._host = server.partition("://")
        self._timeout = timeout
        self._tls = TlsContexts(tls) if scheme == "https" else None
        self._context: ssl.SSLContext | None = None
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
            TlsFailed: whoever listens there is not to be trusted, or does not trust us.
            NotThatStore: it speaks no HTTP.
        """
        while True:
            connection, used = self._take()
            try:
                self._send(connection, method, target, body, headers)
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

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | bytearray | memoryview | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
        except OSError as error:
            if self._tls is not None and ssl_error_in(error) is None:
                _hear_alert(connection)
            raise

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        context = self._present_context()
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        if context is not None:
            secure = http.client.HTTPSConnection(self._host, timeout=self._timeout, context=context)
            return secure, False
        return http.client.HTTPConnection(self._host, timeout=self._timeout), False

    def _present_context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        try:
            context = self._tls.context()
        except TlsTrouble as trouble:
            raise tls_failure(trouble, self._server) from None
        if context is not self._context:
            self._context = context
            self.close()  # those who do something now end what they do
        return context

    def _failure(self, error: BaseException) -> StoreError:
        where = self._server
        if isinstance(error, TimeoutError):
            return StoreUnreachable(f"{where} did not answer in time", details={"timeout": True})
        if self._tls is not None and (inner := ssl_error_in(error)) is not None:
            files = self._tls.files
            trouble = trouble_of(inner, files.names, with_cert=files.cert is not None)
            return tls_failure(trouble, where)
        if isinstance(error, http.client.BadStatusLine) and not isinstance(
            error, http.client.RemoteDisconnected
        ):
            return NotThatStore(f"what answers at {where} speaks no HTTP")
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return StoreUnreachable(f"nobody answers at {where}")
        return StoreUnreachable(f"the connection to {where} broke off: {type(error).__name__}")


def _hear_alert(connection: http.client.HTTPConnection) -> None:
    """A server that does not take our certificate says so and leaves while we still send.

    Raises:
        ssl.SSLError: what it said.
    """
    try:
        if connection.sock is not None:
            connection.sock.settimeout(_LAST_WORD_S)
            connection.sock.recv(1)
    except OSError as last:
        if ssl_error_in(last) is not None:
            raise
