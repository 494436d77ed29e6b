"""``tcfs gc``, ``tcfs retention``, ``tcfs snapshot``: what the store keeps, and in what form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, count, group
from tcfs.cli.terminal import bold, cyan, dim, yellow
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync.gc import results as g


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    gc = command(
        subparsers,
        "gc",
        "delete from the store what nothing needs",
        _gc,
        more="What is of no use is marked first. It is deleted by a later run, on any device, when "
        "every device has been in touch since. History is kept unless 'tcfs retention' says "
        "otherwise.",
    )
    gc.add_argument("--dry-run", action="store_true", help="show the plan and its hash")
    gc.add_argument("--plan", default="", metavar="HASH", help="do exactly this plan, or nothing")

    retention = group(subparsers, "retention", "say how much history is kept, on every device")
    command(retention, "show", "show how much history is kept", _show)
    policy = command(
        retention,
        "set",
        "set how much history is kept",
        _set,
        more="What is live is always kept, and so is what lost a conflict until it is dismissed. "
        "What either rule keeps is kept. For admins.",
    )
    policy.add_argument(
        "--keep-days", type=count, metavar="N", help="keep what was replaced in the last N days"
    )
    policy.add_argument(
        "--keep-versions", type=count, metavar="N", help="keep the N newest versions of each path"
    )
    policy.add_argument("--keep-all", action="store_true", help="keep everything (the default)")
    hold = command(retention, "hold", "keep all as it is now, whatever the policy says", _hold)
    hold.add_argument("tag", metavar="TAG", help="a name for it; the store's operator can read it")
    release = command(retention, "release", "end a hold", _release)
    release.add_argument("tag", metavar="TAG", help="its name")
    dismiss = command(
        retention, "dismiss", "let a version that lost a conflict go like any other", _dismiss
    )
    dismiss.add_argument("version", metavar="VERSION", help="version id, from 'tcfs why PATH'")

    snapshot = command(
        subparsers,
        "snapshot",
        "write the history down in one piece, for devices to begin from",
        _snapshot,
        more="For admins. Nothing is left out, and nothing deleted unless --compact is given.",
    )
    snapshot.add_argument(
        "--compact",
        action="store_true",
        help="delete the segments that an earlier snapshot covers and every device is past",
    )


def _gc(ctx: Context) -> int:
    from tcfs.cli.outcome import problem_code

    args = ctx.args
    with ctx.fleet() as fleet, ctx.working() as progress:
        result = fleet.gc.run(
            dry_run=args.dry_run, plan=args.plan, progress=progress, cancel=ctx.cancel
        )
    ctx.result(result, lambda: _show_gc(ctx, result))
    return problem_code(result.problems) if result.problems else EXIT_OK


def _show_gc(ctx: Context, result: g.GcResult) -> None:
    from tcfs.cli.text import plural, show_problems, when
    from tcfs.config.units import show_size

    out = ctx.terminal.out
    if result.dry_run:
        out(bold("gc (dry run)"))
    lines = (
        ("deleted", result.swept),
        ("marked: named by nothing", result.orphans),
        ("marked: nothing in them is needed", result.unused),
        ("marked: the little that is needed was moved", result.repacked),
        ("waiting for other devices", result.waiting),
        ("needed after all: moved first, deleted later", result.kept),
    )
    for text, amount in lines:
        if amount.packs:
            out("  ", text, f": {plural(amount.packs, 'pack')}, {show_size(amount.bytes)}")
    if not any(amount.packs for _, amount in lines):
        out("nothing to collect")
    if result.gone_versions:
        versions = plural(result.gone_versions, "old version")
        out(dim(f"  {versions} that the policy keeps now went under an earlier one"))
    for device in result.waiting_for:
        last = f"last wrote {when(device.last_written_at)}" if device.last_written_at else "new"
        out(yellow("  waits for "), device.name, dim(f"  {last}"))
    if result.waiting_for:
        ctx.terminal.note(
            "A device acknowledges with its next push or pull. One that will not come back: "
            "tcfs device expire NAME"
        )
    if result.dry_run:
        out("  plan ", cyan(result.plan))
    show_problems(ctx.terminal, result.problems, verbose=ctx.verbose)


def _show(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        return _told(ctx, fleet.gc.retention())


def _set(ctx: Context) -> int:
    args = ctx.args
    rules = args.keep_days is not None or args.keep_versions is not None
    if rules == args.keep_all:
        raise UsageError(
            "say what is to be kept",
            remedy="Give --keep-days, --keep-versions or both; or --keep-all.",
        )
    with ctx.fleet() as fleet:
        return _told(
            ctx,
            fleet.gc.set_retention(keep_days=args.keep_days, keep_versions=args.keep_versions),
        )


def _hold(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        return _told(ctx, fleet.gc.hold(ctx.args.tag))


def _release(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        return _told(ctx, fleet.gc.release(ctx.args.tag))


def _dismiss(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        fleet.gc.dismiss(ctx.args.version)
        return _told(ctx, fleet.gc.retention())


def _told(ctx: Context, info: g.RetentionInfo) -> int:
    from tcfs.cli.text import plural

    def show() -> None:
        rules = []
        if info.keep_days is not None:
            rules.append(f"what was replaced in the last {plural(info.keep_days, 'day')}")
        if info.keep_versions is not None:
            rules.append(f"the newest {plural(info.keep_versions, 'version')} of each path")
        ctx.terminal.out("kept: ", " and ".join(rules) if rules else "everything")
        for hold in info.holds:
            ctx.terminal.out("  held: ", hold.tag)
        old = plural(info.old_versions, "replaced version")
        ctx.terminal.out(f"  {old}, of which the next gc lets {info.let_go} go")

    ctx.result(info, show)
    return EXIT_OK


def _snapshot(ctx: Context) -> int:
    from tcfs.cli.text import plural
    from tcfs.config.units import show_size

    with ctx.fleet() as fleet, ctx.working() as progress:
        result = fleet.gc.snapshot(compact=ctx.args.compact, progress=progress, cancel=ctx.cancel)

    def show() -> None:
        held = f"{plural(result.versions, 'version')}, {plural(result.chunks, 'chunk')}"
        ctx.terminal.out(f"snapshot of {held}: {show_size(result.size)}")
        if ctx.args.compact:
            ctx.terminal.out(f"  {plural(result.removed_segments, 'segment')} deleted")
        for name in result.waiting_for:
            ctx.terminal.out(yellow("  compaction waits for "), name)

    ctx.result(result, show)
    return EXIT_OK
