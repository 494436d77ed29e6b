"""One connection to a NATS server: who we are to it, what it is to have, what went wrong.

The client library's own ways to mend a connection are not used: see ``nats``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tcfs.errors import TcfsError
from tcfs.live.base import STREAM, SUBJECTS
from tcfs.live.failures import NatsLoginExpired, explained
from tcfs.secrets.nats import read_login
from tcfs.secrets.sources import credential_chain
from tcfs.secrets.tls import nats_tls
from tcfs.tls.contexts import NATS, TlsContexts, TlsFiles

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.client import JetStreamContext

    from tcfs.config.schema import Config

RETENTION_S: Final = 7 * 24 * 3600
MAX_MESSAGES: Final = 500_000
DUPLICATE_WINDOW_S: Final = 3600
"""A leaf node and its hub hand each other what they may have already: the id tells."""
ACK_WAIT_S: Final = 30
MAX_DELIVER: Final = 5
MAX_ACK_PENDING: Final = 1000
PING_S: Final = 5
CONNECT_S: Final = 5.0
CLOSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """Where the server is, and who we are to it.

    Attributes:
        tls: refuse a server that does not speak TLS, whatever it says of itself.
        contexts: what TLS is spoken with.
        credentials: a file as ``secrets.nats`` reads it.
        now: unix seconds.
    """

    servers: tuple[str, ...]
    tls: bool = False
    contexts: TlsContexts = field(default_factory=lambda: TlsContexts(TlsFiles(NATS)))
    credentials: Path | None = None
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, config: Config, url: str) -> NatsSettings:
        """The settings for one of the configured servers (or several, with commas).

        Where files are named that TLS is spoken with, it is required.
        """
        sync = config.sync
        servers = tuple(part for raw in url.split(",") if (part := raw.strip()))
        secure = any(server.startswith("tls://") for server in servers)
        files = nats_tls(config, credential_chain(config))
        return cls(
            servers,
            sync.nats_tls or secure or files.any,
            TlsContexts(files),
            sync.nats_credentials_file,
        )

    def explain(self, error: BaseException) -> BaseException:
        """A failure of a connection as an error of ours, where it is one of ``failures``."""
        files = self.contexts.files
        return explained(error, files.names, with_cert=files.cert is not None)


def _identity(settings: NatsSettings) -> dict[str, Any]:
    """The options of a credentials file, read anew for each connection.

    Raises:
        ConfigError, AccessError: it cannot be used.
        NatsLoginExpired: its JWT has expired.
    """
    if settings.credentials is None:
        return {}
    login = read_login(settings.credentials)
    if login.expires is not None and login.expires <= settings.now():
        day = datetime.fromtimestamp(login.expires, UTC)
        raise NatsLoginExpired(f"our NATS credentials expired at {day:%Y-%m-%d %H:%M} UTC")
    if login.jwt:
        return {
            "user_jwt_cb": lambda: bytearray(login.jwt.encode()),
            "signature_cb": lambda nonce: _signed(login.seed, nonce),
        }
    if login.seed:
        return {"nkeys_seed_str": login.seed}
    if login.user:
        return {"user": login.user, "password": login.password}
    return {"token": login.token}


def _signed(seed: str, nonce: str) -> bytes:
    import nkeys

    return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))


async def connect(
    settings: NatsSettings,
    name: str,
    *,
    on_trouble: Callable[[Exception | None], Awaitable[None]] | None = None,
) -> Client:
    """A connection that does not mend itself.

    Args:
        on_trouble: told when it is lost, or an error came in.

    Raises:
        ConfigError, AccessError: the credentials cannot be used.
        LiveError: one of ``failures``.
        Exception: whatever else the library or the system says of a failed connection.
    """
    try:
        return await _connect(settings, name, on_trouble)
    except Exception as error:  # noqa: BLE001 - whatever it is not known as stays as it is
        raise settings.explain(error) from None


async def _connect(
    settings: NatsSettings,
    name: str,
    on_trouble: Callable[[Exception | None], Awaitable[None]] | None,
) -> Client:
    from nats.aio.client import Client as BaseClient

    class StrictClient(BaseClient):
        async def _process_info(
            self, info: dict[str, Any], initial_connection: bool = False
        ) -> None:
            # The library believes a server that says it needs no TLS, and would go on without.
            if settings.tls and initial_connection and not info.get("tls_required"):
                raise ConnectionError("the server does not offer TLS, which is required")
            await super()._process_info(info, initial_connection)

    async def lost() -> None:
        if on_trouble is not None:
            await on_trouble(client.last_error)

    errors: list[Exception] = []
    enough = asyncio.Event()

    async def failed(error: Exception) -> None:
        errors.append(error)
        if len(errors) >= len(settings.servers):
            enough.set()
        if on_trouble is not None:
            await on_trouble(error)

    options: dict[str, Any] = _identity(settings)
    if settings.tls or settings.contexts.files.any:
        options["tls"] = settings.contexts.context()
    client = StrictClient()
    connecting = asyncio.ensure_future(
        client.connect(
            servers=list(settings.servers),
            name=name,
            allow_reconnect=False,
            connect_timeout=int(CONNECT_S),
            ping_interval=PING_S,
            max_outstanding_pings=2,
            disconnected_cb=lost,
            closed_cb=lost,
            error_cb=failed,
            **options,
        )
    )
    hopeless = asyncio.ensure_future(enough.wait())
    try:
        # The library tries the same servers many times, and can wait for ever after a handshake
        # that failed: one look at each is enough here, the next one is for whoever calls.
        limit = CONNECT_S * (len(settings.servers) + 1)
        await asyncio.wait(
            {connecting, hopeless}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
        )
        if not connecting.done():
            raise errors[-1] if errors else TimeoutError(f"no answer within {limit:g} s")
        connecting.result()
    except BaseException:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await abandon(client)
        raise
    finally:
        hopeless.cancel()
    return client


async def abandon(client: Client) -> None:
    """Close a connection without waiting long for it. Its socket is gone in any case."""
    try:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), CLOSE_S)
    finally:
        _abort(client)


def _abort(client: Client) -> None:
    # The library has no word for it: its close waits for what is still to be sent and for the
    # other end's farewell, and does nothing for a client that is closing by itself already.
    from nats.aio.transport import TcpTransport

    transport = client._transport
    if isinstance(transport, TcpTransport):
        for writer in (transport._io_writer, transport._bare_io_writer):
            if writer is not None:
                writer.transport.abort()


async def ensure_stream(stream: JetStreamContext) -> None:
    """Make the stream if it is not there; one that an operator made is taken as it is."""
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import NotFoundError

    try:
        await stream.stream_info(STREAM)
    except NotFoundError:
        await stream.add_stream(
            StreamConfig(
                name=STREAM,
                subjects=[SUBJECTS],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                discard=DiscardPolicy.OLD,
                max_age=RETENTION_S,
                max_msgs=MAX_MESSAGES,
                duplicate_window=DUPLICATE_WINDOW_S,
            )
        )


async def ensure_consumer(stream: JetStreamContext, name: str) -> None:
    """Make a durable consumer if it is not there. It begins with what comes after it was made."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
    from nats.js.errors import NotFoundError

    try:
        await stream.consumer_info(STREAM, name)
    except NotFoundError:
        await stream.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=name,
                deliver_policy=DeliverPolicy.NEW,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=MAX_DELIVER,
                max_ack_pending=MAX_ACK_PENDING,
                filter_subject=SUBJECTS,
            ),
        )


def reason_of(error: BaseException) -> str:
    """An error in a few words, without anything of ours that could be secret."""
    if isinstance(error, TcfsError):
        return f"{error.message}. {error.remedy}"
    text = str(error).removeprefix("nats: ").split("\n")[0].strip(" '\"")
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
