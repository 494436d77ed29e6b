"""A real merge of two commits, made by git apart from the work tree: it is clean or it never was.

What it changes is put into the work tree only where a file is as one of the two sides has it, which
git keeps. A file with other content is somebody's edit, and refuses the merge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tcfs.errors import ConflictError
from tcfs.model.paths import show
from tcfs.sync.git.program import GitError, Program, merge_drivers
from tcfs.sync.git.repository import Repository

_GITLINK = b"160000"
_ABSENT = b"0" * 6


def is_forward(program: Program, old: bytes, new: bytes) -> bool:
    """Whether the first commit is the second or an ancestor of it."""
    return old == new or program.call("merge-base", "--is-ancestor", old, new)[0] == 0


def merge_commits(
    repository: Repository, ours: bytes, theirs: bytes, message: str, device: str
) -> bytes:
    """The commit that merges two; one of them where that is a fast-forward.

    Raises:
        ConflictError: they do not merge cleanly; nothing was changed.
        GitError: git cannot do it, or would run a program that the repository names.
    """
    program = repository.program
    if is_forward(program, ours, theirs):
        return theirs
    if is_forward(program, theirs, ours):
        return ours
    drivers = merge_drivers(repository.config)
    if drivers:
        raise GitError(
            f"the repository sets {show(drivers[0].encode())}, a program that a merge would run",
            remedy="Merge it yourself with git, or keep one side.",
        )
    status, out, err = program.call(
        *("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    )
    parts = out.split(b"\0")
    if status == 1:
        paths = sorted({show(path) for path in parts[1:] if path})
        raise ConflictError(
            f"it does not merge cleanly: {', '.join(paths[:10]) or 'both changed the same'}",
            remedy="Keep one side with --keep-local or --keep-remote, or both with --keep-both "
            "and merge the branches with git.",
            details={"paths": paths[:100]},
        )
    if status:
        raise GitError(
            f"git merge-tree failed: {show(err[:200].strip())}",
            remedy="Merging needs git 2.38 or later. Merge it yourself with git, or keep one side.",
        )
    made = program.run(
        *("commit-tree", parts[0], "-p", ours, "-p", theirs, "-m", message),
        environment=_author(repository, device),
    )
    return made.strip()


def _author(repository: Repository, device: str) -> dict[str, str]:
    """Who merges: as git would know them, from the repository's settings or the user's own."""
    found = dict(repository.config)
    file = os.path.expanduser("~/.gitconfig")
    for key in ("user.name", "user.email"):
        if key not in found and os.path.isfile(file):
            value = repository.program.run("config", "--file", file, "--get", key, accept=(0, 1))
            if value.strip():
                found[key] = os.fsdecode(value.strip())
    name = found.get("user.name") or device
    email = found.get("user.email") or f"{device}@tcfs"
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", email))
    }


def put_on_disk(
    repository: Repository, ours: bytes, theirs: bytes, merged: bytes, scratch: bytes
) -> None:
    """Give the work tree the content of a merge, where ``ours`` is checked out.

    Before any ref moves: a crash in between leaves the merged content as uncommitted work.

    Raises:
        ConflictError: a file that the merge changes has edits of its own.
        GitError: a filter would have to run to write one of the files.
    """
    program = repository.program
    write: list[bytes] = []
    remove: list[bytes] = []
    edited: list[bytes] = []
    for path, sides in _changes(program, ours, theirs, merged).items():
        was, other, new = sides
        if _GITLINK in (was[0], other[0], new[0]):
            continue
        now = _on_disk(repository, path)
        if now == (new[1] if new[0] != _ABSENT else None):
            continue
        known = {None if mode == _ABSENT else oid for mode, oid in (was, other)}
        if now not in known:
            edited.append(path)
        elif new[0] == _ABSENT:
            remove.append(path)
        else:
            write.append(path)
    if edited:
        raise ConflictError(
            f"{show(edited[0])} has edits that are not committed, and the merge changes it",
            remedy="Commit or stash them first, or choose --keep-both.",
            details={"paths": [show(path) for path in edited[:100]]},
        )
    _refuse_filtered(program, write)
    index = os.path.join(scratch, b"merged-index")
    environment = {"GIT_INDEX_FILE": os.fsdecode(index)}
    program.run("read-tree", merged, environment=environment)
    if write:
        program.run(
            *("checkout-index", "--force", "--quiet", "-z", "--stdin"),
            stdin=b"\0".join(write) + b"\0",
            environment=environment,
        )
    for path in remove:
        os.unlink(os.path.join(repository.directory, path))


_Side = tuple[bytes, bytes]


def _changes(
    program: Program, ours: bytes, theirs: bytes, merged: bytes
) -> dict[bytes, tuple[_Side, _Side, _Side]]:
    """(mode, blob) of every path that the merge changes, or that the others' files changed here."""
    found: dict[bytes, dict[str, _Side]] = {}
    for name, side in (("ours", ours), ("theirs", theirs)):
        out = program.run("diff-tree", "-r", "-z", "--no-renames", "--full-index", side, merged)
        fields = out.split(b"\0")
        for meta, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, old, new, _ = meta.lstrip(b":").split(b" ")
            entry = found.setdefault(path, {})
            entry[name] = (old_mode, old)
            entry["merged"] = (new_mode, new)
    return {
        path: (e.get("ours", e["merged"]), e.get("theirs", e["merged"]), e["merged"])
        for path, e in found.items()
        if "ours" in e
    }


def _on_disk(repository: Repository, path: bytes) -> bytes | None:
    """The blob that a file of the work tree would be; None if nothing is there."""
    full = os.path.join(repository.directory, path)
    try:
        if os.path.islink(full):
            return repository.program.run(
                "hash-object", "--stdin", stdin=os.fsencode(os.readlink(full))
            ).strip()
        if not os.path.isfile(full):
            return b"directory" if os.path.isdir(full) else None
    except OSError as error:
        raise GitError(f"{show(path)} cannot be read: {error.strerror}") from None
    return repository.program.run("hash-object", "--", path).strip()


def _refuse_filtered(program: Program, paths: Iterable[bytes]) -> None:
    given = b"".join(path + b"\0" for path in paths)
    if not given:
        return
    out = program.run("check-attr", "-z", "--stdin", "filter", stdin=given).split(b"\0")
    for path, value in zip(out[::3], out[2::3], strict=False):
        if value not in (b"unspecified", b"unset", b""):
            raise GitError(
                f"{show(path)} goes through the filter {show(value)}, which a merge would run",
                remedy="Merge it yourself with git, or keep one side.",
            )
