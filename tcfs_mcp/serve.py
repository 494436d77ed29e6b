"""``tcfs-mcp serve``: the server over stdio or streamable HTTP. Logs go to stderr alone."""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from tcfs.errors import ConfigError, LocalFileError, UsageError
from tcfs_mcp.bound import clean
from tcfs_mcp.door import Door, load_from
from tcfs_mcp.jobs import Jobs
from tcfs_mcp.main import effort_of, policy_of
from tcfs_mcp.server import FleetServer, build_server
from tcfs_mcp.tools import TOOLS

if TYPE_CHECKING:
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tcfs_mcp.oidc import Gate

logger = logging.getLogger(__name__)
MIN_TOKEN = 16


def run_serve(options: argparse.Namespace) -> int:
    """Serve until the client is gone (stdio) or the process is told to end (HTTP)."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("tcfs_mcp").setLevel(logging.INFO)
    door = Door(
        registry=TOOLS,
        load=load_from(Path(options.config) if options.config else None, _note, effort_of(options)),
        policy=policy_of(options),
        jobs=(jobs := Jobs()),
        job_after=max(0.0, options.job_after),
        warn=_note,
    )
    gate = _gate(options, door)
    server = build_server(door, actor=options.actor, identified=gate is not None)
    try:
        if options.http is None:
            anyio.run(_serve_stdio, server, jobs)
        else:
            token = "" if gate else _read_token(options.token_file, options.host)
            # uvicorn raises the signal again when it has ended: so that the jobs end as well.
            signal.signal(signal.SIGTERM, _exit)
            anyio.run(_serve_http, server, options.host, options.http, token, gate)
    finally:
        jobs.shutdown()
    return 0


def _note(text: str) -> None:
    logger.info("%s", clean(text, multiline=False))


def _exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


async def _serve_stdio(server: FleetServer, jobs: Jobs) -> None:
    if sys.stdin.isatty():
        print("tcfs-mcp: speaking MCP on stdin and stdout, for an MCP client", file=sys.stderr)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_end_on_signal, jobs)
        await server.run_stdio_async()
        tasks.cancel_scope.cancel()


async def _end_on_signal(jobs: Jobs) -> None:
    """End the process when told to. The thread that reads stdin can only be left behind."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            await anyio.to_thread.run_sync(jobs.shutdown)
            logging.shutdown()
            os._exit(128 + number)


def _gate(options: argparse.Namespace, door: Door) -> Gate | None:
    """Who vouches for callers, if anyone does. Raises UsageError or ConfigError."""
    if not options.oidc and not options.oidc_issuer:
        if options.oidc_audience or options.oidc_group or options.public_url:
            raise UsageError(
                "--oidc-audience, --oidc-group and --public-url need --oidc or --oidc-issuer"
            )
        return None
    if options.http is None:
        raise UsageError("--oidc is for --http: over stdio there is one caller, who started it")
    if options.token_file is not None:
        raise UsageError("--token-file and --oidc exclude each other")
    if not _is_loopback(options.host) and not options.public_url:
        raise UsageError(
            f"--host {clean(options.host)} lets other machines in, and their tokens need TLS",
            remedy="Put a proxy with TLS in front, and say --public-url https://NAME/mcp.",
        )
    from tcfs_mcp.oidc import gate

    return gate(
        door.load().config.auth,
        issuer=options.oidc_issuer,
        audience=options.oidc_audience,
        groups=tuple(options.oidc_group),
        public_url=options.public_url,
    )


async def _serve_http(
    server: FleetServer, host: str, port: int, token: str, gate: Gate | None
) -> None:
    import uvicorn

    security = _known_hosts(gate.public_url) if gate and gate.public_url else None
    app: ASGIApp = server.streamable_http_app(host=host, transport_security=security)
    if token:
        app = RequireToken(app, token)
    bound = _listen(host, port)
    actual = bound.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if gate is not None:
        from tcfs_mcp.oidc import RequireOidc

        app = RequireOidc(app, gate, f"http://{shown}:{actual}")
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="on"
    )
    # Connections are accepted from here on: the socket listens already.
    print(f"tcfs-mcp: serving http://{shown}:{actual}/mcp", file=sys.stderr, flush=True)
    await uvicorn.Server(config).serve(sockets=[bound])


def _known_hosts(public_url: str) -> TransportSecuritySettings:
    """Names that requests may call this server by: its public one, and those of this machine."""
    from urllib.parse import urlsplit

    from mcp.server.transport_security import TransportSecuritySettings

    place = urlsplit(public_url)
    local = ("127.0.0.1", "localhost", "[::1]")
    return TransportSecuritySettings(
        allowed_hosts=[place.netloc, *(f"{name}:*" for name in local)],
        allowed_origins=[
            f"{place.scheme}://{place.netloc}",
            *(f"http://{name}:*" for name in local),
        ],
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError as error:
        raise LocalFileError(
            f"cannot listen on {clean(host)} port {port}: {error.strerror}",
            remedy="Choose another port, or 0 for a free one.",
        ) from None
    return bound


def _read_token(token_file: str | None, host: str) -> str:
    """The bearer token, if there is to be one. Raises UsageError or ConfigError."""
    if token_file is None:
        if not _is_loopback(host):
            raise UsageError(
                f"--host {clean(host)} lets other machines in",
                remedy="Add --token-file FILE with a secret of at least 16 characters.",
            )
        return ""
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise ConfigError(
            "the token file cannot be read", remedy="Check the path and its rights."
        ) from None
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"the token file does not hold one line of {MIN_TOKEN} or more ASCII characters",
            remedy="Make one with: openssl rand -hex 32",
        )
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RequireToken:
    """Answers 401 to every HTTP request that does not bring the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http":
            given = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            if not hmac.compare_digest(given, self._expected):
                headers = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)
