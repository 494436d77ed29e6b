"""``tcfs fleet check`` and ``tcfs fleet render``: the definition of the fleet's hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcfs.cli.arguments import command, takes
from tcfs.cli.terminal import bold, dim, green, red
from tcfs.errors import EXIT_OK, FleetFileError, TcfsError, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Parser, Subparsers
    from tcfs.cli.context import Context
    from tcfs.rollout.check import CheckReport
    from tcfs.rollout.definition import HostProblem
    from tcfs.rollout.render import RenderResult


def add(fleet: Subparsers) -> None:
    """Describe the commands."""
    check = command(
        fleet,
        "check",
        "evaluate every host of the fleet's definition",
        _check,
        more="What is wrong is told by host and option. Needs Nix, and nothing else.",
    )
    folder_option(check)
    check.add_argument("hosts", nargs="*", metavar="HOST", help="these hosts alone")

    render = command(
        fleet,
        "render",
        "write a host's file, or change settings in it",
        _render,
        more="What is not named stays as it is, comments included. Values are JSON, or else text: "
        "syncGitDirs=true conflictMode=auto 'excludePatterns=[\"*.swp\"]'.",
    )
    folder_option(render)
    render.add_argument("host", metavar="HOST", help="its name")
    render.add_argument(
        "settings", nargs="*", metavar="NAME=VALUE", help="settings, or facts such as platform"
    )
    render.add_argument("--dry-run", action="store_true", help="show what would change")


def folder_option(parser: Parser) -> None:
    """The option that says where the definition is."""
    takes(
        parser.add_argument(
            "--fleet",
            default=".",
            metavar="DIR",
            help="folder of the fleet's definition, with fleet.nix (default: this one)",
        ),
        "dir",
    )


def folder_of(ctx: Context) -> Path:
    """The folder that was named."""
    return Path(ctx.args.fleet).expanduser()


def _check(ctx: Context) -> int:
    from tcfs.rollout.check import check_fleet

    report = check_fleet(folder_of(ctx), ctx.args.hosts)
    ctx.result(report, lambda: _show_check(ctx, report))
    return EXIT_OK if report.ok else FleetFileError.exit_code


def _show_check(ctx: Context, report: CheckReport) -> None:
    show_problems(ctx, "fleet", report.problems)
    for host in report.hosts:
        if host.ok:
            what = f"  {host.platform}, {host.manager}"
            ctx.terminal.out(bold(host.name), ": ", green("ok"), dim(what))
        show_problems(ctx, host.name, host.problems)
        for warning in host.warnings:
            ctx.terminal.warn(f"{host.name}: {warning}")


def show_problems(ctx: Context, host: str, problems: tuple[HostProblem, ...]) -> None:
    """What is wrong with a host, one line each."""
    for problem in problems:
        option = f"{problem.option}: " if problem.option else ""
        place = f"  ({problem.file}:{problem.line})" if problem.file else ""
        ctx.terminal.out(bold(host), ": ", red(option), problem.message, dim(place))


def _render(ctx: Context) -> int:
    from tcfs.rollout.render import render_host

    args = ctx.args
    answers = _answers(args.settings)
    result = render_host(
        folder_of(ctx), args.host, answers, devices=_device_names(ctx), dry_run=args.dry_run
    )
    ctx.result(result, lambda: _show_render(ctx, result))
    return FleetFileError.exit_code if result.problems else EXIT_OK


def _answers(words: list[str]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(
                f"not NAME=VALUE: {word[:100]!r}", remedy="Write it like conflictMode=auto"
            )
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _device_names(ctx: Context) -> list[str] | None:
    """The fleet's devices; None where this machine belongs to none, or cannot reach it."""
    try:
        with ctx.fleet() as fleet:
            return [device.name for device in fleet.devices() if not device.revoked]
    except TcfsError as error:
        ctx.terminal.note(f"the devices are not known here: {error.message}")
        return None


def _show_render(ctx: Context, result: RenderResult) -> None:
    for line in result.diff.splitlines():
        style = {"+": green, "-": red, "@": dim}.get(line[:1])
        ctx.terminal.out(style(line) if style else line)
    show_problems(ctx, result.host, result.problems)
    if result.problems:
        ctx.terminal.err(red("not written: "), "it would be wrong")
    elif not result.diff:
        ctx.terminal.out(f"{result.file}: nothing to change")
    elif result.written:
        ctx.terminal.out(f"{result.file}: ", green("written"))
    for note in result.notes:
        ctx.terminal.note(note)
