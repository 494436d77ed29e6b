"""Between a NATS leaf node and its hub: each is handed what the other took while they were apart.

While the two are joined, the server itself passes events on as they are published. What was
published meanwhile stays on one side, and NATS's own mirrors take up to 40 s to go on. So a daemon
beside the leaf node reads either stream through a durable consumer and publishes to the other under
the id that the event has: what is there already is dropped by the server. All daemons beside a leaf
node share the consumer, so that one of them forwards an event, whichever is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from tcfs.live.base import STREAM
from tcfs.live.connection import (
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
    from nats.js.client import JetStreamContext

log = logging.getLogger("tcfs.live")

CONSUMER: Final = "tcfs-forward"
FORWARDED: Final = "Tcfs-Forwarded"
"""Header of an event that came from the other side: it does not go back there."""
ID: Final = "Nats-Msg-Id"
RETRY_S: Final = (0.5, 10.0)
_API_S: Final = 5.0


class Forwarder:
    """Runs beside a connection to the leaf node."""

    def __init__(self, hub: NatsSettings) -> None:
        self._hub = hub
        self.connected = False

    async def run(self, client: Client) -> None:
        """Forward both ways for ever; without the hub, wait for it."""
        delay = RETRY_S[0]
        while True:
            try:
                await self._joined(client)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the hub may be away for days
                log.info("live events: the hub: %s", reason_of(error))
                delay = RETRY_S[0] if self.connected else min(delay * 2, RETRY_S[1])
            finally:
                self.connected = False
            await asyncio.sleep(delay)

    async def _joined(self, leaf: Client) -> None:
        lost = asyncio.Event()

        async def on_trouble(_: Exception | None) -> None:
            lost.set()

        hub = await connect(self._hub, CONSUMER, on_trouble=on_trouble)
        tasks: list[asyncio.Task[object]] = []
        try:
            here, there = leaf.jetstream(timeout=_API_S), hub.jetstream(timeout=_API_S)
            for stream in (here, there):
                await ensure_stream(stream)
                await ensure_consumer(stream, CONSUMER)
            self.connected = True
            tasks = [
                asyncio.create_task(_forward(leaf, there)),
                asyncio.create_task(_forward(hub, here)),
                asyncio.create_task(lost.wait()),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise ConnectionError("the connection was lost")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await abandon(hub)


async def _forward(source: Client, target: JetStreamContext) -> None:
    async with contextlib.aclosing(messages(source, STREAM, CONSUMER)) as arriving:
        async for message in arriving:
            headers = message.headers or {}
            if FORWARDED not in headers and ID in headers:
                await target.publish(
                    message.subject,
                    message.data,
                    timeout=_API_S,
                    headers={ID: headers[ID], FORWARDED: "1"},
                )
            await message.ack()
