"""Reading a durable JetStream consumer, message by message.

The client library's ``fetch`` gathers batches: a message can wait for the next one, and a request
that it gave up can swallow one until it is delivered again, 30 s later. So the pull protocol is
spoken here: one standing request, renewed when it ends, with a heartbeat that tells silence from
a server, stream or consumer that is gone.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

BATCH: Final = 256
EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 2.0
_ENDED: Final = frozenset(("404", "408", "409"))
_GONE: Final = ("deleted", "not found", "leadership")
"""Words of a 409 after which asking again is no use before everything is set up anew."""


async def messages(client: Client, stream: str, consumer: str) -> AsyncGenerator[Msg, None]:
    """Every message of a durable consumer as it comes, for ever.

    Raises:
        ConnectionError: the consumer is gone, or nothing is heard of the server.
    """
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    request = json.dumps(
        {
            "batch": BATCH,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
    ).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    left = 0
    try:
        while True:
            if left <= 0:
                await client.publish(subject, request, reply=inbox)
                left = BATCH
            try:
                message = await subscription.next_msg(timeout=HEARTBEAT_S * 3)
            except TimeoutError:
                raise ConnectionError("nothing is heard of the consumer") from None
            headers = message.headers or {}
            status = headers.get("Status", "")
            if not status:
                left -= 1
                yield message
            elif status == "503":
                raise ConnectionError("the consumer is gone")
            elif status in _ENDED:
                reason = headers.get("Description", "").lower()
                if any(word in reason for word in _GONE):
                    raise ConnectionError(f"the consumer is gone: {reason}")
                left = 0
    finally:
        await subscription.unsubscribe()
