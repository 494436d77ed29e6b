"""What the private servers have in common: begun, ended, and remembered in a directory."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tcfs.errors import ConfigError, LocalFileError
from tcfs.service.servers import process
from tcfs.sync.private_files import read_private, write_private

_SETTINGS: Final = "settings.json"
_TRIES: Final = 5


@dataclass(frozen=True)
class Server(ABC):
    """A server in ``directory``, on ports of 127.0.0.1; its other fields are what is remembered."""

    directory: Path

    @property
    @abstractmethod
    def service(self) -> process.Service:
        """What is run."""

    @abstractmethod
    def prepare(self) -> None:
        """Write what the program reads when it starts, mode 0600: no secret is an argument."""

    def start(self, *, timeout: float = process.START_TIMEOUT) -> int:
        """Start it and wait until it serves. Returns its pid. See ``process.start``."""
        self.prepare()
        return process.start(self.service, timeout=timeout)

    def stop(self) -> bool:
        return process.stop(self.service)

    def kill(self) -> bool:
        return process.kill(self.service)

    def running(self) -> int | None:
        return process.running(self.service)

    def save(self) -> None:
        """Keep ports and keys in the directory, mode 0600, for ``load``."""
        values = {**asdict(self), "directory": ""}
        write_private(self.directory / _SETTINGS, json.dumps(values).encode())


S = TypeVar("S", bound=Server)


def load(directory: Path, make: Callable[[Mapping[str, Any]], S]) -> S | None:
    """The server that ``save`` wrote down in this directory, or None.

    Args:
        make: the server with these fields. Raises ValueError, TypeError, KeyError: they are not
            those of one.

    Raises:
        ConfigError: what was written down is damaged.
    """
    raw = read_private(directory / _SETTINGS)
    if raw is None:
        return None
    try:
        return make({**json.loads(raw), "directory": directory})
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{directory / _SETTINGS} is damaged",
            remedy=f"Remove it; the data beside it stays: rm {directory / _SETTINGS}",
        ) from None


def start_new(plan: Callable[[], S]) -> S:
    """Plan, start and save a server; other ports are tried if one was taken meanwhile."""
    for left in reversed(range(_TRIES)):
        server = plan()
        try:
            server.start()
        except LocalFileError:
            if not left:
                raise
        else:
            server.save()
            return server
    raise AssertionError("unreachable")
