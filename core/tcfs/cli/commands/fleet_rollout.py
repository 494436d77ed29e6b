"""``tcfs fleet rollout``: bringing tcfs to a fleet, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.cli.commands.fleet_definition import folder_of, folder_option
from tcfs.cli.terminal import bold, cyan, dim, green, yellow
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.rollout.progress import Mark, Rollout, StepState


def add(fleet: Subparsers) -> None:
    """Describe the command."""
    rollout = command(
        fleet,
        "rollout",
        "carry a rollout through, in the phases of RFC 0001",
        _rollout,
        more="Shows the next step. Steps that can be looked at are; of the others, say when they "
        "are done. The place is kept in rollout.json beside the definition.",
    )
    folder_option(rollout)
    choice = rollout.add_mutually_exclusive_group()
    choice.add_argument("--done", metavar="STEP", help="this step is done")
    choice.add_argument("--skip", metavar="STEP", help="leave this step out, with --note")
    choice.add_argument("--undo", metavar="STEP", help="take a step's mark back")
    rollout.add_argument("--note", default="", metavar="TEXT", help="what was seen, or why")
    rollout.add_argument("--all", action="store_true", help="show every step")


def _rollout(ctx: Context) -> int:
    from tcfs.rollout.phases import look
    from tcfs.rollout.progress import mark_step, rollout_status

    args = ctx.args
    facts = look(folder_of(ctx), ctx.fleet)
    marks: dict[Mark, str | None] = {"done": args.done, "skipped": args.skip, "todo": args.undo}
    wanted = [(mark, step) for mark, step in marks.items() if step is not None]
    if args.note and not wanted:
        raise UsageError("--note belongs to --done or --skip")
    if wanted:
        import time

        [(mark, step)] = wanted
        found = mark_step(facts, step, mark, note=args.note, by=ctx.actor, now=int(time.time()))
    else:
        found = rollout_status(facts)
    ctx.result(found, lambda: _show(ctx, found))
    return EXIT_OK


def _show(ctx: Context, rollout: Rollout) -> None:
    from tcfs.rollout.phases import PHASES

    out = ctx.terminal.out
    out(
        bold(f"{rollout.done} of {rollout.total} steps"),
        f", in phase {rollout.phase}: {rollout.phase_title}",
    )
    phase = 0
    for step in rollout.steps:
        if not ctx.args.all and step.phase != rollout.phase:
            continue
        if step.phase != phase:
            phase = step.phase
            out(bold(f"{phase}. {PHASES[phase]}"))
        mark = {"done": green("done"), "skipped": yellow("skip"), "todo": dim("    ")}[step.state]
        note = dim(f"  {step.note}") if step.note else ""
        out("  ", mark, "  ", cyan(step.id), f"  {step.title}", note)
        if step.id == rollout.next:
            _show_next(ctx, step)
    if not rollout.next:
        out(green("the rollout is complete"))


def _show_next(ctx: Context, step: StepState) -> None:
    out = ctx.terminal.out
    if step.host:
        out("        on ", bold(step.host))
    for line in step.commands:
        out("        $ ", line)
    if step.expect:
        out("        expect: ", step.expect)
    if step.why:
        out("        not yet: ", step.why)
