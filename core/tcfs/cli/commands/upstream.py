"""``tcfs import``: files from a bucket of the first tcfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.cli.terminal import green
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync.upstream_import.restore import ImportReport


def add(subparsers: Subparsers) -> None:
    """Describe the command."""
    parser = command(
        subparsers, "import", "read files that the Rust tcfs left in a bucket", _import
    )
    parser.add_argument(
        "source",
        help="s3://bucket/prefix, the same with /manifests/HASH for one file, or file:///copy",
    )
    parser.add_argument("target", help="a new directory for the files; for one file, its path")
    parser.add_argument(
        "--master-key-file", metavar="FILE", help="key of encrypted files, mode 0600"
    )


def _import(ctx: Context) -> int:
    from pathlib import Path

    from tcfs.cli.context import local_path
    from tcfs.cli.outcome import problem_code
    from tcfs.sync.upstream_import.run import import_upstream

    args = ctx.args
    with ctx.working():
        report = import_upstream(
            ctx.loaded(),
            args.source,
            local_path(args.target),
            master_key_file=Path(args.master_key_file) if args.master_key_file else None,
            cancelled=ctx.cancel,
        )
    ctx.result(report, lambda: _show(ctx, report))
    return problem_code(report.problems) if report.problems else EXIT_OK


def _show(ctx: Context, report: ImportReport) -> None:
    from tcfs.cli.text import plural, show_problems
    from tcfs.config.units import show_size

    ctx.terminal.out(
        green("imported"), f": {plural(report.files, 'file')}, {show_size(report.bytes)}"
    )
    if report.files:
        ctx.terminal.note(f"send them to the fleet with: tcfs push {ctx.args.target}")
    show_problems(ctx.terminal, report.problems, verbose=ctx.verbose, total=report.problem_count)
