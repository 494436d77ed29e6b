"""Repositories on disk: where their git directory is, what kind they are, and why one must wait.

What cannot travel safely is refused by name; what is in the middle of something is postponed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tcfs.host.base import FileSystem
from tcfs.model.ids import RelPath
from tcfs.model.paths import show
from tcfs.sync.git.names import GIT_DIR
from tcfs.sync.git.program import GitError, Program
from tcfs.sync.ignore import Exclusion
from tcfs.sync.scan import Scan
from tcfs.sync.spelling import on_disk

Kind = Literal["normal", "bare", "submodule"]

_IN_PROGRESS: Final = {
    b"rebase-merge": "a rebase is in progress",
    b"rebase-apply": "a rebase or am is in progress",
    b"MERGE_HEAD": "a merge is in progress",
    b"CHERRY_PICK_HEAD": "a cherry-pick is in progress",
    b"REVERT_HEAD": "a revert is in progress",
    b"BISECT_LOG": "a bisect is in progress",
    b"sequencer": "a cherry-pick or revert is in progress",
    b"gc.pid": "git gc is running",
    b"index.lock": "the index is locked",
    b"HEAD.lock": "HEAD is locked",
    b"shallow.lock": "the list of shallow commits is locked",
    b"packed-refs.lock": "packed refs are locked",
    b"config.lock": "the configuration is locked",
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository on this disk.

    Attributes:
        path: where it is in its root.
        directory: absolute path of its work tree; of a bare one, the git directory.
        config: what its own configuration sets, in git's canonical keys; the last value of each.
    """

    path: RelPath
    directory: bytes
    git_dir: bytes
    kind: Kind
    config: Mapping[str, str]
    program: Program = field(repr=False, compare=False)

    @property
    def bare(self) -> bool:
        """Whether it has no work tree."""
        return self.kind == "bare"


class RefusedRepositoryError(GitError):
    """A repository that this version does not sync, or not now."""

    default_remedy = "Its files travel as files, its history does not; everything else was handled."


def found_in(scanned: Scan, prefix: RelPath) -> list[RelPath]:
    """Repositories that a scan came by, bare ones included; those it hides from the scan.

    The git directory of a bare one is no directory of files: taken file by file it could arrive
    broken.
    """
    found = {
        RelPath(path[: -len(GIT_DIR)].rstrip(b"/"))
        for path in scanned.hidden
        if (path == GIT_DIR or path.endswith(b"/" + GIT_DIR)) and not _excluded(scanned, path)
    }
    for path in [p for p in scanned.entries if p == b"HEAD" or p.endswith(b"/HEAD")]:
        top = RelPath(path[: -len(b"HEAD")].rstrip(b"/"))
        below = top + b"/" if top else b""
        if RelPath(below + b"objects") in scanned.entries and (
            RelPath(below + b"refs") in scanned.entries
        ):
            found.add(top)
            for entry in [p for p in scanned.entries if p == top or p.startswith(below)]:
                del scanned.entries[entry]
            scanned.hidden.add(top)
    return sorted(
        path
        for path in found
        if path == prefix or path.startswith(prefix + b"/" if prefix else b"")
    )


def _excluded(scanned: Scan, path: RelPath) -> bool:
    """Whether a pattern of the user's leaves this ``.git`` out."""
    directory = path[: -len(GIT_DIR)].rstrip(b"/")
    while True:
        known = scanned.exclusions.get(RelPath(directory))
        if known is not None or not directory:
            break
        directory = directory.rpartition(b"/")[0]
    if known is None:
        return False
    return Exclusion(known.hidden_dirs, True, known.sets).leaves_out(path, GIT_DIR, is_dir=True)


def is_repository(directory: bytes) -> bool:
    """Whether a directory holds a repository of some kind, usable or not."""
    return os.path.lexists(os.path.join(directory, GIT_DIR)) or _is_git_dir(directory)


def open_repository(files: FileSystem, root: bytes, path: RelPath) -> Repository:
    """The repository at a path of a root.

    Raises:
        RefusedRepositoryError: this version does not sync it; says why.
        GitError: git cannot read it.
    """
    directory = on_disk(files, os.path.join(root, path) if path else root)
    git_dir, kind = _locate(root, directory)
    try:
        owner = os.stat(git_dir).st_uid
    except OSError as error:
        raise GitError(f"{show(git_dir)} cannot be looked at: {error.strerror}") from None
    if owner != os.geteuid():
        raise RefusedRepositoryError(f"{show(directory)} belongs to another user")
    config = _config(Program(git_dir, git_dir if kind == "bare" else directory))
    _refuse(git_dir, config)
    program = Program(git_dir, git_dir if kind == "bare" else directory, config)
    return Repository(path, directory, git_dir, kind, config, program)


