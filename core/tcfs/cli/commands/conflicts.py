"""``tcfs conflicts`` and ``tcfs resolve-conflict``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, count, takes
from tcfs.cli.terminal import dim, green, yellow
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync import results as r

_FLAGS = {
    "keep_local": "this device's version wins",
    "keep_remote": "the other version wins",
    "keep_both": "the version that all devices prefer stays, the other goes beside it",
    "merge": "merge both, where that is clean",
    "defer": "decide later",
}


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    conflicts = command(
        subparsers, "conflicts", "list concurrent edits that wait for a decision", _conflicts
    )
    takes(
        conflicts.add_argument(
            "path", nargs="?", default="", metavar="PATH", help="only at or below this remote path"
        ),
        "remote",
    )
    conflicts.add_argument("--limit", type=count, default=100, metavar="N", help="at most N")
    conflicts.add_argument("--after", default="", metavar="PATH", help="go on after this path")

    resolve = command(
        subparsers,
        "resolve-conflict",
        "settle a conflict",
        _resolve,
        more="Without a choice, asks at a terminal. What loses stays in the history.",
    )
    takes(resolve.add_argument("path", metavar="PATH", help="remote path"), "remote")
    choice = resolve.add_mutually_exclusive_group()
    for resolution, meaning in _FLAGS.items():
        choice.add_argument(
            f"--{resolution.replace('_', '-')}",
            dest="resolution",
            action="store_const",
            const=resolution,
            help=meaning,
        )
    resolve.add_argument("--dry-run", action="store_true", help="show what would be done")


def _conflicts(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet() as fleet:
        page = fleet.conflicts(prefix=args.path, after=args.after, limit=args.limit)
    ctx.result(page, lambda: _show_page(ctx, page))
    return EXIT_OK


def _show_page(ctx: Context, page: r.ConflictPage) -> None:
    from tcfs.cli.terminal import Part, bold
    from tcfs.cli.text import show_version

    out = ctx.terminal.out
    if not page.total:
        out(green("no conflicts"))
    for conflict in page.conflicts:
        out(bold(conflict.path))
        for version in conflict.versions:
            marks = [
                word
                for word, holds in (
                    ("here", version.id == conflict.local_version),
                    ("preferred", version.id == conflict.would_win),
                )
                if holds
            ]
            show_version(out, f"  {' '.join(marks)}".ljust(18), version)
    if page.next:
        shown: list[Part] = [dim(f"{len(page.conflicts):,} of {page.total:,}; go on with --after ")]
        out(*shown, page.next)


def _resolve(ctx: Context) -> int:
    args = ctx.args
    if args.resolution is None and not ctx.person:
        choices = ", ".join(f"--{name.replace('_', '-')}" for name in _FLAGS)
        raise UsageError("how to settle the conflict was not said", remedy=f"Add one of {choices}.")
    with ctx.fleet() as fleet:
        resolution = args.resolution
        if resolution is None:
            from tcfs.cli.ask import ask_resolution

            resolution = ask_resolution(ctx.terminal, fleet.show_conflict(args.path)) or "defer"
        done = fleet.resolve(args.path, resolution, dry_run=args.dry_run)

    def show() -> None:
        out = ctx.terminal.out
        word = f"{done.resolution} (dry run)" if done.dry_run else done.resolution
        style = yellow if done.resolution == "defer" else green
        out(done.path, ": ", style(word.replace("_", " ")))
        if done.message:
            out("  ", done.message)
        for copy in done.conflict_copies:
            out("  beside it: ", copy)

    ctx.result(done, show)
    return EXIT_OK
