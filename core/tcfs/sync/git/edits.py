"""Whether a work tree has edits that only this disk holds."""

from __future__ import annotations

import os
from typing import Final

from tcfs.model.ids import RelPath
from tcfs.model.paths import join
from tcfs.model.plan import LocalChange, local_change
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.git.repository import Repository
from tcfs.sync.leftovers import hash_file
from tcfs.sync.scan import local_entry

MANY: Final = 2_000
"""Changed tracked files from which nobody is asked whether the fleet has each."""


def has_edits(context: Context, root: Root, repository: Repository) -> bool:
    """Whether a tracked file is neither as it was committed nor as tcfs put or sent it.

    What git calls modified may have come from another device: uncommitted work travels as files.
    """
    if repository.bare:
        return False
    out = repository.program.run(
        *("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames"),
        "--ignore-submodules=dirty",
    )
    changed = [entry[3:] for entry in out.split(b"\0") if len(entry) > 3]
    if len(changed) > MANY:
        return True
    return any(not _is_known(context, root, join(repository.path, RelPath(p))) for p in changed)


def _is_known(context: Context, root: Root, path: RelPath) -> bool:
    """Whether a path holds what this root's base has."""
    if not root.id:
        return False
    files = context.host.files
    base = context.state.roots.base_of(root, path)
    full = os.path.join(root.local, path)
    try:
        entry = local_entry(files.lstat(full))
    except (FileNotFoundError, NotADirectoryError):
        entry = None
    if base is None and entry is None:
        return True
    change = local_change(base, entry)
    if change is LocalChange.MAYBE and base is not None and entry is not None:
        if entry.kind == "symlink":
            return files.readlink(full) == base.target
        return entry.kind == "file" and hash_file(files, full) == base.file_hash
    return change is LocalChange.NONE
