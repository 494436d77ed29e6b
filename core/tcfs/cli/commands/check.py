"""``tcfs verify`` and ``tcfs rebuild-index``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.cli.progress import progress_bar
from tcfs.cli.terminal import green, red
from tcfs.errors import EXIT_OK, IntegrityError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync import results as r


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    verify = command(subparsers, "verify", "check the history and what it refers to", _verify)
    verify.add_argument("--read-data", action="store_true", help="read and check every pack")
    verify.add_argument("--local", action="store_true", help="check local files against the tree")
    verify.add_argument(
        "--repair", action="store_true", help="mend damaged local files from the store"
    )
    command(
        subparsers,
        "rebuild-index",
        "rebuild this device's database from the store",
        _rebuild,
    )


def _verify(ctx: Context) -> int:
    from tcfs.cli.outcome import problem_code

    args = ctx.args
    with ctx.fleet() as fleet, ctx.working() as progress:
        report = fleet.verify(
            read_data=args.read_data,
            local=args.local or args.repair,
            repair=args.repair,
            progress=progress,
            cancel=ctx.cancel,
        )
    ctx.result(report, lambda: _show_report(ctx, report))
    if report.ok:
        return EXIT_OK
    return problem_code(report.problems) if report.problems else IntegrityError.exit_code


def _show_report(ctx: Context, report: r.VerifyReport) -> None:
    from tcfs.cli.text import plural, show_problems
    from tcfs.config.units import show_size

    out = ctx.terminal.out
    total = max(report.problem_count, len(report.problems))
    out(green("verified") if report.ok else red(plural(total, "problem")))
    checked = [plural(report.segments, "segment"), plural(report.packs, "pack")]
    if report.files:
        checked.append(plural(report.files, "local file"))
    if report.bytes_read:
        checked.append(f"{show_size(report.bytes_read)} read")
    out("  ", ", ".join(checked))
    for path in report.repaired:
        out("  repaired ", path)
    show_problems(ctx.terminal, report.problems, verbose=ctx.verbose, total=total)


def _rebuild(ctx: Context) -> int:
    from tcfs.cli.text import plural

    with ctx.fleet() as fleet, progress_bar(ctx.terminal) as progress:
        result = fleet.rebuild_index(progress=progress)

    def show() -> None:
        found = ", ".join(
            plural(number, noun)
            for number, noun in (
                (result.segments, "segment"),
                (result.versions, "version"),
                (result.chunks, "chunk"),
                (result.packs, "pack"),
            )
        )
        ctx.terminal.out(green("rebuilt"), f": {found}")
        for message in result.messages:
            ctx.terminal.note(message)

    ctx.result(result, show)
    return EXIT_OK
