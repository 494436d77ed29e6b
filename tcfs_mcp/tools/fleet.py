"""The fleet as it is declared: its definition, what runs instead, and carrying it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tcfs.errors import CancelledError, LimitError, PlanChangedError, TcfsError
from tcfs.rollout.check import CheckReport, check_fleet
from tcfs.rollout.compare import DiffReport, compare_fleet
from tcfs.rollout.definition import read_definition
from tcfs.rollout.phases import look
from tcfs.rollout.progress import Mark, Rollout, mark_step, rollout_status
from tcfs.rollout.render import RenderResult, render_host
from tcfs.rollout.switch import SwitchPlan, SwitchResult, plan_switch, switch_host
from tcfs.sync.facade import Cancel, ProgressFn
from tcfs_mcp.answers import SwitchAnswer
from tcfs_mcp.context import ToolContext
from tcfs_mcp.jobs import Answer

FleetDir = Annotated[
    str,
    Field(
        min_length=1, description="Folder of the fleet's definition on this machine (fleet.nix)."
    ),
]
Hosts = Annotated[list[str], Field(description="Names of the hosts to look at. Empty: all.")]
Value = bool | int | float | str | list[str]

_MARKS: dict[str, Mark] = {"done": "done", "skip": "skipped", "undo": "todo"}


def fleet_check(ctx: ToolContext, fleet: FleetDir, hosts: Hosts = []) -> CheckReport:  # noqa: B006
    """Evaluate every host of the fleet's definition and tell what is wrong, by host and option.

    Nothing is built or changed. The definition is evaluated with the Nix of this machine, and may
    read its own folder alone.
    """
    return check_fleet(_folder(ctx, fleet), hosts)


def fleet_render(
    ctx: ToolContext,
    fleet: FleetDir,
    host: Annotated[str, Field(min_length=1, description="Name of the host.")],
    settings: Annotated[
        dict[str, Value],
        Field(
            description="Values by their names in Nix, such as conflictMode, syncRoot or "
            "storage.endpoint; also platform and manager (home-manager, nixos, nix-darwin). What "
            "is not named stays as it is."
        ),
    ],
    dry_run: Annotated[bool, Field(description="Only show the difference.")] = False,
) -> RenderResult:
    """Write a host's Nix file, or change a few settings in it and nothing else.

    The new file is evaluated first, and not written if anything is wrong with it. A new host needs
    its platform, such as x86_64-linux or aarch64-darwin. Show the user the difference.
    """
    return render_host(_folder(ctx, fleet), host, settings, devices=_devices(ctx), dry_run=dry_run)


def fleet_diff(ctx: ToolContext, fleet: FleetDir, hosts: Hosts = []) -> DiffReport:  # noqa: B006
    """Show what would change on each host, against what its device says it runs with.

    Devices publish digests of their settings, not the values: which setting differs is certain, and
    ``running`` is empty where the value there cannot be told.
    """
    definition = read_definition(_folder(ctx, fleet), hosts)
    with ctx.fleet() as engine:
        return compare_fleet(definition, engine.settings, only=hosts)


def fleet_drift(ctx: ToolContext, fleet: FleetDir) -> DiffReport:
    """List the devices that are not as declared: other settings, unknown, or not enrolled."""
    definition = read_definition(_folder(ctx, fleet))
    with ctx.fleet() as engine:
        report = compare_fleet(definition, engine.settings)
    return DiffReport(
        fleet=report.fleet,
        hosts=tuple(host for host in report.hosts if host.state != "same"),
        differing=report.differing,
        counts=report.counts,
    )


def fleet_switch(
    ctx: ToolContext,
    fleet: FleetDir,
    host: Annotated[
        str, Field(description="Name of the host this machine is. Empty: this machine's own name.")
    ] = "",
    dry_run: Annotated[bool, Field(description="Only say what would run.")] = True,
    plan: Annotated[
        str,
        Field(
            description="Hash of the plan from a dry run: the explicit yes to exactly that, after "
            "the user agreed to it. Without it the user is asked, where the client can ask."
        ),
    ] = "",
) -> SwitchAnswer:
    """Build and activate this machine's configuration, as its manager does.

    That is nixos-rebuild, home-manager or darwin-rebuild. By default a dry run: shows the command,
    the active generation and a plan hash. Show these to the user before anything else. Building
    takes long and goes on as a job: see job_status. The answer says how to roll back.
    """
    folder = _folder(ctx, fleet)
    found = plan_switch(folder, host, here=bool(host))
    if dry_run:
        return _planned(found)
    if not plan:
        raise LimitError(
            f"a switch of {found.host} needs a yes",
            remedy="Show the user the plan of a dry run. If they agree, call fleet_switch again "
            "with dry_run=false and that plan's hash.",
            details={
                "plan": found.hash,
                "switch": f"{' '.join(found.command)} would replace generation {found.generation}",
            },
        )
    if plan != found.hash:
        raise PlanChangedError("the definition or the active generation changed since the plan")

    def work(progress: ProgressFn | None, cancel: Cancel) -> Answer:
        return _done(switch_host(found, progress=progress, cancel=cancel))

    if ctx.jobs is None:
        return _done(switch_host(found, progress=ctx.progress, cancel=ctx.cancelled))
    job = ctx.jobs.start("fleet_switch", work, exclusive=True, listener=ctx.progress)
    job.wait(ctx.job_after, ctx.cancelled)
    if ctx.cancelled() and not job.done():
        job.cancel.set()
        raise CancelledError("the switch was stopped")
    if not job.done():
        job.listener = None
        return SwitchAnswer(
            summary=f"the switch goes on as job {job.id}: ask job_status for its outcome",
            status="running",
            job_id=job.id,
            plan=found.hash,
            host=found.host,
        )
    if job.error is not None:
        raise job.error
    if not isinstance(job.answer, SwitchAnswer):
        raise CancelledError("the switch was stopped")
    return job.answer


def fleet_rollout(
    ctx: ToolContext,
    fleet: FleetDir,
    mark: Annotated[
        Literal["", "done", "skip", "undo"],
        Field(description="Mark a step. Empty: only look."),
    ] = "",
    step: Annotated[str, Field(description="Which step, such as 3.push.")] = "",
    note: Annotated[
        str, Field(max_length=500, description="What was seen; for skip, why. Needed for skip.")
    ] = "",
    every: Annotated[bool, Field(description="List every step, not those of this phase.")] = False,
) -> Rollout:
    """Tell where the rollout of tcfs to this fleet is, and what comes next; or mark a step.

    The phases are those of RFC 0001. Steps of kind ``seen`` are looked at; those of kind ``told``
    are marked when the user, or the output of a command they ran, shows that they are done. The
    place is kept beside the definition, so that anyone can go on later.
    """
    import time

    facts = look(_folder(ctx, fleet), ctx.fleet)
    if mark:
        found = mark_step(
            facts, step, _MARKS[mark], note=note, by="assistant", now=int(time.time())
        )
    else:
        found = rollout_status(facts)
    if every:
        return found
    shown = tuple(s for s in found.steps if s.phase == found.phase)
    return Rollout(
        found.fleet, found.phase, found.phase_title, found.next, found.done, found.total, shown
    )


def _folder(ctx: ToolContext, text: str) -> Path:
    return Path(os.fsdecode(ctx.policy.local_path(text)))


def _devices(ctx: ToolContext) -> list[str] | None:
    """The fleet's devices; None where this machine cannot tell."""
    try:
        with ctx.fleet() as engine:
            return [device.name for device in engine.devices() if not device.revoked]
    except TcfsError as error:
        ctx.notices.append(f"the fleet's devices are not known here: {error.message}")
        return None


def _planned(plan: SwitchPlan) -> SwitchAnswer:
    return SwitchAnswer(
        summary=f"would run {' '.join(plan.command)} over generation {plan.generation}",
        status="planned",
        plan=plan.hash,
        host=plan.host,
        manager=plan.manager,
        command=plan.command,
        needs=plan.needs,
        generation=plan.generation,
        rollback=plan.rollback,
        warnings=plan.warnings,
    )


def _done(result: SwitchResult) -> SwitchAnswer:
    plan = result.plan
    what = "is active now" if result.changed else "is active as before"
    return SwitchAnswer(
        summary=f"{plan.host}: generation {result.generation} {what}",
        status="done",
        plan=plan.hash,
        host=plan.host,
        manager=plan.manager,
        command=plan.command,
        generation=result.generation,
        rollback=result.rollback,
        seconds=result.seconds,
        output=result.output,
        warnings=plan.warnings,
    )