def _locate(root: bytes, directory: bytes) -> tuple[bytes, Kind]:
    dot = os.path.join(directory, GIT_DIR)
    if os.path.islink(dot):
        raise RefusedRepositoryError(f"the .git of {show(directory)} is a symlink")
    if os.path.isdir(dot):
        if not _is_git_dir(dot):
            raise RefusedRepositoryError(f"the .git of {show(directory)} is no git directory")
        return dot, "normal"
    if not os.path.lexists(dot):
        if _is_git_dir(directory):
            return directory, "bare"
        raise RefusedRepositoryError(f"{show(directory)} is no repository")
    return _elsewhere(root, directory, dot), "submodule"


def _elsewhere(root: bytes, directory: bytes, dot: bytes) -> bytes:
    """The git directory that a ``.git`` file names, if it is a submodule's within the root."""
    try:
        with open(dot, "rb") as file:
            text = file.read(4200)
    except OSError as error:
        raise GitError(f"{show(dot)} cannot be read: {error.strerror}") from None
    if not text.startswith(b"gitdir: "):
        raise RefusedRepositoryError(f"the .git of {show(directory)} is no git directory")
    target = os.path.realpath(os.path.join(directory, text[8:].strip(b"\r\n")))
    if os.path.lexists(os.path.join(target, b"commondir")):
        raise RefusedRepositoryError(
            f"{show(directory)} is a linked worktree",
            remedy="Its branches travel with the repository that it belongs to, its files as "
            "files; what is checked out in it does not.",
        )
    inside = target.startswith(os.path.realpath(root) + b"/")
    if not inside or b"/.git/modules/" not in target or not _is_git_dir(target):
        raise RefusedRepositoryError(f"the git directory of {show(directory)} is elsewhere")
    configured = Program(target, directory).run("config", "--get", "core.worktree", accept=(0, 1))
    if os.path.realpath(os.path.join(target, configured.strip())) != os.path.realpath(directory):
        raise RefusedRepositoryError(f"the git directory of {show(directory)} is another's")
    return target


def _is_git_dir(path: bytes) -> bool:
    return (
        os.path.lexists(os.path.join(path, b"HEAD"))
        and os.path.isdir(os.path.join(path, b"objects"))
        and os.path.isdir(os.path.join(path, b"refs"))
    )


def _config(program: Program) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in program.run("config", "--list", "-z", "--local", "--includes").split(b"\0"):
        key, _, value = item.decode("utf-8", "surrogateescape").partition("\n")
        if key:
            found[key] = value
    return found


def _refuse(git_dir: bytes, config: Mapping[str, str]) -> None:
    here = show(git_dir)
    if os.path.lexists(os.path.join(git_dir, b"shallow")):
        raise RefusedRepositoryError(
            f"{here} is a shallow clone: part of its history is missing",
            remedy="Complete it with: git fetch --unshallow",
        )
    if config.get("extensions.partialclone"):
        raise RefusedRepositoryError(
            f"{here} is a partial clone: objects are missing",
            remedy="Complete it with: git fetch --refetch --no-filter",
        )
    if config.get("core.sparsecheckout", "false").lower() in ("true", "1", "yes", "on"):
        raise RefusedRepositoryError(
            f"{here} has a sparse checkout: files that are not there are not deleted ones",
            remedy="Check all out with: git sparse-checkout disable",
        )
    storage = config.get("extensions.refstorage", "files")
    if storage != "files":
        raise RefusedRepositoryError(f"{here} keeps its refs as {show(storage.encode())}")
    if os.path.lexists(os.path.join(git_dir, b"info", b"grafts")):
        raise RefusedRepositoryError(f"{here} has grafts: its history is not what it says")


def blockers(git_dir: bytes) -> list[str]:
    """Why nothing should be done to a repository now. A git process may hold a lock, or a person
    may be in the middle of something.
    """
    found = [
        why for name, why in _IN_PROGRESS.items() if os.path.lexists(os.path.join(git_dir, name))
    ]
    refs = os.path.join(git_dir, b"refs")
    if any(name.endswith(b".lock") for _, _, names in os.walk(refs) for name in names):
        found.append("a ref is locked")
    return list(dict.fromkeys(found))


def linked_branches(git_dir: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Branches that linked worktrees have checked out, with the name of the worktree."""
    directory = os.path.join(git_dir, b"worktrees")
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in sorted(names):
        try:
            with open(os.path.join(directory, name, b"HEAD"), "rb") as file:
                head = file.read(4200).strip()
        except OSError:
            continue
        if head.startswith(b"ref: "):
            yield head[5:], name
