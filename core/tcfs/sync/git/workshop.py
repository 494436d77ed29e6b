"""What pushing and pulling repositories have in common: mode, scratch files, locks, preparation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from tcfs.errors import BusyError, TcfsError
from tcfs.model.ids import RelPath
from tcfs.model.paths import METADATA_DIR, join, show
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.git.repository import Repository, blockers
from tcfs.sync.results import Problem
from tcfs.sync.spelling import on_disk

OUR_DIR: Final = METADATA_DIR
"""What we keep in a git directory: the lock. Scans leave the name out wherever it stands."""


def bundles_travel(context: Context) -> bool:
    """Whether repositories travel as bundles."""
    config = context.config.sync
    return config.sync_git_dirs and config.git_sync_mode == "bundle"


def raw_travels(context: Context) -> bool:
    """Whether ``.git`` directories are synced file by file."""
    config = context.config.sync
    return config.sync_git_dirs and config.git_sync_mode == "raw"


class PostponedError(BusyError):
    """A repository that must wait: somebody is in the middle of something."""

    default_remedy = "The next push or pull takes it; everything else was handled."


@dataclass(slots=True)
class Told:
    """What is to be told of a run: what failed or waits, and what does not travel at all."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, root: Root, repo: RelPath, error: TcfsError) -> None:
        """One repository could not be handled; the others are."""
        path = show(join(root.remote, repo)) or "."
        self.problems.append(Problem(f"{path}/.git", error.code, error.message, error.remedy))


def scratch_directory(context: Context) -> bytes:
    """A directory of ours for bundles and copies of indexes, empty of what a crash left."""
    path = os.fsencode(context.state.database.path.parent / "git-scratch")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def drop_scratch(path: bytes) -> None:
    """Remove it again."""
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def held(context: Context, repository: Repository) -> Iterator[None]:
    """Work on a repository, alone among our own processes, if nothing is in progress there.

    Raises:
        PostponedError: it must wait.
    """
    check_free(repository)
    directory = os.path.join(repository.git_dir, OUR_DIR)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        with context.host.lock(os.path.join(directory, b"lock"), False):
            check_free(repository)
            yield
    except BusyError as error:
        if isinstance(error, PostponedError):
            raise
        raise PostponedError(f"postponed: {error.message}") from None


def check_free(repository: Repository) -> None:
    """Raise PostponedError if a person or a program is in the middle of something."""
    reasons = blockers(repository.git_dir)
    if reasons:
        raise PostponedError(f"postponed: {', '.join(reasons)}")


def hide_marker(repository: Repository) -> None:
    """Keep tcfs' own directory in a work tree out of ``git status``, without touching ``.git``."""
    directory = os.path.join(repository.directory, METADATA_DIR)
    ignore = os.path.join(directory, b".gitignore")
    if repository.bare or not os.path.isdir(directory) or os.path.lexists(ignore):
        return
    with suppress(OSError), open(ignore, "xb") as file:
        file.write(b"*\n")


_WATCHED: Final = (
    *(b"HEAD", b"index", b"packed-refs", b"config", b"logs/HEAD", b"logs/refs/stash"),
    *(b"shallow", b"info/grafts"),
)


def _watched(git_dir: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    for name in _WATCHED:
        with suppress(OSError):
            yield name, os.lstat(os.path.join(git_dir, name))
    for directory, _, names in os.walk(os.path.join(git_dir, b"refs")):
        for name in (b".", *sorted(names)):
            path = os.path.join(directory, name)
            with suppress(OSError):
                yield path, os.lstat(path)


def newest_change(git_dir: bytes) -> int:
    """When a repository's HEAD, index or refs last changed, in nanoseconds by its disk's clock."""
    return max(
        (stat.st_mtime_ns for name, stat in _watched(git_dir) if name != b"config"), default=0
    )


def fingerprint(git_dir: bytes) -> bytes:
    """What all that makes up a repository's registers looks like on disk.

    git puts each of these files in place with a rename, so that not even a change within the same
    tick of the clock leaves it as it was.
    """
    found = blake3()
    for name, stat in _watched(git_dir):
        found.update(
            repr(
                (name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                if name[-1:] != b"."
                else (name, stat.st_ino, stat.st_mtime_ns)
            ).encode()
        )
    return found.digest()


def directory_of(context: Context, root: Root, repo: RelPath) -> bytes:
    """The absolute path of a repository's directory, as programs find it."""
    return on_disk(context.host.files, os.path.join(root.local, repo) if repo else root.local)
