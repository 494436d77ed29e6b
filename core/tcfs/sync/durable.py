"""Making what is on this disk durable before the state says that it is there.

A base row says: this disk held these bytes, and this stat tells them. If the power fails before the
system has written the file out, the disk may hold other bytes under the same stat, and no scan
would ever look at them again. So the files come first, whoever wrote them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from tcfs.errors import LocalFileError
from tcfs.model.paths import parents, show

if TYPE_CHECKING:
    from tcfs.host.base import FileSystem
    from tcfs.model.ids import RelPath
    from tcfs.state.roots import Root
    from tcfs.sync.context import Context


FEW: Final = 16
"""Paths up to which each is waited for alone, however much others write to the same disk."""


def make_durable(context: Context, root: Root, paths: Collection[RelPath]) -> None:
    """Return when these paths of a root are durable, names and content.

    Raises:
        LocalFileError: nobody knows what is.
    """
    top = top_of(root)
    files = context.host.files
    if len(paths) <= FEW:
        try:
            for path in dict.fromkeys(_with_parents(paths)):
                files.fsync(root.local + b"/" + path if path else root.local)
            files.fsync(top)
            return
        except OSError:
            pass  # A symlink, one that is gone or cannot be read: then all is waited for.
    barrier(files, top)


def top_of(root: Root) -> bytes:
    """The directory that a root is, or that its single file is in."""
    single = not root.marker and not root.inode
    return os.path.dirname(root.local) if single else root.local


def barrier(files: FileSystem, top: bytes) -> None:
    """Return when everything written so far to the file system of a directory is durable.

    Raises:
        LocalFileError: nobody knows what is; what was intended stays so for the next run.
    """
    try:
        files.barrier(top)
    except OSError as error:
        raise LocalFileError(
            f"what was written to {show(top)} may not be safe: {error.strerror or error}",
            remedy="Check the disk, then run the command again: it looks at what is there.",
        ) from error


def _with_parents(paths: Collection[RelPath]) -> Iterator[RelPath]:
    """Each path before the directories that name it, the top left out."""
    for path in paths:
        yield path
        yield from reversed(parents(path))
