"""A repository that is new on this disk: made beside its place, and put there whole.

Until the one rename at the end nothing is there that git, or a scan, could take for a repository.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tcfs.model.ids import RelPath
from tcfs.model.paths import TEMP_PREFIX, show
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.git.names import GIT_DIR
from tcfs.sync.git.program import GitError, Program
from tcfs.sync.git.repository import Repository
from tcfs.sync.git.workshop import directory_of
from tcfs.sync.spelling import as_on_disk


@contextmanager
def being_made(
    context: Context, root: Root, path: RelPath, described: bytes
) -> Iterator[Repository]:
    """An empty repository for the caller to fill, in place once the context ends without an error.

    Args:
        described: the value of the register ``format``.

    Raises:
        GitError: it cannot be made there.
    """
    directory = directory_of(context, root, path)
    kind, _, bare = described.decode().partition(" ")
    if bare and os.path.lexists(directory) and os.listdir(directory):
        raise GitError(f"{show(directory)} is not empty, and a bare repository belongs there")
    beside = os.path.dirname(directory) if bare else directory
    temp = os.path.join(beside, TEMP_PREFIX + b"git-" + context.identity.device_id[:8].encode())
    files = as_on_disk(context.host.files)
    try:
        os.makedirs(beside, exist_ok=True)
        # An earlier run may have been cut off.
        shutil.rmtree(temp, ignore_errors=True)
        os.mkdir(temp, 0o777)
        git_dir = temp if bare else os.path.join(temp, GIT_DIR)
        work_tree = git_dir if bare else directory
        program = Program(git_dir, work_tree)
        program.run("init", "--quiet", "--template=", f"--object-format={kind}")
        program.run("config", "--unset", "core.worktree", accept=(0, 5))
        if bare:
            program.run("config", "core.bare", "true")
        config = {"extensions.objectformat": kind} if kind != "sha1" else {}
        yield Repository(path, work_tree, git_dir, "bare" if bare else "normal", config, program)
        files.barrier(temp)
        if bare and os.path.lexists(directory):
            os.rmdir(directory)
        files.rename_new(git_dir, directory if bare else os.path.join(directory, GIT_DIR))
    except OSError as error:
        raise GitError(f"{show(directory)} cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
