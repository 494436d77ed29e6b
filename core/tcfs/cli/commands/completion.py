"""``tcfs completion``: scripts that teach a shell to complete our commands.

What is known beforehand (commands, options, choices) is written into the script from the parser;
remote paths and device names are asked of ``tcfs __complete`` when Tab is pressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, count
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context

SHELLS = ("bash", "zsh", "fish")


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    completion = command(
        subparsers,
        "completion",
        "print a script that completes commands in a shell",
        _completion,
        more='bash: eval "$(tcfs completion bash)"; zsh: the same in .zshrc after compinit; '
        "fish: tcfs completion fish | source",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")

    # Without help it is not listed.
    hidden = subparsers.add_parser("__complete")
    hidden.add_argument("kind", choices=("remote", "device"))
    hidden.add_argument("prefix", nargs="?", default="")
    hidden.add_argument("--limit", type=count, default=50)
    hidden.set_defaults(run=_complete)


def _completion(ctx: Context) -> int:
    from tcfs.cli.arguments import build_parser
    from tcfs.cli.shells import completion_script

    script = completion_script(ctx.args.shell, build_parser())
    ctx.result({"shell": ctx.args.shell, "script": script}, lambda: ctx.terminal.raw(script))
    return EXIT_OK


def _complete(ctx: Context) -> int:
    """Candidates, one a line. Whatever fails, someone is typing: say nothing."""
    from tcfs.cli.terminal import clean
    from tcfs.errors import TcfsError

    ctx.terminal.quiet = True
    prefix = ctx.args.prefix
    try:
        with ctx.fleet() as fleet:
            if ctx.args.kind == "remote":
                found = fleet.complete_paths(prefix, ctx.args.limit)
            else:
                found = [d.name for d in fleet.devices() if d.name.startswith(prefix)]
    except TcfsError:
        return EXIT_OK
    for candidate in found:
        # A name that would have to be escaped could not be given back by pressing Tab.
        if clean(candidate) == candidate:
            ctx.terminal.out(candidate)
    return EXIT_OK
