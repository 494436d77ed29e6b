"""``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, for whoever watches the watcher."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tcfs.errors import ConfigError

Answer = tuple[bool, str]
"""Whether all is well, and a sentence."""


class Web:
    """The server, in threads of its own."""

    def __init__(
        self,
        address: str,
        *,
        metrics: Callable[[], str],
        healthy: Callable[[], Answer],
        ready: Callable[[], Answer],
    ) -> None:
        """Listen.

        Raises:
            ConfigError: the address is none, or is taken.
        """
        host, colon, port = address.rpartition(":")
        host = host.strip("[]")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ConfigError(
                "daemon.metrics_addr is not host:port", remedy="Such as 127.0.0.1:9464."
            )

        class Handler(BaseHTTPRequestHandler):
            server_version = "tcfs"
            sys_version = ""
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    kind = "text/plain; version=0.0.4; charset=utf-8"
                    self._answer(200, metrics(), kind)
                elif path in ("/healthz", "/readyz"):
                    well, text = (healthy if path == "/healthz" else ready)()
                    self._answer(200 if well else 503, text + "\n", "text/plain; charset=utf-8")
                else:
                    self._answer(404, "not found\n", "text/plain; charset=utf-8")

            def _answer(self, status: int, text: str, kind: str) -> None:
                data = text.encode("utf-8", "backslashreplace")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """A scrape every few seconds is no news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host or "127.0.0.1", int(port)), Handler)
        except OSError as error:
            raise ConfigError(
                f"daemon.metrics_addr cannot be listened on: {error.strerror}",
                remedy="Choose another port, or stop what uses it.",
            ) from None
        threading.Thread(target=self._server.serve_forever, name="tcfs-web", daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
