"""``tcfs audit``: what was done by whom, and what was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, converted, count, takes
from tcfs.cli.terminal import bold, dim, green, red
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync.audit import AuditReport


def add(subparsers: Subparsers) -> None:
    """Describe the command."""
    audit = command(
        subparsers,
        "audit",
        "tell what was done by whom, and what was refused",
        _audit,
        more="Every chain is read again from the store and checked, unless --no-verify says not. "
        "Times are what each device's clock said.",
        actor=False,
    )
    audit.add_argument(
        "--since", metavar="TIME", help="only later: a duration such as 2d, or 2026-01-31[T12:00]"
    )
    takes(audit.add_argument("--device", default="", metavar="D", help="only of this"), "device")
    audit.add_argument(
        "--actor",
        dest="audit_actor",
        default="",
        metavar="A",
        help="only what this actor asked for, such as mcp:NAME",
    )
    audit.add_argument("-n", "--limit", type=count, default=200, metavar="N", help="the newest N")
    audit.add_argument("--export", metavar="FILE", help="write all, one JSON object a line")
    audit.add_argument("--no-verify", action="store_true", help="do not read the chains again")


def _audit(ctx: Context) -> int:
    import os
    from pathlib import Path

    from tcfs.errors import IntegrityError

    args = ctx.args
    since = int(converted(_moment, args.since, "--since") or 0)
    with ctx.fleet() as fleet:
        if args.export is not None:
            found = fleet.audit.export(
                Path(os.path.abspath(args.export)),
                since=since,
                device=args.device,
                actor=args.audit_actor,
                verify=not args.no_verify,
            )
        else:
            found = fleet.audit.report(
                since=since,
                device=args.device,
                actor=args.audit_actor,
                limit=args.limit,
                verify=not args.no_verify,
            )
    ctx.result(found, lambda: _show(ctx, found))
    return IntegrityError.exit_code if found.problems else EXIT_OK


def _moment(text: str) -> float:
    """Unix seconds of a date, or of so long ago."""
    import time
    from datetime import datetime

    from tcfs.config.units import parse_duration

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - parse_duration(text)
    except UsageError:
        raise UsageError(
            f"not a time: {text!r}", remedy="Write it like 2d, 12h, 2026-01-31 or 2026-01-31T12:00."
        ) from None


def _show(ctx: Context, found: AuditReport) -> None:
    from tcfs.cli.text import plural, table, when

    rows: list[list[Part]] = []
    for entry in found.entries:
        outcome: Part = entry.outcome if entry.outcome == "accepted" else red(entry.outcome)
        what = entry.path or entry.details.get("name") or entry.details.get("subject") or ""
        rows.append(
            [
                when(entry.at),
                bold(entry.device),
                entry.actor,
                entry.kind,
                outcome,
                str(what),
                dim(entry.reason),
            ]
        )
    if rows:
        table(ctx.terminal, rows)
    if found.total > len(found.entries):
        ctx.terminal.note(f"{plural(found.total, 'entry')} in all")
    for problem in found.problems:
        ctx.terminal.warn(problem)
    if found.verified:
        ctx.terminal.out(green("verified"), f": {plural(len(found.heads), 'chain')}")
    else:
        ctx.terminal.out("not verified")
