"""``tcfs status`` and ``tcfs sync-status``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, takes
from tcfs.cli.context import local_path
from tcfs.cli.terminal import Styled, bold, dim, green, yellow
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.service.daemon.report import Report
    from tcfs.sync import results as r

_STYLES = {"up_to_date": "green", "conflict": "yellow", "not_tracked": "dim", "not_present": "dim"}


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    command(subparsers, "status", "tell how this device and its store are", _status)
    one = command(subparsers, "sync-status", "tell how one path stands", _sync_status)
    takes(one.add_argument("path", metavar="PATH", help="local or remote path"), "file")


def _status(ctx: Context) -> int:
    from msgspec.structs import asdict

    from tcfs.service.daemon.report import read

    with ctx.fleet() as fleet:
        status = fleet.status()
    daemon = read(ctx.loaded().state_db.parent)
    value = {**asdict(status), "daemon": asdict(daemon)}
    ctx.result(value, lambda: _show_status(ctx, status, daemon))
    return EXIT_OK


def _show_status(ctx: Context, status: r.Status, daemon: Report) -> None:
    from tcfs import __version__
    from tcfs.cli.text import fields, plural
    from tcfs.config.show import redact_url

    terminal = ctx.terminal
    terminal.out(bold(f"tcfs {__version__}"))
    conflicts: Part = green("none")
    if status.conflicts:
        conflicts = yellow(f"{plural(status.conflicts, 'conflict')}; see them with: tcfs conflicts")
    state = " [revoked]" if status.revoked else ""
    rows: list[tuple[str, Part]] = [
        ("  daemon", _daemon_state(daemon)),
        ("  live events", daemon.live_message),
        (
            "  storage",
            f"{redact_url(status.endpoint)} [{'ok' if status.store_reached else 'unreachable'}]",
        ),
        ("  repository", status.repo),
        ("  encryption", "on" if status.encryption else yellow("off")),
        ("  device", f"{status.device_name} ({status.device_id}){state}"),
        ("  role", status.role),
        ("  devices", str(status.devices)),
        ("  namespace", status.namespace),
        ("  conflict mode", ctx.loaded().config.sync.conflict_mode),
        ("  conflicts", conflicts),
    ]
    if status.outbox:
        rows.append(("  unsent", yellow(f"{plural(status.outbox, 'segment')}; tcfs push sends it")))
    for root in status.roots:
        waiting = f", {root.waiting:,} to pull" if root.waiting else ""
        label = "  sync root" if root.is_sync_root else "  synced"
        rows.append((label, f"{root.local} = {root.remote} ({root.tracked:,} tracked{waiting})"))
    fields(terminal, rows)
    for warning in status.warnings:
        terminal.warn(warning)
    for kept in daemon.roots:
        if kept.problem:
            terminal.warn(f"{kept.local}: {kept.problem}. {kept.remedy}".rstrip())
    for warning in daemon.warnings:
        if warning not in status.warnings:
            terminal.warn(f"the daemon says: {warning}")
    if daemon.store_problem:
        terminal.warn(f"the daemon cannot use the store: {daemon.store_problem}")


def _daemon_state(daemon: Report) -> Part:
    from tcfs.cli.text import when

    if daemon.state == "not running":
        return dim("not running; not needed for these commands")
    since = f" since {when(int(daemon.started_at))}" if daemon.started_at else ""
    text = f"{daemon.state} (process {daemon.pid}{since}): {daemon.message}"
    return green(text) if daemon.state == "running" else yellow(text)


def _sync_status(ctx: Context) -> int:
    text = ctx.args.path
    # What is there locally is meant locally; the rest may still be a path in the fleet.
    local = bool(text) and os.path.lexists(text)
    path = local_path(text) if local or text.startswith(("/", "./", "../")) else os.fsencode(text)
    with ctx.fleet() as fleet:
        status = fleet.path_status(path)
    ctx.result(status, lambda: _show_path(ctx, status))
    return EXIT_OK


def _show_path(ctx: Context, status: r.PathStatus) -> None:
    from tcfs.cli.text import fields
    from tcfs.config.units import show_size

    state = Styled(status.state.replace("_", " "), _STYLES.get(status.state, "bold"))
    ctx.terminal.out(bold(status.path), ": ", state)
    known = bool(status.file_hash)
    fields(
        ctx.terminal,
        [
            ("  remote", status.remote),
            ("  message", status.message),
            ("  size", show_size(status.size) if known else ""),
            ("  blake3", status.file_hash),
            ("  chunks", str(status.chunks) if known else ""),
            ("  written by", status.device),
            ("  vclock", ", ".join(f"{name}={n}" for name, n in sorted(status.vclock.items()))),
        ],
    )
    for warning in status.warnings:
        ctx.terminal.warn(warning)
