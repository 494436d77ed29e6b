"""Which paths of the fleet a pull never puts on disk here: what is said of repositories, and what
lies in a ``.git``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

from tcfs.model.ids import RelPath
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.git.names import GIT_DIR, is_git, split
from tcfs.sync.spelling import on_disk


def stays_off_disk(context: Context, root: Root) -> Callable[[RelPath], bool]:
    """Whether a path, relative to a root, is not for this disk, or not now.

    Another device may send ``.git`` directories file by file; they come only to devices that want
    that, and not while something is in progress in them.
    """
    config = context.config.sync
    raw = config.sync_git_dirs and config.git_sync_mode == "raw"

    @cache
    def blocked(git_dir: bytes) -> bool:
        from tcfs.sync.git.repository import blockers

        return bool(blockers(on_disk(context.host.files, os.path.join(root.local, git_dir))))

    def stays(path: RelPath) -> bool:
        if not is_git(path):
            return False
        if not raw or split(path) is not None:
            return True
        names = path.split(b"/")
        return blocked(b"/".join(names[: names.index(GIT_DIR) + 1]))

    return stays
