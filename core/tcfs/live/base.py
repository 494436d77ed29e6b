"""The seam to whatever carries events: NATS, or memory in tests and simulations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

STREAM: Final = "STATE_UPDATES"
SUBJECTS: Final = "STATE.>"
MAX_EVENT: Final = 64 << 10
"""Bytes of the largest event that is looked at; a longer one counts as noise."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way out.

    Attributes:
        id: the same whenever this event is sent again, so that the bus can drop the second one.
    """

    subject: str
    data: bytes
    id: str


class Delivery(Protocol):
    """An event that arrived, and comes again until it is acknowledged."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    def ack(self) -> None:
        """What the event told of is in the state; do not send it again."""
        ...

    def retry(self, delay_s: float) -> None:
        """It could not be applied: send it again after this many seconds."""
        ...


class EventBus(Protocol):
    """Carries events to every device's own durable queue.

    ``start``, ``publish``, ``take`` and ``close`` are for one thread; ``wake`` is called from any.
    A bus that loses its server goes on trying by itself.
    """

    @property
    def connected(self) -> bool:
        """Whether events flow now."""
        ...

    @property
    def problem(self) -> str:
        """Why they do not; empty if they do."""
        ...

    @property
    def generation(self) -> int:
        """How often it has connected: what was said in between may have been missed."""
        ...

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to connect. ``wake`` is called when something arrived or the connection changed."""
        ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand these over, in order. When it returns, the bus keeps them.

        Raises:
            LiveError: some may not have been taken; publishing them again is harmless.
        """
        ...

    def take(self) -> list[Delivery]:
        """What arrived since the last time; never waits."""
        ...

    def close(self) -> None:
        """Leave. What was not acknowledged comes again to whoever opens this queue next."""
        ...


def queue_name(device: str) -> str:
    """The durable queue of a device."""
    return f"state-{device}"
