"""What a repository says now, as registers: HEAD, refs, the stash, and what is staged."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Final

from tcfs.model.paths import MAX_NAME, show
from tcfs.sync.git.names import (
    FORMAT,
    HEAD,
    INDEX,
    STASH,
    branch_of,
    carried,
    is_oid,
    is_ref,
)
from tcfs.sync.git.program import GitError, Program
from tcfs.sync.git.repository import RefusedRepositoryError, Repository

MAX_REFS: Final = 20_000
MAX_STASHES: Final = 50
"""Stash entries that are carried: a register's value has 4,096 bytes at most."""

# The commit that stands for an index is the same wherever it is made.
_INDEX_AUTHOR: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "tcfs"), ("EMAIL", "tcfs@localhost"), ("DATE", "@0 +0000"))
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository's registers, and what of it cannot be carried.

    Attributes:
        registers: values by name.
        skipped: refs that stay here, each with the reason.
        head_oid: the commit that HEAD leads to; None if there is none yet.
    """

    registers: dict[bytes, bytes]
    skipped: tuple[str, ...]
    head_oid: bytes | None

    @property
    def branch(self) -> bytes | None:
        """The branch that is checked out, as a full ref name; None if HEAD is detached."""
        return branch_of(self.registers.get(HEAD))


def take(repository: Repository, scratch: bytes) -> Snapshot:
    """Read a repository's registers. ``scratch`` is a directory for a copy of the index.

    Raises:
        RefusedRepositoryError: it has more refs than are carried, or its index has conflicts.
        GitError: git cannot read it.
    """
    program = repository.program
    registers: dict[bytes, bytes] = {}
    skipped: list[str] = []
    out = program.run("for-each-ref", "--format=%(objectname) %(refname) %(symref)")
    lines = out.splitlines()
    if len(lines) > MAX_REFS:
        raise RefusedRepositoryError(
            f"{show(repository.directory)} has {len(lines)} refs; at most {MAX_REFS} are carried"
        )
    for line in lines:
        oid, _, rest = line.partition(b" ")
        ref, _, target = rest.partition(b" ")
        if not carried(ref) or ref == STASH:
            continue
        if target:
            skipped.append(f"{show(ref)} is a symbolic ref")
        elif not is_ref(ref) or any(len(part) > MAX_NAME - 16 for part in ref.split(b"/")):
            skipped.append(f"{show(ref)[:80]} has a name that not every disk takes")
        else:
            registers[ref] = oid
    head = _head(repository)
    registers[HEAD] = head
    kind = b"sha256" if _sha256(repository) else b"sha1"
    registers[FORMAT] = kind + b" bare" if repository.bare else kind
    stash = _stash(repository)
    if stash:
        registers[STASH] = b",".join(stash[:MAX_STASHES])
        if len(stash) > MAX_STASHES:
            skipped.append(f"the stash has {len(stash)} entries; the newest {MAX_STASHES} travel")
    branch = branch_of(head)
    oid_of_head = registers.get(branch) if branch is not None else head
    if not repository.bare:
        staged = index_commit(repository, oid_of_head, scratch)
        if staged is not None:
            registers[INDEX] = staged
    return Snapshot(registers, tuple(skipped), oid_of_head)


def _head(repository: Repository) -> bytes:
    try:
        with open(os.path.join(repository.git_dir, b"HEAD"), "rb") as file:
            value = file.read(4200).strip()
    except OSError as error:
        raise GitError(f"HEAD cannot be read: {error.strerror}") from None
    if value.startswith(b"ref:"):
        value = b"ref: " + value[4:].strip()
        if not value.startswith(b"ref: refs/heads/"):
            raise RefusedRepositoryError(f"HEAD names {show(value[5:])}, which is no branch")
    elif not is_oid(value):
        raise GitError("HEAD is damaged")
    return value


def _sha256(repository: Repository) -> bool:
    return repository.config.get("extensions.objectformat", "sha1") == "sha256"


def _stash(repository: Repository) -> list[bytes]:
    """The stash's commits, newest first. All but the newest stand in its reflog alone."""
    return stash_entries(repository.git_dir)


def stash_entries(git_dir: bytes) -> list[bytes]:
    """The commits of a git directory's stash, newest first."""
    try:
        with open(os.path.join(git_dir, b"logs", b"refs", b"stash"), "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    found = [line.split(b" ", 2)[1] for line in lines if line.count(b" ") >= 2]
    return [oid for oid in reversed(found) if is_oid(oid)]


def with_older(value: bytes | None, entries: list[bytes]) -> bytes | None:
    """A register's stash entries and, if it holds as many as are carried, the older ones here."""
    if value is None:
        return None
    wanted = value.split(b",")
    older: list[bytes] = []
    if len(wanted) >= MAX_STASHES:
        for oid in reversed(entries):
            if oid in wanted:
                break
            older.insert(0, oid)
    return b",".join([*wanted, *older])


def index_tree(program: Program, index: bytes, scratch: bytes) -> bytes:
    """The tree that an index stands for, made without touching it.

    Raises:
        RefusedRepositoryError: it has conflicts.
    """
    copy = os.path.join(scratch, b"index")
    try:
        shutil.copyfile(index, copy)
    except FileNotFoundError:
        if os.path.lexists(copy):
            os.unlink(copy)
    status, out, err = program.call("write-tree", environment={"GIT_INDEX_FILE": os.fsdecode(copy)})
    if status:
        if b"unmerged" in err or b"error building trees" in err:
            raise RefusedRepositoryError("the index has conflicts that wait for their resolution")
        raise GitError(f"the index cannot be read: {show(err[:200].strip())}")
    return out.strip()


def index_commit(repository: Repository, head: bytes | None, scratch: bytes) -> bytes | None:
    """A commit that holds what is staged beyond ``head``; None if nothing is."""
    program = repository.program
    index = os.path.join(repository.git_dir, b"index")
    if head is None and not os.path.lexists(index):
        return None
    tree = index_tree(program, index, scratch)
    if head is not None:
        if (
            program.run("rev-parse", "--verify", "--end-of-options", head + b"^{tree}").strip()
            == tree
        ):
            return None
    elif not program.run("ls-tree", tree).strip():
        return None
    parents = ("-p", os.fsdecode(head)) if head is not None else ()
    made = program.run("commit-tree", tree, *parents, "-m", "index", environment=_INDEX_AUTHOR)
    return made.strip()
