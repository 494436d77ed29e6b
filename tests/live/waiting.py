"""Waiting for what a bus does in its own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tcfs.live.base import Delivery, EventBus

PATIENCE_S = 30.0


class Bell:
    """Rung by a bus when something happened."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
        self._event.clear()


def until(holds: Callable[[], object], bell: Bell | None = None) -> None:
    """Return when this holds; fail if it does not within ``PATIENCE_S``."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        (bell or Bell()).wait(0.02)


def collect(bus: EventBus, word: str, count: int) -> list[Delivery]:
    """So many deliveries whose subject has this word; others', of a shared server, are let go."""
    found: list[Delivery] = []

    def enough() -> bool:
        for delivery in bus.take():
            if f".{word}." in delivery.subject:
                found.append(delivery)
            else:
                delivery.ack()
        return len(found) >= count

    until(enough)
    return found
