"""``tcfs git status``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, group, takes
from tcfs.cli.context import local_path
from tcfs.cli.terminal import Styled, bold, dim, yellow
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync.git.results import DeviceCopy, GitStatus, RepositoryStatus

_STYLES = {"in_step": "green", "not_here": "dim", "refused": "dim"}


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    commands = group(subparsers, "git", "look at git repositories in synced directories")
    status = command(
        commands, "status", "tell who has which heads, what is uncommitted, what is behind", _status
    )
    takes(
        status.add_argument(
            "repository",
            nargs="?",
            default="",
            metavar="REPO",
            help="only at or below this local or remote path",
        ),
        "file",
    )


def _status(ctx: Context) -> int:
    text = ctx.args.repository
    local = bool(text) and (os.path.lexists(text) or text.startswith(("/", "./", "../")))
    path = local_path(text) if local else os.fsencode(text)
    with ctx.fleet() as fleet:
        status = fleet.git.status(path)
    ctx.result(status, lambda: _show(ctx, status))
    return EXIT_OK


def _show(ctx: Context, status: GitStatus) -> None:
    out = ctx.terminal.out
    if not status.enabled:
        out(
            yellow(
                "repositories do not travel from here as bundles "
                f"(sync_git_dirs, git_sync_mode: {status.mode})"
            )
        )
    if not status.total:
        out(dim("no git repositories"))
    for repository in status.repositories:
        _show_one(ctx, repository)
    if status.total > len(status.repositories):
        out(dim(f"{len(status.repositories):,} of {status.total:,} repositories"))


def _show_one(ctx: Context, repository: RepositoryStatus) -> None:
    from tcfs.cli.text import fields, plural

    out = ctx.terminal.out
    state = Styled(repository.state.replace("_", " "), _STYLES.get(repository.state, "yellow"))
    out(bold(repository.path or "."), ": ", state)
    work = ""
    if repository.uncommitted:
        work = f"{plural(repository.uncommitted, 'path')}: {', '.join(repository.paths[:5])}"
    fields(
        ctx.terminal,
        [
            ("  reason", repository.reason),
            ("  here", repository.local),
            ("  HEAD", repository.head),
            ("  uncommitted", work),
            ("  stashes", str(repository.stashes or "")),
        ],
    )
    for branch in repository.branches:
        if branch.state != "same":
            counts = f" +{branch.ahead} -{branch.behind}" if branch.ahead or branch.behind else ""
            out("  ", branch.name, ": ", yellow(branch.state.replace("_", " ")), counts)
    for path in repository.conflicts:
        out("  ", yellow("conflict"), ": ", path)
    for device in repository.devices:
        _show_device(ctx, device)


def _show_device(ctx: Context, device: DeviceCopy) -> None:
    from tcfs.cli.text import plural

    out = ctx.terminal.out
    words = [device.head]
    if device.behind:
        words.append(f"differs in {', '.join(device.behind[:5])}")
    if device.uncommitted:
        words.append(f"{plural(device.uncommitted, 'path')} uncommitted")
    if device.stashes:
        words.append(plural(device.stashes, "stash entry"))
    here = " (this device)" if device.this_device else ""
    out("  ", dim("on "), device.device, here, ": ", "; ".join(words))
    for line in device.config_differs[:10]:
        out("    ", dim("setting "), line)
