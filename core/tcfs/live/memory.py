"""A bus in memory, for simulations: it loses, repeats and delays what it is told to.

``Exchange`` stands for the server: its stream and every device's durable queue. Nothing happens by
itself: ``faults`` says what becomes of each message, and ``take`` returns what is due at the time
that ``now`` gives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tcfs.errors import LiveError
from tcfs.live.base import Delivery, Message

Fate = Literal["deliver", "lose", "repeat"]
ACK_WAIT_S = 30.0
MAX_DELIVER = 5


@dataclass(slots=True)
class _Queued:
    message: Message
    due: float
    delivered: int = 0


@dataclass(slots=True)
class _Queue:
    waiting: list[_Queued] = field(default_factory=list)
    wake: Callable[[], None] | None = None


class Exchange:
    """The server's side.

    Args:
        now: monotonic seconds.
        faults: (receiver's queue, message) -> (its fate, seconds until it is delivered).
    """

    def __init__(
        self,
        now: Callable[[], float] = lambda: 0.0,
        faults: Callable[[str, Message], tuple[Fate, float]] = lambda queue, message: (
            "deliver",
            0.0,
        ),
    ) -> None:
        self._now = now
        self._faults = faults
        self._queues: dict[str, _Queue] = {}
        self._ids: set[str] = set()
        self._lock = threading.RLock()
        self.up = True
        self.starts = 1
        """How often it was started."""

    def stop(self) -> None:
        """The server ends: nothing can be published or taken."""
        self._change(up=False, forget=False)

    def start(self, *, forget: bool = False) -> None:
        """The server is back, with ``forget`` without its data."""
        self._change(up=True, forget=forget)

    def _change(self, *, up: bool, forget: bool) -> None:
        with self._lock:
            self.up = up
            self.starts += up
            if forget:
                self._ids.clear()
                for queue in self._queues.values():
                    queue.waiting.clear()
            wakes = [queue.wake for queue in self._queues.values()]
        for wake in wakes:
            if wake is not None:
                wake()

    def attach(self, name: str, wake: Callable[[], None] | None) -> None:
        """Open a durable queue; without ``wake`` its owner is away, and it goes on filling."""
        with self._lock:
            self._queues.setdefault(name, _Queue()).wake = wake

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages into every queue. Raises LiveError while the server is down."""
        with self._lock:
            if not self.up:
                raise LiveError("the exchange is down")
            for message in messages:
                if message.id in self._ids:
                    continue
                self._ids.add(message.id)
                for name, queue in self._queues.items():
                    fate, delay = self._faults(name, message)
                    copies = {"deliver": 1, "lose": 0, "repeat": 2}[fate]
                    due = self._now() + delay
                    queue.waiting += [_Queued(message, due) for _ in range(copies)]
            wakes = [queue.wake for queue in self._queues.values()]
        for wake in wakes:
            if wake is not None:
                wake()

    def take(self, name: str) -> list[Delivery]:
        """What is due in a queue. It comes again after ``ACK_WAIT_S`` unless acknowledged."""
        with self._lock:
            if not self.up:
                return []
            queue, now = self._queues[name], self._now()
            queue.waiting = [q for q in queue.waiting if q.delivered < MAX_DELIVER]
            due = [q for q in queue.waiting if q.due <= now]
            for queued in due:
                queued.due = now + ACK_WAIT_S
                queued.delivered += 1
            return [_Delivery(self, queue, queued) for queued in due]

    def settle(self, queue: _Queue, queued: _Queued, retry_s: float | None) -> None:
        """Forget a message, or have it come again after this many seconds."""
        with self._lock:
            if retry_s is not None:
                queued.due = self._now() + retry_s
            else:
                # By identity: a repeated message is equal to its twin.
                queue.waiting = [q for q in queue.waiting if q is not queued]


class _Delivery:
    def __init__(self, exchange: Exchange, queue: _Queue, queued: _Queued) -> None:
        self._exchange, self._queue, self._queued = exchange, queue, queued

    @property
    def subject(self) -> str:
        return self._queued.message.subject

    @property
    def data(self) -> bytes:
        return self._queued.message.data

    def ack(self) -> None:
        self._exchange.settle(self._queue, self._queued, None)

    def retry(self, delay_s: float) -> None:
        self._exchange.settle(self._queue, self._queued, delay_s)


class MemoryBus:
    """One device's connection to an ``Exchange``."""

    def __init__(self, exchange: Exchange, queue: str) -> None:
        self._exchange = exchange
        self._queue = queue
        self._wake: Callable[[], None] | None = None

    @property
    def connected(self) -> bool:
        """Whether events flow now."""
        return self._wake is not None and self._exchange.up

    @property
    def problem(self) -> str:
        """Why they do not."""
        return "" if self.connected else "the exchange is down"

    @property
    def generation(self) -> int:
        """How often it has connected."""
        return self._exchange.starts

    def start(self, wake: Callable[[], None]) -> None:
        """Open the queue."""
        self._wake = wake
        self._exchange.attach(self._queue, wake)

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand these over. Raises LiveError."""
        self._exchange.publish(messages)

    def take(self) -> list[Delivery]:
        """What is due."""
        return self._exchange.take(self._queue)

    def close(self) -> None:
        """Leave; the queue stays."""
        self._wake = None
        self._exchange.attach(self._queue, None)
