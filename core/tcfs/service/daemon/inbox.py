"""What other threads tell the daemon's loop: watchers, the bus, signal handlers."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tcfs.model.ids import RelPath

if TYPE_CHECKING:
    from tcfs.service.daemon.loop import Daemon


class Inbox:
    """What other threads tell the loop. Safe to use in a signal handler."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[Daemon, float], None]] = SimpleQueue()
        self.stopping = False

    def put(self, what: Callable[[Daemon, float], None]) -> None:
        """Have this done by the loop, soon."""
        self._queue.put(what)

    def wake(self) -> None:
        """Have the loop look around."""
        self._queue.put(lambda daemon, now: None)

    def stop(self) -> None:
        """End the loop; what is being done ends at its next step."""
        self.stopping = True
        self.wake()

    def wait(self, seconds: float) -> list[Callable[[Daemon, float], None]]:
        """What came, waiting this long for the first."""
        found = []
        try:
            found.append(
                self._queue.get(timeout=seconds) if seconds > 0 else self._queue.get(False)
            )
            while True:
                found.append(self._queue.get(False))
        except Empty:
            return found

    # As the watchers' listener

    def changed(self, root: bytes, paths: set[RelPath], made: set[RelPath]) -> None:
        """Paths of a root may have changed."""
        self.put(lambda daemon, now: daemon.changed(root, paths, made, now))

    def watching(self, root: bytes) -> None:
        """A root is watched from here on."""
        self.put(lambda daemon, now: daemon.watching(root, now))

    def blind(self, root: bytes, reason: str) -> None:
        """A root cannot be watched."""
        self.put(lambda daemon, now: daemon.blind(root, reason, now))
