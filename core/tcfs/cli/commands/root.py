"""``tcfs root``: which directories the daemon keeps in sync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, group, takes
from tcfs.cli.context import local_path
from tcfs.cli.terminal import bold, dim, yellow
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync import results as r


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    root = group(subparsers, "root", "say which directories the daemon keeps in sync")

    enroll = command(
        root,
        "add",
        "enroll a directory",
        _add,
        more="Nothing is moved until the daemon runs, or someone pushes or pulls it.",
    )
    takes(enroll.add_argument("directory", metavar="DIR", help="the directory"), "dir")
    takes(
        enroll.add_argument(
            "--as", dest="as_remote", default="", metavar="REMOTE", help="its place in the fleet"
        ),
        "remote",
    )
    enroll.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="what is left out, as in .gitignore; may be repeated",
    )

    command(root, "list", "list the enrolled directories", _list)

    remove = command(
        root,
        "remove",
        "keep a directory in sync no longer",
        _remove,
        more="Its files stay, here and in the fleet.",
    )
    takes(remove.add_argument("directory", metavar="DIR", help="the directory"), "dir")


def _add(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet(create=True) as fleet:
        root = fleet.roots.add(
            local_path(args.directory), as_remote=args.as_remote, exclude=args.exclude
        )
    ctx.result(root, lambda: ctx.terminal.out(bold(root.local), " = ", root.remote))
    return EXIT_OK


def _list(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        roots = fleet.roots.list()
    ctx.result({"roots": roots}, lambda: _show(ctx, roots))
    return EXIT_OK


def _show(ctx: Context, roots: tuple[r.KeptRootInfo, ...]) -> None:
    from tcfs.cli.text import table

    rows: list[list[Part]] = []
    for root in roots:
        state: Part = f"{root.tracked:,} tracked" if root.present else yellow("not there")
        notes = " ".join(root.exclude)
        rows.append([bold(root.local), root.remote, state, dim(notes)])
    table(ctx.terminal, rows, ("DIRECTORY", "REMOTE", "STATE", "LEFT OUT"))


def _remove(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        root = fleet.roots.remove(local_path(ctx.args.directory))
    ctx.result(root, lambda: ctx.terminal.out(bold(root.local), ": no longer kept in sync"))
    return EXIT_OK
