"""A private NATS server with JetStream, from ``nats-server`` 2.15."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tcfs.errors import ConfigError, LocalFileError
from tcfs.service.servers import process
from tcfs.sync.private_files import read_private, write_private

_SETTINGS: Final = "settings.json"
_CONFIG: Final = "nats.conf"
_MEMORY: Final = "100MiB"
_TRIES: Final = 5


@dataclass(frozen=True)
class NatsServer:
    """A NATS server in ``directory``, on a port of 127.0.0.1.

    Attributes:
        token: what clients must show; empty for an open server.
        more: further lines of its configuration file (TLS, leaf nodes, accounts ...).
    """

    directory: Path
    port: int
    token: str = ""
    more: str = ""

    @property
    def url(self) -> str:
        """Address without the token."""
        return f"nats://127.0.0.1:{self.port}"

    @cached_property
    def service(self) -> process.Service:
        return process.Service(
            name="nats",
            directory=self.directory,
            command=(process.find_program("nats-server"), "-c", str(self.directory / _CONFIG)),
            ready=lambda: process.connects(self.port),
            environ={"GOMEMLIMIT": _MEMORY},
        )

    def start(self, *, timeout: float = process.START_TIMEOUT) -> int:
        """Start it and wait until it listens. Returns its pid. See ``process.start``."""
        write_private(self.directory / _CONFIG, self.config().encode())
        return process.start(self.service, timeout=timeout)

    def stop(self) -> bool:
        return process.stop(self.service)

    def kill(self) -> bool:
        return process.kill(self.service)

    def running(self) -> int | None:
        return process.running(self.service)

    def config(self) -> str:
        """The text of its configuration file, which is where the token stands."""
        lines = [
            'listen: "127.0.0.1:%d"' % self.port,  # noqa: UP031
            f"jetstream {{ store_dir: {json.dumps(str(self.directory / 'data'))} }}",
        ]
        if self.token:
            lines.append(f"authorization {{ token: {json.dumps(self.token)} }}")
        if self.more:
            lines.append(self.more)
        return "\n".join(lines) + "\n"

    def save(self) -> None:
        """Keep port and token in the directory, mode 0600, for ``load``."""
        values = {**asdict(self), "directory": ""}
        write_private(self.directory / _SETTINGS, json.dumps(values).encode())


def load(directory: Path) -> NatsServer | None:
    """The server that ``save`` wrote down in this directory, or None. Raises ConfigError."""
    raw = read_private(directory / _SETTINGS)
    if raw is None:
        return None
    try:
        return NatsServer(**{**json.loads(raw), "directory": directory})
    except (ValueError, TypeError):
        raise ConfigError(
            f"{directory / _SETTINGS} is damaged",
            remedy=f"Remove it; the data beside it stays: rm {directory / _SETTINGS}",
        ) from None


def plan(directory: Path, *, token: str | None = None, more: str = "") -> NatsServer:
    """A server on a port that is free now; ``token`` is random if None. Nothing is started."""
    (port,) = process.free_ports(1)
    return NatsServer(directory, port, secrets.token_urlsafe(24) if token is None else token, more)


def start_new(directory: Path, *, token: str | None = None, more: str = "") -> NatsServer:
    """Plan, start and save a server; other ports are tried if one was taken meanwhile."""
    for left in reversed(range(_TRIES)):
        server = plan(directory, token=token, more=more)
        try:
            server.start()
        except LocalFileError:
            if not left:
                raise
        else:
            server.save()
            return server
    raise AssertionError("unreachable")
