"""``tcfs log`` and ``tcfs why``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, count, takes
from tcfs.cli.terminal import bold, cyan, dim
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync import results as r


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    log = command(subparsers, "log", "list versions, newest first", _log)
    takes(
        log.add_argument(
            "path", nargs="?", default="", metavar="PATH", help="only at or below this remote path"
        ),
        "remote",
    )
    log.add_argument("-n", "--limit", type=count, default=50, metavar="N", help="at most N")
    log.add_argument("--before", default="", metavar="VERSION", help="go on below this version")

    why = command(subparsers, "why", "tell how a path came to be what it is", _why)
    takes(why.add_argument("path", metavar="PATH", help="remote path"), "remote")


def _log(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet() as fleet:
        page = fleet.log(args.path, before=args.before, limit=args.limit)
    ctx.result(page, lambda: _show_log(ctx, page))
    return EXIT_OK


def _show_log(ctx: Context, page: r.LogPage) -> None:
    from tcfs.cli.text import table, version_parts

    rows: list[list[Part]] = []
    for version in page.versions:
        name = f"{version.moved_from} -> {version.path}" if version.moved_from else version.path
        path: Part = bold(name) if version.live else name
        rows.append([cyan(version.id), *version_parts(version), path])
    if rows:
        table(ctx.terminal, rows)
    else:
        ctx.terminal.note("no versions")
    if page.next:
        ctx.terminal.note(f"older ones: add --before {page.next}")


def _why(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        answer = fleet.why(ctx.args.path)
    ctx.result(answer, lambda: _show_why(ctx, answer))
    return EXIT_OK


def _show_why(ctx: Context, answer: r.Why) -> None:
    from tcfs.cli.text import version_parts

    out = ctx.terminal.out
    out(bold(answer.path), f": {answer.state.replace('_', ' ')}")
    for step in answer.steps:
        parts: list[Part] = ["  ", bold(f"{step.role:<12}")]
        for part in version_parts(step.version):
            parts += [part, "  "]
        out(*parts, cyan(step.version.id))
        out("    ", step.explanation)
        if step.version.moved_from:
            out("    moved from ", step.version.moved_from)
        if step.kept_at:
            out("    kept at ", step.kept_at)
        if ctx.verbose:
            out(dim(f"    segment {step.version.segment}, Lamport {step.version.lamport}"))
