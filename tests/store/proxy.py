"""A real HTTP proxy in front of a real server, which does what no server does on demand.

``FaultProxy(port, rule)`` passes every request on to that port of 127.0.0.1 unless ``rule`` says
otherwise; the rule is asked with each request in the order in which they come. Requests are signed
for the proxy's own address, which is passed on unchanged, so that signatures hold.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request: counted from 1, with the path as it was sent."""

    number: int
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Say:
    """Answer in the server's place; the server never sees the request."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing until the proxy ends."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection, before the server has the request, or after it has answered."""

    after: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Send half of the answer's body and break the connection."""


@dataclass(frozen=True, slots=True)
class WrongETag:
    """Send the answer with another etag."""


Fault = Say | Stall | Reset | Truncate | WrongETag
Rule = Callable[[Request], Fault | None]


class FaultProxy:
    """A proxy on a free port of 127.0.0.1, ended by ``close``.

    Args:
        port: where requests are passed on to.
        rule: what becomes of each; may be replaced at any time.
        tls: certificate and key to speak TLS with.
    """

    def __init__(
        self, port: int, rule: Rule = lambda request: None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.upstream = port
        self.rule = rule
        self.ended = threading.Event()
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self._server = _Server(self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: no matter of the proxy's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # Headers and body go out together: no waiting for the other side's delayed acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def handle_expect_100(self) -> bool:
        answered = super().handle_expect_100()
        self.wfile.flush()
        return answered

    def do(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with proxy.lock:
            request = Request(len(proxy.requests) + 1, self.command, self.path)
            proxy.requests.append(request)
            fault = proxy.rule(request)
        if isinstance(fault, Stall):
            proxy.ended.wait()
            self.close_connection = True
        elif isinstance(fault, Reset) and not fault.after:
            self._reset()
        elif isinstance(fault, Say):
            text = f"<Error><Code>{fault.code}</Code><Message>no</Message></Error>".encode()
            self._send(fault.status, [("Content-Type", "application/xml")], text, len(text))
        else:
            self._pass_on(body, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.proxy.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            data = answer.read()
        except OSError:
            self._reset()  # the server is not there
            return
        finally:
            upstream.close()
        if isinstance(fault, Reset):
            self._reset()
            return
        headers = [
            (name, '"0123456789abcdef"')
            if isinstance(fault, WrongETag) and name.lower() == "etag"
            else (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("content-length", "transfer-encoding", "connection")
        ]
        length = int(answer.headers.get("Content-Length", len(data)))
        if isinstance(fault, Truncate) and data:
            self._send(answer.status, headers, data[: len(data) // 2], length)
            self._reset()
        else:
            self._send(answer.status, headers, data, length)

    def _send(self, status: int, headers: list[tuple[str, str]], data: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def _reset(self) -> None:
        # Linger of 0 s: the connection ends with RST, as when a process dies.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
