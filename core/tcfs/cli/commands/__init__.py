"""One module for each command, or for a few that are one idea.

Each has ``add(subparsers)``, which describes its arguments and is cheap, and a function that runs
it and imports what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers


def add_commands(subparsers: Subparsers) -> None:
    """Add every command, in the order in which ``--help`` lists them."""
    from tcfs.cli.commands import (
        acl,
        audit,
        auth,
        check,
        completion,
        configuration,
        conflicts,
        credentials,
        daemon,
        device,
        fleet,
        gc,
        git,
        history,
        init,
        revert,
        root,
        servers,
        status,
        transfer,
        upstream,
    )

    for module in (
        init,
        device,
        fleet,
        transfer,
        root,
        daemon,
        conflicts,
        history,
        revert,
        acl,
        audit,
        auth,
        credentials,
        status,
        gc,
        git,
        check,
        upstream,
        configuration,
        servers,
        completion,
    ):
        module.add(subparsers)
