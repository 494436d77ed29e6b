"""Where pushes and pulls meet repositories. What does the work is loaded only if it is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcfs.model.ids import RelPath
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.results import Problem
from tcfs.sync.scan import Scan

if TYPE_CHECKING:
    from tcfs.sync.git.pull import GitPull
    from tcfs.sync.git.push import GitPush


@dataclass(slots=True)
class Followed:
    """What a pull of repositories did."""

    bytes_received: int = 0
    bytes_sent: int = 0
    segments: int = 0
    last_segment: str = ""
    problems: list[Problem] = field(default_factory=list)


def push_hook(
    context: Context, root: Root, prefix: RelPath, scanned: Scan, since: float
) -> GitPush | None:
    """What pushes the repositories that a scan found; None if this device does not sync them.

    Call before anything is decided about the scan: it hides what does not travel as files.

    Args:
        since: wall time in seconds before the scan began.
    """
    if not context.config.sync.sync_git_dirs:
        return None
    from tcfs.sync.git.push import GitPush

    return GitPush(context, root, prefix, scanned, since)


def pull_hook(
    context: Context, root: Root, prefix: RelPath, touched: Iterable[RelPath]
) -> GitPull | None:
    """What pulls repositories; None if this device does not sync them, or there are none.

    Args:
        touched: paths of the root that the fleet changed or that are still to do.
    """
    if not context.config.sync.sync_git_dirs:
        return None
    from tcfs.sync.git.pull import GitPull

    return GitPull(context, root, prefix, touched)
