"""``tcfs servers``: a private SeaweedFS and NATS on this machine, for development."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, group
from tcfs.cli.terminal import bold, dim, green, yellow
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.service.servers.private import ServersInfo


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    servers = group(subparsers, "servers", "run a private SeaweedFS and NATS for development")
    command(
        servers,
        "up",
        "start them, on loopback, with keys of their own",
        _up,
        more="Their programs come with the extra 'servers'. Their data stays in this device's data "
        "directory; 'environment.sh' there tells a shell how to use them.",
    )
    command(servers, "down", "stop them; their data stays", _down)
    command(servers, "status", "tell whether they run", _status)


def _run(ctx: Context, what: Callable[[Path], ServersInfo]) -> int:
    info = what(ctx.loaded().paths.data_dir / "servers")
    ctx.result(info, lambda: _show(ctx, info))
    return EXIT_OK


def _up(ctx: Context) -> int:
    from tcfs.service.servers import private

    return _run(ctx, private.up)


def _down(ctx: Context) -> int:
    from tcfs.service.servers import private

    return _run(ctx, private.down)


def _status(ctx: Context) -> int:
    from tcfs.service.servers import private

    return _run(ctx, private.status)


def _show(ctx: Context, info: ServersInfo) -> None:
    from tcfs.cli.text import table

    if not info.servers:
        ctx.terminal.out(dim("none; start them with: tcfs servers up"))
        return
    rows: list[list[Part]] = []
    for server in info.servers:
        state: Part = (
            green(f"running, process {server.pid}") if server.running else yellow("stopped")
        )
        rows.append([bold(server.name), server.endpoint, state, dim(server.directory)])
    table(ctx.terminal, rows, ("SERVER", "ENDPOINT", "STATE", "DATA"))
    if any(server.running for server in info.servers):
        ctx.terminal.out("To use them: . ", info.environment)
