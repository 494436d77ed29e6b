"""Where a browser on this machine comes back to after signing in (RFC 8252, 7.3)."""

from __future__ import annotations

import hmac
import queue
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tcfs.errors import LocalFileError

PATH: Final = "/callback"
_DONE: Final = "You can close this window and go back to the terminal."
_NO: Final = "This is not what was waited for."


class Redirect:
    """Waits on a loopback address for one answer that carries our ``state``.

    Whatever else comes, other programs' requests and made-up answers, is turned away and does not
    end the waiting.
    """

    def __init__(self, state: str, port: int = 0) -> None:
        """Listen from here on. Raises LocalFileError."""
        self._came: queue.Queue[Mapping[str, str]] = queue.Queue(maxsize=1)
        try:
            self._server = _Server(("127.0.0.1", port), _handler(state, self._came))
        except OSError as error:
            raise LocalFileError(
                f"cannot wait for the browser on port {port}: {error.strerror}",
                remedy="Choose another port with --port, or leave it out.",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def address(self) -> str:
        """The redirect URI."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def answer(self, seconds: float) -> Mapping[str, str] | None:
        """What the browser brought, or None if it has not come in this time."""
        try:
            return self._came.get(timeout=seconds)
        except queue.Empty:
            return None

    def __enter__(self) -> Redirect:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever breaks off a connection is not of interest."""


def _handler(state: str, came: queue.Queue[Mapping[str, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            found = _parameters(self.path)
            if found is None or not hmac.compare_digest(
                found.get("state", "").encode(), state.encode()
            ):
                self._say(400, _NO)
                return
            try:
                came.put_nowait(found)
            except queue.Full:
                self._say(400, _NO)
                return
            self._say(200, _DONE)

        def _say(self, status: int, text: str) -> None:
            body = f"<!doctype html><title>tcfs</title><p>{text}</p>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Content-Security-Policy", "default-src 'none'")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a line would show the code."""

    return Handler


def _parameters(path: str) -> dict[str, str] | None:
    """The query of a request for our path; None for another one, or if a name comes twice."""
    try:
        place = urllib.parse.urlsplit(path)
        pairs = urllib.parse.parse_qsl(place.query, max_num_fields=20, errors="strict")
    except ValueError:
        return None
    found = dict(pairs)
    return found if place.path == PATH and len(found) == len(pairs) else None
