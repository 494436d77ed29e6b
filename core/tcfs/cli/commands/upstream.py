"""``tcfs import``: files from a bucket of the first tcfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, takes
from tcfs.cli.terminal import green
from tcfs.errors import EXIT_OK, ConflictError, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync.upstream_import.restore import ImportReport

SHOWN = 20


def add(subparsers: Subparsers) -> None:
    """Describe the command."""
    parser = command(
        subparsers, "import", "read files that the Rust tcfs left in a bucket", _import
    )
    parser.add_argument(
        "source",
        help="s3://bucket/prefix, the same with /manifests/HASH for one file, or file:///copy",
    )
    parser.add_argument(
        "target",
        nargs="?",
        help="a new directory for the files, or the path of one file; without it they go into the "
        "fleet, with their clocks",
    )
    takes(
        parser.add_argument(
            "--to", default="", metavar="REMOTE", help="where in the fleet (default: its top)"
        ),
        "remote",
    )
    parser.add_argument("--dry-run", action="store_true", help="into the fleet: only tell")
    parser.add_argument(
        "--master-key-file", metavar="FILE", help="key of encrypted files, mode 0600"
    )


def _import(ctx: Context) -> int:
    from pathlib import Path

    from tcfs.cli.context import local_path
    from tcfs.cli.outcome import problem_code
    from tcfs.sync.upstream_import.run import import_upstream

    args = ctx.args
    key_file = Path(args.master_key_file) if args.master_key_file else None
    if args.target is None:
        with ctx.working() as progress, ctx.fleet() as fleet:
            report = fleet.upstream.run(
                args.source,
                args.to,
                master_key_file=key_file,
                dry_run=args.dry_run,
                progress=progress,
                cancel=ctx.cancel,
            )
    elif args.to or args.dry_run:
        raise UsageError("--to and --dry-run are for imports into the fleet, without a directory")
    else:
        with ctx.working():
            report = import_upstream(
                ctx.loaded(),
                args.source,
                local_path(args.target),
                master_key_file=key_file,
                cancelled=ctx.cancel,
            )
    ctx.result(report, lambda: _show(ctx, report))
    if report.problems:
        return problem_code(report.problems)
    return ConflictError.exit_code if report.conflicts and not args.dry_run else EXIT_OK


def _show(ctx: Context, report: ImportReport) -> None:
    from tcfs.cli.text import plural, show_problems
    from tcfs.config.units import show_size

    args = ctx.args
    what = "would import" if args.dry_run else "imported"
    known = f", {report.up_to_date} up to date" if report.up_to_date else ""
    ctx.terminal.out(
        green(what), f": {plural(report.files, 'file')}, {show_size(report.bytes)}{known}"
    )
    for path in report.conflicts[:SHOWN]:
        ctx.terminal.out("conflict: ", path)
    if len(report.conflicts) > SHOWN:
        ctx.terminal.note(f"and {plural(len(report.conflicts) - SHOWN, 'more conflict')}")
    if report.files and args.target is not None:
        ctx.terminal.note(f"send them to the fleet with: tcfs push {args.target}")
    elif report.segment:
        ctx.terminal.note("they are in the fleet; put them on this disk with: tcfs pull")
    show_problems(ctx.terminal, report.problems, verbose=ctx.verbose, total=report.problem_count)
