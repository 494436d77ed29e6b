"""One module for each command, or for a few that are one idea.

Each has ``add(subparsers)``, which describes its arguments and is cheap, and a function that runs
it and imports what it needs.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers

MODULES: Final = {
    "init": ("init",),
    "device": ("device",),
    "fleet": ("fleet",),
    "transfer": ("push", "pull", "sync"),
    "root": ("root",),
    "daemon": ("daemon",),
    "conflicts": ("conflicts", "resolve-conflict", "policy"),
    "history": ("log", "why"),
    "revert": ("restore", "undo"),
    "acl": ("acl", "namespace"),
    "audit": ("audit",),
    "auth": ("auth",),
    "credentials": ("credentials", "rotate-credentials"),
    "status": ("status", "sync-status"),
    "gc": ("gc", "retention", "snapshot"),
    "git": ("git",),
    "check": ("verify", "rebuild-index"),
    "upstream": ("import",),
    "configuration": ("config",),
    "servers": ("servers",),
    "completion": ("completion", "__complete"),
}
"""The commands that each module adds, in the order in which ``--help`` lists them."""


def add_commands(subparsers: Subparsers, words: Collection[str] = ()) -> None:
    """Add the commands that are among ``words``, or all of them if none is."""
    meant = [name for name, commands in MODULES.items() if not set(commands).isdisjoint(words)]
    for name in meant or MODULES:
        import_module(f"tcfs.cli.commands.{name}").add(subparsers)
