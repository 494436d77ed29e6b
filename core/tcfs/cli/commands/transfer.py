"""``tcfs push``, ``tcfs pull`` and ``tcfs sync``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tcfs.cli.arguments import command, converted, count, takes
from tcfs.cli.context import local_path
from tcfs.config.units import parse_size
from tcfs.errors import LimitError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync import results as r
    from tcfs.sync.facade import FleetApi, Limits

T = TypeVar("T")
MODES = ("auto", "interactive", "defer")


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    push = command(
        subparsers,
        "push",
        "send local changes to the store",
        _push,
        more="Without a path, of the sync root. A path inside the sync root keeps its place; "
        "another goes under its base name.",
    )
    takes(push.add_argument("paths", nargs="*", metavar="PATH", help="file or directory"), "file")
    takes(
        push.add_argument("--as", dest="as_remote", metavar="REMOTE", help="remote path to use"),
        "remote",
    )
    _add_plan_options(push)
    _add_limits(push)
    _add_effort(push)

    pull = command(
        subparsers,
        "pull",
        "bring other devices' changes here",
        _pull,
        more="Without a path, to the sync root.",
    )
    takes(
        pull.add_argument(
            "remote", nargs="?", default="", metavar="REMOTE", help="remote path, file or directory"
        ),
        "remote",
    )
    takes(
        pull.add_argument(
            "local", nargs="?", default="", metavar="LOCAL", help="where to put it here"
        ),
        "file",
    )
    _add_plan_options(pull)
    _add_mode(pull)
    _add_limits(pull)
    _add_effort(pull)

    sync = command(subparsers, "sync", "pull, then push, the sync root", _sync)
    sync.add_argument("--dry-run", action="store_true", help="show what would be done")
    _add_mode(sync)
    _add_limits(sync)
    _add_effort(sync)


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show the plan and its hash")
    parser.add_argument(
        "--plan", default="", metavar="HASH", help="do exactly this plan, or nothing"
    )


def _add_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="",
        help="what to do about conflicts (default: sync.conflict_mode)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-delete", type=count, metavar="N", help="delete at most N files")
    parser.add_argument("--max-bytes", metavar="SIZE", help="transfer at most this much: 10M, 2GiB")
    parser.add_argument(
        "--yes", action="store_true", help="delete more than the configured share without asking"
    )


def _add_effort(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it may take of the machine")
    group.add_argument("--jobs", metavar="N", help="processes at a time (sync.jobs)")
    group.add_argument(
        "--memory", metavar="SIZE", help="memory for data in flight: 128MiB (sync.memory_mb)"
    )
    group.add_argument(
        "--limit",
        metavar="RATE",
        help="bytes a second sent, and as many received: 2MB (storage.upload_limit)",
    )


def _as_wanted(ctx: Context) -> None:
    """Let the flags of this command stand for settings."""
    from tcfs.config.effort import effort

    ctx.loaded(**effort(ctx.args.jobs, ctx.args.memory, ctx.args.limit))


def _push(ctx: Context) -> int:
    _as_wanted(ctx)
    args = ctx.args
    paths = [local_path(path) for path in args.paths]
    with ctx.fleet(create=True) as fleet:

        def work(limits: Limits, plan: str) -> r.SyncResult:
            with ctx.working() as progress:
                return fleet.push(
                    paths,
                    as_remote=args.as_remote or "",
                    dry_run=args.dry_run,
                    plan=plan,
                    limits=limits,
                    progress=progress,
                    cancel=ctx.cancel,
                )

        result = _within_limits(ctx, work, args.plan)
    return _finish(ctx, result, [("push", result)])


def _pull(ctx: Context) -> int:
    _as_wanted(ctx)
    args = ctx.args
    local = local_path(args.local) if args.local else b""
    with ctx.fleet() as fleet:

        def work(limits: Limits, plan: str) -> r.SyncResult:
            with ctx.working() as progress:
                return fleet.pull(
                    args.remote,
                    local,
                    dry_run=args.dry_run,
                    plan=plan,
                    limits=limits,
                    mode=args.mode,
                    progress=progress,
                    cancel=ctx.cancel,
                )

        result = _within_limits(ctx, work, args.plan)
        result = _settle(ctx, fleet, result)
    return _finish(ctx, result, [("pull", result)])


def _sync(ctx: Context) -> int:
    _as_wanted(ctx)
    args = ctx.args
    with ctx.fleet(create=True) as fleet:

        def work(limits: Limits, _plan: str) -> tuple[r.SyncResult, r.SyncResult]:
            with ctx.working() as progress:
                return fleet.sync(
                    dry_run=args.dry_run,
                    limits=limits,
                    mode=args.mode,
                    progress=progress,
                    cancel=ctx.cancel,
                )

        pulled, pushed = _within_limits(ctx, work, "")
        pulled = _settle(ctx, fleet, pulled)
        pushed = _without(pushed, pulled.resolved)
    return _finish(ctx, {"pull": pulled, "push": pushed}, [("pull", pulled), ("push", pushed)])


def _within_limits(ctx: Context, work: Callable[[Limits, str], T], plan: str) -> T:
    """Do the work; where it would delete more than the configured share, ask a person first."""
    from msgspec.structs import replace

    from tcfs.sync.facade import Limits

    args = ctx.args
    limits = Limits(
        max_delete=args.max_delete,
        max_bytes=converted(parse_size, args.max_bytes, "--max-bytes"),
        # A number that someone gives is a yes to as many.
        confirmed=args.yes or args.max_delete is not None,
    )
    try:
        return work(limits, plan)
    except LimitError as error:
        # A limit given on the command line is meant; only the configured one can be waived.
        configured = "deletions" in error.details and limits.max_delete is None
        if not configured or limits.confirmed or not ctx.person:
            raise
        ctx.terminal.err(error.message)
        if not ctx.terminal.confirm("Go on?"):
            raise
        # The yes is to what was planned, not to what has become of it since.
        plan = plan or str(error.details.get("plan", ""))
    return work(replace(limits, confirmed=True), plan)


def _settle(ctx: Context, fleet: FleetApi, result: r.SyncResult) -> r.SyncResult:
    """In mode ``interactive``, let the person at the terminal decide the standing conflicts."""
    mode = ctx.args.mode or ctx.loaded().config.sync.conflict_mode
    if mode != "interactive" or result.dry_run or not result.conflicts or not ctx.person:
        return result
    from tcfs.cli.ask import ask_resolution

    settled: list[str] = []
    copies: list[str] = []
    for conflict in result.conflicts:
        answer = ask_resolution(ctx.terminal, fleet.show_conflict(conflict.path))
        if answer is None:
            break
        done = fleet.resolve(conflict.path, answer)
        if answer != "defer":
            settled.append(conflict.path)
            copies += done.conflict_copies
    from msgspec.structs import replace

    result = replace(result, resolved=(*result.resolved, *settled))
    result = replace(result, conflict_copies=(*result.conflict_copies, *copies))
    return _without(result, settled)


def _without(result: r.SyncResult, settled: tuple[str, ...] | list[str]) -> r.SyncResult:
    """The result without the conflicts that were settled since."""
    from msgspec.structs import replace

    standing = tuple(c for c in result.conflicts if c.path not in frozenset(settled))
    return replace(result, conflicts=standing)


def _finish(ctx: Context, value: object, results: list[tuple[str, r.SyncResult]]) -> int:
    from tcfs.cli.outcome import exit_code
    from tcfs.cli.text import show_sync

    def show() -> None:
        for verb, result in results:
            show_sync(ctx.terminal, result, verb, verbose=ctx.verbose)

    ctx.result(value, show)
    return exit_code(ctx, [result for _, result in results])
