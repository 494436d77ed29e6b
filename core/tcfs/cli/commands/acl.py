"""``tcfs acl`` and ``tcfs namespace``: who may do what where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, group, takes
from tcfs.cli.terminal import bold, dim, green, red
from tcfs.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync.access import AclExplanation, AclList, NamespaceInfo


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    acl = group(subparsers, "acl", "say who may read, write and delete what")
    change = command(
        acl,
        "set",
        "set or remove a rule",
        _set,
        more="PATTERN is a glob: '*' and '?' within a name, '**' for any number of directories; "
        "'docs/**' is docs and all in it. The most specific pattern that covers a path decides, "
        "and whom it does not name gets nothing there. A rule judges what is written from now on.",
    )
    change.add_argument("pattern", metavar="PATTERN", help="glob of paths within the namespace")
    takes(
        change.add_argument(
            "--device", action="append", default=[], metavar="D", help="for this device; repeatable"
        ),
        "device",
    )
    change.add_argument(
        "--group", action="append", default=[], metavar="G", help="for this group; repeatable"
    )
    change.add_argument("--any", action="store_true", help="for every enrolled device")
    change.add_argument(
        "--permissions",
        metavar="LIST",
        help="of read, write, delete, admin, with commas; or none: whom it names gets nothing",
    )
    change.add_argument("--remove", action="store_true", help="remove the rule instead")
    change.add_argument("--namespace", default="", metavar="NS", help="of this namespace")
    change.add_argument(
        "--from-start", action="store_true", help="judge all of history by it, not only the future"
    )

    shown = command(acl, "list", "list rules and groups", _list)
    shown.add_argument("namespace", nargs="?", default="", metavar="NS", help="of this namespace")

    explain = command(acl, "explain", "tell what a device may do at a path, and why", _explain)
    takes(explain.add_argument("path", metavar="PATH", help="remote path"), "remote")
    takes(
        explain.add_argument("--device", default="", metavar="D", help="this device if not given"),
        "device",
    )

    members = command(
        acl, "group", "say which devices belong to a group", _group, more="Without any: none do."
    )
    members.add_argument("name", metavar="GROUP", help="the group")
    takes(
        members.add_argument("devices", nargs="*", metavar="DEVICE", help="all of its devices"),
        "device",
    )

    spaces = group(subparsers, "namespace", "manage namespaces, each with keys of its own")
    create = command(
        spaces,
        "create",
        "begin a namespace",
        _create,
        more="Its files are at REMOTE/NAME, such as: tcfs push notes --as tcfs/private/notes",
    )
    create.add_argument("name", metavar="NAME", help="its name")
    takes(
        create.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="D",
            help="give its key to this device and itself alone; repeatable",
        ),
        "device",
    )
    command(spaces, "list", "list the namespaces and who holds their keys", _namespaces)


def _set(ctx: Context) -> int:
    args = ctx.args
    permissions: list[str] | None = None
    if args.remove == (args.permissions is not None):
        raise UsageError(
            "say what the rule gives, or --remove", remedy="Such as: --permissions read,write"
        )
    if args.permissions is not None:
        given = [part.strip() for part in args.permissions.split(",")]
        permissions = [] if given == ["none"] else given
    with ctx.fleet() as fleet:
        now = fleet.access.set(
            args.pattern,
            permissions,
            devices=args.device,
            groups=args.group,
            everyone=args.any,
            namespace=args.namespace,
            from_start=args.from_start,
        )
    ctx.result(now, lambda: _show_rules(ctx, now))
    return EXIT_OK


def _group(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        now = fleet.access.set_group(ctx.args.name, ctx.args.devices)
    ctx.result(now, lambda: _show_rules(ctx, now))
    return EXIT_OK


def _list(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        now = fleet.access.rules(ctx.args.namespace)
    ctx.result(now, lambda: _show_rules(ctx, now))
    return EXIT_OK


def _show_rules(ctx: Context, now: AclList) -> None:
    from tcfs.cli.text import fields, table

    rows: list[list[Part]] = []
    for rule in now.rules:
        given = ",".join(rule.permissions) or "none"
        rows.append([rule.path, bold(rule.subject_name), given, dim(rule.set_by)])
    if rows:
        table(ctx.terminal, rows, ("PATTERN", "FOR", "GIVES", "SET BY"))
    else:
        ctx.terminal.note(f"no rules in {now.namespace}: the role of each device decides")
    named = [(f"group {name}", " ".join(who) or "-") for name, who in now.groups.items()]
    fields(ctx.terminal, [*named, ("holds the key", " ".join(now.readers))])


def _explain(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        found = fleet.access.explain(ctx.args.path, device=ctx.args.device)
    ctx.result(found, lambda: _show_explanation(ctx, found))
    return EXIT_OK


def _show_explanation(ctx: Context, found: AclExplanation) -> None:
    from tcfs.cli.text import table

    ctx.terminal.out(bold(found.device), f" ({found.role}) at {found.namespace}/{found.path}")
    rows: list[list[Part]] = []
    for answer in found.answers:
        verdict: Part = green("yes") if answer.allowed else red("no")
        rules = "; ".join(
            f"{rule.path} gives {rule.subject_name} {','.join(rule.permissions) or 'none'}"
            for rule in answer.rules
        )
        rows.append([answer.permission, verdict, answer.reason, dim(rules)])
    table(ctx.terminal, rows)
    if not found.holds_key:
        ctx.terminal.note("it is not given this namespace's key, and so reads nothing in it")


def _create(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        made = fleet.access.create_namespace(ctx.args.name, only=ctx.args.only)
    ctx.result(made, lambda: _show_namespaces(ctx, [made]))
    return EXIT_OK


def _namespaces(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        found = list(fleet.access.namespaces())
    ctx.result({"namespaces": found}, lambda: _show_namespaces(ctx, found))
    return EXIT_OK


def _show_namespaces(ctx: Context, found: list[NamespaceInfo]) -> None:
    from tcfs.cli.text import table

    rows: list[list[Part]] = []
    for space in found:
        rows.append([bold(space.name), str(space.epochs), " ".join(space.readers)])
    table(ctx.terminal, rows, ("NAME", "KEYS", "HELD BY"))
