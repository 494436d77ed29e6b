"""Taking the device's lock beside a daemon, which holds it for one operation at a time.

A command that meets another command is refused at once: who started both wants to know. One that
meets the daemon waits its turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tcfs.errors import BusyError
from tcfs.host.base import Host

DAEMON_LOCK: Final = b"daemon.lock"
"""Held by a daemon as long as it runs, beside the device's own lock."""
PATIENCE_S: Final = 15.0
"""How long a command waits for a daemon's operation to end."""
_STEP_S: Final = 0.02


@contextmanager
def device_lock(host: Host, path: bytes, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the device's lock while the context lasts.

    Raises:
        BusyError: another command holds it, or the daemon for longer than ``patience_s``.
    """
    deadline = host.clock.monotonic() + patience_s
    while True:
        lock = host.lock(path, False)
        try:
            lock.__enter__()
            break
        except BusyError as error:
            holder = error.details.get("pid")
            # Without a pid it is just being taken, or just given back.
            if holder is not None and holder != daemon_pid(os.path.dirname(path)):
                raise
            if host.clock.monotonic() >= deadline:
                raise
            host.clock.sleep(_STEP_S)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def daemon_pid(directory: bytes) -> int | None:
    """The process that last took the daemon's lock in a state directory, if it did not end well.

    Whether it still runs, only the lock itself can tell.
    """
    try:
        with open(os.path.join(directory, DAEMON_LOCK), "rb") as file:
            text = file.read(20).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
