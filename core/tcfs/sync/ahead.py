"""When another process lists a tree ahead of the look at it, and when not.

It may begin as soon as nobody else of this device changes the tree: the lock is held, the root is
what it was, and no pull that was cut off left anything. What it tells is then as true as what a
look itself finds: either way a file may change a moment later, and is looked at again before and
after it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tcfs.errors import LocalFileError
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT
from tcfs.sync import leftovers, places

if TYPE_CHECKING:
    from tcfs.host.base import Ahead
    from tcfs.state.roots import Root
    from tcfs.sync.context import Context
    from tcfs.sync.ignore import Exclusion

PAYS: Final = 5_000
"""Paths from which on another process gains more than it takes to start."""


@contextmanager
def looking_ahead(
    context: Context,
    wanted: Sequence[tuple[Root, Sequence[RelPath]]],
    excluded: Callable[[Context, Root], Exclusion],
) -> Iterator[Ahead | None]:
    """Somebody who lists what is below a root, beside what else is to be done before the look.

    None where that gains nothing or is not possible. Call with the device's lock held.

    Args:
        wanted: what will be looked at, root by root.
    """
    ahead = None
    if len(wanted) == 1:
        root, prefixes = wanted[0]
        if list(prefixes) == [ROOT] and _may_begin(context, root):
            avoided = excluded(context, root).words
            if avoided is not None and context.host.ahead is not None:
                ahead = context.host.ahead(root.local, sorted(avoided))
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _may_begin(context: Context, root: Root) -> bool:
    if (
        context.host.ahead is None
        or context.config.sync.sync_git_dirs  # then all that is seen is kept
        or not root.id
        or not context.state.roots.tracks(root, PAYS)
        or context.executor.workers == 1
    ):
        return False
    try:
        places.adopt(context, root)
        return leftovers.none_left(context, root)
    except LocalFileError:
        return False  # whoever looks is told
