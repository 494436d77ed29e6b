"""``tcfs fleet diff`` and ``tcfs fleet drift``: what is declared, and what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.cli.commands.fleet_definition import folder_of, folder_option
from tcfs.cli.terminal import bold, dim, green, red, yellow
from tcfs.errors import EXIT_OK, DriftError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.rollout.compare import DiffReport, HostDiff

_MEANING = {
    "same": "runs with what is declared",
    "differs": "runs with other settings",
    "silent": "has not said yet what it runs with",
    "unreadable": "what it said does not count",
    "not_enrolled": "no device of the fleet",
    "undeclared": "a device of the fleet that is not declared",
    "invalid": "its definition is wrong",
}


def add(fleet: Subparsers) -> None:
    """Describe the commands."""
    diff = command(
        fleet,
        "diff",
        "show what would change on each host, against what it runs",
        _diff,
        more="Devices publish digests of their settings, not the values: what differs is certain, "
        "and the value there is shown where it can be told.",
    )
    folder_option(diff)
    diff.add_argument("hosts", nargs="*", metavar="HOST", help="these hosts alone")

    drift = command(
        fleet,
        "drift",
        "list devices that run with other settings than declared",
        _drift,
        more="Ends with exit code 31 if there is one.",
    )
    folder_option(drift)


def _report(ctx: Context, hosts: list[str]) -> DiffReport:
    from tcfs.rollout.compare import compare_fleet
    from tcfs.rollout.definition import read_definition

    definition = read_definition(folder_of(ctx), hosts)
    with ctx.fleet() as fleet:
        return compare_fleet(definition, fleet.settings, only=hosts)


def _diff(ctx: Context) -> int:
    report = _report(ctx, ctx.args.hosts)

    def show() -> None:
        from tcfs.rollout.compare import shown

        for host in report.hosts:
            _show_state(ctx, host)
            for change in host.changes:
                ctx.terminal.out(
                    f"  {change.option}: ",
                    red(shown(change.running)),
                    " -> ",
                    green(shown(change.declared)),
                )

    ctx.result(report, show)
    return EXIT_OK


def _drift(ctx: Context) -> int:
    report = _report(ctx, [])

    def show() -> None:
        for host in report.hosts:
            if host.state != "same":
                _show_state(ctx, host)
                if host.changes:
                    ctx.terminal.out("  ", ", ".join(change.option for change in host.changes))
        if not report.differing:
            same = report.counts.get("same", 0)
            ctx.terminal.out(green("no drift"), dim(f"  ({same} of {len(report.hosts)} can tell)"))

    ctx.result(report, show)
    return DriftError.exit_code if report.differing else EXIT_OK


def _show_state(ctx: Context, host: HostDiff) -> None:
    from tcfs.cli.text import when

    style = {"same": green, "differs": yellow}.get(host.state, red)
    parts: list[Part] = [bold(host.host or host.device), ": ", style(_MEANING[host.state])]
    if host.note:
        parts.append(f": {host.note}")
    if host.published_at:
        parts.append(dim(f"  (said on {when(host.published_at)}, tcfs {host.version})"))
    ctx.terminal.out(*parts)
