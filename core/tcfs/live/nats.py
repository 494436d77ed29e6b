"""The bus over NATS JetStream. The client library is asyncio alone: it runs in a thread of its own.

Any trouble ends the connection, and everything is set up anew: the stream, this device's durable
consumer, the subscription. So a server that comes back without its data is like a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from tcfs.errors import LiveError
from tcfs.live.base import STREAM, Delivery, Message
from tcfs.live.connection import (
    CONNECT_S,
    NatsSettings,
    abandon,
    connect,
    ensure_consumer,
    ensure_stream,
    reason_of,
)
from tcfs.live.pulling import messages

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

T = TypeVar("T")
log = logging.getLogger("tcfs.live")

PUBLISH_S: Final = 10.0
BACKOFF_S: Final = (0.2, 15.0)
_BATCH: Final = 256


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
                error = trouble[0] if trouble else ConnectionError("the connection was lost")
                raise self._settings.explain(error)
        finally:
            self._stream = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.flush(1), 2)
            await abandon(client)

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
