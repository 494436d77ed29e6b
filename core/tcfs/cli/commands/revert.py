"""``tcfs restore`` and ``tcfs undo``: going back, as new versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, takes
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync import results as r


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    restore = command(subparsers, "restore", "bring back an earlier version of a path", _restore)
    takes(restore.add_argument("path", metavar="PATH", help="remote path"), "remote")
    restore.add_argument(
        "--at", required=True, metavar="VERSION", help="version id, from 'tcfs log PATH'"
    )
    restore.add_argument("--dry-run", action="store_true", help="show what would be done")

    undo = command(
        subparsers,
        "undo",
        "revert everything that one actor or one segment changed",
        _undo,
        more="Paths changed since then are skipped and listed.",
        actor=False,
    )
    which = undo.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--actor", dest="undo_actor", metavar="A", help="the actor whose changes to revert"
    )
    which.add_argument("--segment", metavar="S", help="the segment to revert: DEVICE/SEQ")
    undo.add_argument("--dry-run", action="store_true", help="show the plan and its hash")
    undo.add_argument("--plan", default="", metavar="HASH", help="do exactly this plan, or nothing")


def _restore(ctx: Context) -> int:
    from tcfs.cli.outcome import exit_code
    from tcfs.cli.text import show_sync

    args = ctx.args
    with ctx.fleet() as fleet:
        result = fleet.restore(args.path, args.at, dry_run=args.dry_run)
    ctx.result(result, lambda: show_sync(ctx.terminal, result, "restore", verbose=ctx.verbose))
    return exit_code(ctx, [result])


def _undo(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet() as fleet:
        result = fleet.undo(
            actor=args.undo_actor or "",
            segment=args.segment or "",
            dry_run=args.dry_run,
            plan=args.plan,
        )
    ctx.result(result, lambda: _show_undo(ctx, result))
    return EXIT_OK


def _show_undo(ctx: Context, result: r.UndoResult) -> None:
    from tcfs.cli.terminal import bold, cyan, green
    from tcfs.cli.text import LINES, plural, show_plan, show_problems

    out = ctx.terminal.out
    if result.dry_run:
        out(bold("undo (dry run)"))
        show_plan(ctx.terminal, result.plan, everything=ctx.verbose)
        out("  plan ", cyan(result.plan.hash))
    else:
        out(green(f"reverted {plural(len(result.reverted), 'path')}"))
        shown = result.reverted if ctx.verbose else result.reverted[:LINES]
        for path in shown:
            out("  ", path)
        if len(result.reverted) > len(shown):
            out(f"  and {len(result.reverted) - len(shown):,} more; see them with --verbose")
    if result.skipped:
        out(f"skipped {plural(len(result.skipped), 'path')}, changed since:")
        show_problems(ctx.terminal, result.skipped, verbose=ctx.verbose)
