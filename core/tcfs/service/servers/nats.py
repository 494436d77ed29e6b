"""A private NATS server with JetStream, from ``nats-server`` 2.15."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tcfs.service.servers import process, server
from tcfs.service.servers.server import Server
from tcfs.sync.private_files import write_private

_CONFIG: Final = "nats.conf"
_MEMORY: Final = "100MiB"


@dataclass(frozen=True)
class NatsServer(Server):
    """A NATS server in ``directory``, on a port of 127.0.0.1.

    Attributes:
        token: what clients must show; empty for an open server.
        more: further lines of its configuration file (TLS, leaf nodes, accounts ...).
    """

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

    def prepare(self) -> None:
        """Write its configuration."""
        write_private(self.directory / _CONFIG, self.config().encode())

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


def load(directory: Path) -> NatsServer | None:
    """The server that was saved in this directory, or None. Raises ConfigError."""
    return server.load(directory, lambda values: NatsServer(**values))


def plan(directory: Path, *, token: str | None = None, more: str = "") -> NatsServer:
    """A server on a port that is free now; ``token`` is random if None. Nothing is started."""
    (port,) = process.free_ports(1)
    return NatsServer(directory, port, secrets.token_urlsafe(24) if token is None else token, more)


def start_new(directory: Path, *, token: str | None = None, more: str = "") -> NatsServer:
    """Plan, start and save a server. See ``server.start_new``."""
    return server.start_new(lambda: plan(directory, token=token, more=more))
