"""``tcfs fleet switch``: this host's configuration, built and activated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, converted
from tcfs.cli.commands.fleet_definition import folder_of, folder_option
from tcfs.cli.terminal import bold, cyan, dim, green
from tcfs.config.units import parse_duration
from tcfs.errors import EXIT_OK, LimitError, PlanChangedError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.rollout.switch import SwitchPlan, SwitchResult


def add(fleet: Subparsers) -> None:
    """Describe the command."""
    switch = command(
        fleet,
        "switch",
        "build and activate this host's configuration",
        _switch,
        more="Without --apply or --plan it only says what would run. Runs nixos-rebuild, "
        "home-manager or darwin-rebuild, as the host's manager asks for.",
    )
    folder_option(switch)
    switch.add_argument(
        "host", nargs="?", default="", metavar="HOST", help="by default this machine's name"
    )
    switch.add_argument(
        "--here", action="store_true", help="this machine is HOST, though its name is another"
    )
    switch.add_argument("--apply", action="store_true", help="do it")
    switch.add_argument("--yes", action="store_true", help="do not ask")
    switch.add_argument("--plan", default="", metavar="HASH", help="do exactly this plan")
    switch.add_argument(
        "--timeout", default="1h", metavar="TIME", help="stop it after this time (default 1h)"
    )


def _switch(ctx: Context) -> int:
    from tcfs.rollout.switch import SwitchResult, plan_switch, switch_host

    args = ctx.args
    timeout_s = converted(parse_duration, args.timeout, "--timeout") or 0.0
    plan = plan_switch(folder_of(ctx), args.host, here=args.here)
    if not args.apply and not args.plan:
        result = SwitchResult(plan, dry_run=True, generation=plan.generation)
        ctx.result(result, lambda: _show_plan(ctx, plan))
        return EXIT_OK
    if args.plan and args.plan != plan.hash:
        raise PlanChangedError("the plan is another one now")
    if not args.plan and not args.yes:
        if ctx.person:
            _show_plan(ctx, plan)
        question = f"Switch {plan.host} to this definition?"
        if not ctx.person or not ctx.terminal.confirm(question):
            raise LimitError(
                "a switch changes this machine, and nobody said yes to it",
                remedy="Look at the plan, then add --plan HASH, or --yes.",
                details={"plan": plan.hash},
            )
    with ctx.working() as progress:
        result = switch_host(plan, timeout_s=timeout_s, progress=progress, cancel=ctx.cancel)
    ctx.result(result, lambda: _show_done(ctx, result))
    return EXIT_OK


def _show_plan(ctx: Context, plan: SwitchPlan) -> None:
    import shlex

    out = ctx.terminal.out
    out(bold("switch (dry run)"), f": {plan.host}, {plan.platform}, {plan.manager}")
    out("  runs  ", shlex.join(plan.command))
    out("  over  ", f"generation {plan.generation}" if plan.generation else "no generation yet")
    out("  plan  ", cyan(plan.hash))
    if plan.needs:
        ctx.terminal.warn(plan.needs)
    for warning in plan.warnings:
        ctx.terminal.warn(warning)


def _show_done(ctx: Context, result: SwitchResult) -> None:
    from tcfs.config.units import show_duration

    out = ctx.terminal.out
    if ctx.verbose:
        for line in result.output:
            out(dim(line))
    what = "is active now" if result.changed else "is active as before: nothing changed"
    took = dim(f"  ({show_duration(result.seconds)})")
    out(f"{result.plan.host}: ", green(f"generation {result.generation} {what}"), took)
    if result.rollback:
        out("  go back with: ", result.rollback)
