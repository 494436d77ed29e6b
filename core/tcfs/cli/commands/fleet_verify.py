"""``tcfs fleet verify``: a rehearsal on the configured servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.cli.terminal import bold, dim, green, red
from tcfs.errors import EXIT_OK, TcfsError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.service.rehearsal import Rehearsal, Step


def add(fleet: Subparsers) -> None:
    """Describe the command."""
    command(
        fleet,
        "verify",
        "rehearse a fleet of three devices on the configured servers",
        _verify,
        more="Enrolls, pushes, pulls, makes and settles a conflict, and runs daemons, in a scratch "
        "prefix of the store that is removed afterwards. The fleet itself is not touched.",
    )


def _verify(ctx: Context) -> int:
    from tcfs.service.rehearsal import rehearse

    def told(step: Step) -> None:
        if ctx.json:
            return
        mark = green("ok    ") if step.ok else red("failed")
        more = f"  {step.detail}" if step.detail else ""
        ctx.terminal.out(mark, f" {step.phase}  {step.what}", dim(more))

    with ctx.cancel.installed():
        result = rehearse(ctx.loaded(), told=told, cancel=ctx.cancel)
    ctx.result(result, lambda: _show(ctx, result))
    return EXIT_OK if result.ok else TcfsError.exit_code


def _show(ctx: Context, result: Rehearsal) -> None:
    done = sum(step.ok for step in result.steps)
    ctx.terminal.out(bold(f"{done} of {len(result.steps)} steps"), f" on {result.endpoint}")
    for left in result.left_behind:
        ctx.terminal.warn(f"left behind: {left}")
