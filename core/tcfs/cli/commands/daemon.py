"""``tcfs daemon``, which is also ``tcfsd``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tcfs.cli.arguments import command
from tcfs.errors import EXIT_OK

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context


def add(subparsers: Subparsers) -> None:
    """Describe the command."""
    command(
        subparsers,
        "daemon",
        "keep the enrolled directories in sync, until stopped",
        _daemon,
        more="Stays in the foreground and logs to standard error: a service manager wants that. "
        "SIGTERM ends it cleanly, SIGHUP makes it look at everything.",
    )


def _daemon(ctx: Context) -> int:
    from tcfs.service.daemon.serve import serve

    serve(ctx.loaded())
    return EXIT_OK


def tcfsd() -> int:
    """Entry point of ``tcfsd``: as ``tcfs daemon``."""
    from tcfs.cli.main import main

    return main(["daemon", *sys.argv[1:]])
