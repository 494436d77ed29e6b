"""The bus over NATS JetStream. The client library is asyncio alone: it runs in a thread of its own.

Any trouble ends the connection, and everything is set up anew: the stream, this device's durable
consumer, the subscription. So a server that comes back without its data is like a new one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from tcfs.errors import LiveError, TcfsError
from tcfs.live.base import STREAM, SUBJECTS, Delivery, Message
from tcfs.live.failures import NatsLoginExpired, explained
from tcfs.live.pulling import messages
from tcfs.secrets.nats import read_login
from tcfs.secrets.sources import credential_chain
from tcfs.secrets.tls import nats_tls
from tcfs.tls.contexts import NATS, TlsContexts, TlsFiles

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from tcfs.config.schema import Config

T = TypeVar("T")
log = logging.getLogger("tcfs.live")

RETENTION_S: Final = 7 * 24 * 3600
MAX_MESSAGES: Final = 500_000
DUPLICATE_WINDOW_S: Final = 3600
"""A leaf node and its hub hand each other what they may have already: the id tells."""
ACK_WAIT_S: Final = 30
MAX_DELIVER: Final = 5
MAX_ACK_PENDING: Final = 1000
PING_S: Final = 5
CONNECT_S: Final = 5.0
PUBLISH_S: Final = 10.0
BACKOFF_S: Final = (0.2, 15.0)
_BATCH: Final = 256


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
        files = settings.contexts.files
        raise explained(error, files.names, with_cert=files.cert is not None) from None


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
        await _abandon(client)
        raise
    finally:
        hopeless.cancel()
    return client


async def _abandon(client: Client) -> None:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.close(), 2)


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


class Companion(Protocol):
    """Something that lives as long as a connection, in its event loop."""

    async def run(self, client: Client) -> None: ...


class NatsBus:
    """One device's connection.

    Args:
        queue: name of the durable consumer.
        companions: what runs beside the subscription, such as a forwarder.
    """

    def __init__(
        self, settings: NatsSettings, queue: str, *, companions: Sequence[Companion] = ()
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._companions = companions
        self._wake: Callable[[], None] = lambda: None
        self._arrived: deque[Msg] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stream: JetStreamContext | None = None
        self._lost: asyncio.Event | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._problem = "not connected yet"
        self._generation = 0

    @property
    def connected(self) -> bool:
        """Whether events flow now."""
        return self._stream is not None

    @property
    def problem(self) -> str:
        """Why they do not."""
        return self._problem

    @property
    def generation(self) -> int:
        """How often it has connected."""
        return self._generation

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to connect."""
        self._wake = wake
        started = threading.Event()

        def run() -> None:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                started.set()
                with contextlib.suppress(asyncio.CancelledError):
                    runner.run(self._run())

        self._thread = threading.Thread(target=run, name="tcfs-nats", daemon=True)
        self._thread.start()
        started.wait()

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand these over. Raises LiveError."""
        stream = self._stream
        if stream is None:
            raise LiveError(f"not connected to NATS: {self._problem}")
        try:
            self._call(_publish(stream, messages), PUBLISH_S)
        except LiveError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the event was not taken
            raise LiveError(f"NATS did not take an event: {reason_of(error)}") from None

    def take(self) -> list[Delivery]:
        """What arrived since the last time."""
        found: list[Delivery] = []
        while self._arrived:
            found.append(_NatsDelivery(self, self._arrived.popleft()))
        return found

    def close(self) -> None:
        """Leave, once acknowledgements on their way are sent."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        self._stopping = True

        def stop() -> None:
            if self._stream is None and self._main is not None:
                self._main.cancel()
            elif self._lost is not None:
                self._lost.set()

        with contextlib.suppress(RuntimeError):  # the loop has just ended
            loop.call_soon_threadsafe(stop)
        thread.join(CONNECT_S * 2)

    # In the loop's thread

    async def _run(self) -> None:
        self._main = asyncio.current_task()
        self._lost = asyncio.Event()
        delay = BACKOFF_S[0]
        while not self._stopping:
            self._lost.clear()
            before = self._generation
            try:
                await self._session(self._lost)
            except Exception as error:  # noqa: BLE001 - a bus goes on trying whatever happens
                problem = reason_of(error)
                if problem != self._problem:
                    log.warning("live events: %s", problem, extra={"queue": self._queue})
                self._problem = problem
            finally:
                was, self._stream = self._stream, None
            if was is not None:
                self._wake()
            if self._generation != before:
                delay = BACKOFF_S[0]
            if not self._stopping:
                # So that a fleet does not come back all at once.
                pause = delay * random.uniform(0.5, 1.0)
                delay = min(delay * 2, BACKOFF_S[1])
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._lost.wait(), pause)

    async def _session(self, lost: asyncio.Event) -> None:
        """One connection, from its beginning to its end."""
        trouble: list[Exception] = []

        async def on_trouble(error: Exception | None) -> None:
            if error is not None:
                trouble.append(error)
            lost.set()

        client = await connect(self._settings, self._queue, on_trouble=on_trouble)
        tasks: list[asyncio.Task[None]] = []
        try:
            stream = client.jetstream(timeout=CONNECT_S)
            await ensure_stream(stream)
            await ensure_consumer(stream, self._queue)
            tasks = [asyncio.create_task(self._read(client))]
            tasks += [asyncio.create_task(c.run(client)) for c in self._companions]
            self._generation += 1
            self._problem = ""
            self._stream = stream
            log.info("live events: connected")
            self._wake()
            ended = asyncio.create_task(lost.wait())
            done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            for task in done - {ended}:
                task.result()
            if not self._stopping:
                files = self._settings.contexts.files
                error = trouble[0] if trouble else ConnectionError("the connection was lost")
                raise explained(error, files.names, with_cert=files.cert is not None)
        finally:
            self._stream = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.flush(1), 2)
            await _abandon(client)

    async def _read(self, client: Client) -> None:
        async with contextlib.aclosing(messages(client, STREAM, self._queue)) as arriving:
            async for message in arriving:
                self._arrived.append(message)
                self._wake()

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise LiveError(f"NATS did not answer within {timeout_s:g} s") from None

    def settle(self, message: Msg, delay_s: float | None) -> None:
        """Acknowledge a message, or have it sent again after a while."""

        async def send() -> None:
            # On a connection that is gone it has no effect, and the message comes again.
            with contextlib.suppress(Exception):
                await (message.ack() if delay_s is None else message.nak(delay=delay_s))

        loop = self._loop
        if loop is not None and self._stream is not None and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(send(), loop)


async def _publish(stream: JetStreamContext, sent: Sequence[Message]) -> None:
    # The first ones are sent together; the answers may come in any order.
    for start in range(0, len(sent), _BATCH):
        await asyncio.gather(
            *(
                stream.publish(
                    message.subject,
                    message.data,
                    timeout=CONNECT_S,
                    stream=None,
                    headers={"Nats-Msg-Id": message.id},
                )
                for message in sent[start : start + _BATCH]
            )
        )


class _NatsDelivery:
    def __init__(self, bus: NatsBus, message: Msg) -> None:
        self._bus, self._message = bus, message

    @property
    def subject(self) -> str:
        return self._message.subject

    @property
    def data(self) -> bytes:
        return self._message.data

    def ack(self) -> None:
        self._bus.settle(self._message, None)

    def retry(self, delay_s: float) -> None:
        self._bus.settle(self._message, delay_s)
