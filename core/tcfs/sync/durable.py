"""Making what is on this disk durable before the state says that it is there.

A base row says: this disk held these bytes, and this stat tells them. If the power fails before the
system has written the file out, the disk may hold other bytes under the same stat, and no scan
would ever look at them again. So the files come first, whoever wrote them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.errors import LocalFileError
from tcfs.model.paths import show

if TYPE_CHECKING:
    from tcfs.state.roots import Root
    from tcfs.sync.context import Context


def make_durable(context: Context, root: Root) -> None:
    """Return when everything written so far below a root is durable.

    Raises:
        LocalFileError: nobody knows what is.
    """
    # A root that is a single file has no directory of its own.
    single = not root.marker and not root.inode
    top = root.local.rpartition(b"/")[0] or b"/" if single else root.local
    try:
        context.host.files.barrier(top)
    except OSError as error:
        raise LocalFileError(
            f"what was written to {show(top)} may not be safe: {error.strerror or error}",
            remedy="Check the disk, then run the command again: it looks at what is there.",
        ) from error
