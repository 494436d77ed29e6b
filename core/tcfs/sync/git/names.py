"""Names: which paths of a namespace speak of a repository, and which ref names are safe to make.

What a repository at ``P`` says is kept below ``P/.git/tcfs/``, at paths like any others in the
ledger, which are never put on disk: *registers* (``HEAD``, ``index``, ``format``, ``refs/...``) and
devices' reports (``reports/<device>``), each a symlink whose target is the value, and bundles,
which are files (``bundles/<device>-<n>``).
"""

from __future__ import annotations

import re
from typing import Final

from tcfs.model.ids import RelPath
from tcfs.model.paths import join

GIT_DIR: Final = b".git"
MARK: Final = b".git/tcfs"
HEAD: Final = b"HEAD"
INDEX: Final = b"index"
FORMAT: Final = b"format"
STASH: Final = b"refs/stash"
BRANCHES: Final = b"refs/heads/"
TAGS: Final = b"refs/tags/"
BUNDLES: Final = b"bundles/"
REPORTS: Final = b"reports/"
OWN: Final = b"refs/tcfs/"
"""Refs of ours in a repository: what other devices have, and what must not be lost."""
INCOMING: Final = OWN + b"incoming/"
LOCAL_ONLY: Final = (
    OWN,
    # What a fetch brings again.
    b"refs/remotes/",
    b"refs/prefetch/",
    # What belongs to one working tree, or to an operation in progress.
    b"refs/bisect/",
    b"refs/worktree/",
    b"refs/rewritten/",
    # What changes the meaning of other objects.
    b"refs/replace/",
)
"""Refs that are not carried."""

_START = re.compile(rb"(?:\A|/)\.git/tcfs/")
_GIT = re.compile(rb"(?:\A|/)\.git(?:/|\Z)")
_OID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BAD_IN_REF = re.compile(rb"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)|\.(?:/|\Z)|/\Z")


def split(path: RelPath) -> tuple[RelPath, bytes] | None:
    """A path below a repository's mark as (repository, name); None for any other."""
    found = _START.search(path)
    if found is None:
        return None
    return RelPath(path[: found.start()]), path[found.end() :]


def is_git(path: bytes) -> bool:
    """Whether a path is a ``.git`` or lies in one."""
    return GIT_DIR in path and _GIT.search(path) is not None


def mark(repository: RelPath) -> RelPath:
    """Below what everything about a repository is kept."""
    return join(repository, RelPath(MARK))


def path_of(repository: RelPath, name: bytes) -> RelPath:
    """The path of a register or file of a repository."""
    return join(repository, RelPath(MARK + b"/" + name))


def is_register(name: bytes) -> bool:
    """Whether a name below the mark is one that this version knows as a register."""
    return name in (HEAD, INDEX, FORMAT) or (name.startswith(b"refs/") and is_ref(name))


def is_ref(name: bytes) -> bool:
    """Whether git takes this as the full name of a ref (rules of git-check-ref-format).

    Names of registers come from other devices: none may be an option, leave ``refs/`` or hit a
    lock file.
    """
    return (
        name.startswith(b"refs/")
        and name.count(b"/") >= 1
        and not name.startswith(b"refs/.")
        and _BAD_IN_REF.search(name) is None
        and all(len(part) <= 240 for part in name.split(b"/"))
    )


def carried(ref: bytes) -> bool:
    """Whether a ref travels."""
    return not ref.startswith(LOCAL_ONLY)


def is_oid(value: bytes) -> bool:
    """Whether this is an object id, SHA-1 or SHA-256."""
    return _OID.fullmatch(value) is not None


def branch_of(head: bytes | None) -> bytes | None:
    """The branch that a HEAD names, as a full ref name; None if it is detached or there is none."""
    if head is None or not head.startswith(b"ref: "):
        return None
    return head[5:]


def oids_of(name: bytes, value: bytes) -> list[bytes]:
    """The objects that a register's value names."""
    if name == HEAD:
        return [value] if is_oid(value) else []
    if name == FORMAT:
        return []
    return [oid for oid in value.split(b",") if is_oid(oid)]


def is_value(name: bytes, value: bytes) -> bool:
    """Whether a value that came from elsewhere is one for this register."""
    if name == HEAD:
        branch = branch_of(value)
        if branch is not None:
            return branch.startswith(BRANCHES) and is_ref(branch)
        return is_oid(value)
    if name == FORMAT:
        return value in (b"sha1", b"sha256", b"sha1 bare", b"sha256 bare")
    if name == STASH:
        return bool(value) and all(is_oid(oid) for oid in value.split(b","))
    return is_oid(value)


def author_ref(device: str, name: bytes) -> bytes:
    """Where a device's value of a ref is kept: ``refs/tcfs/<device>/heads/main``."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", device) or "device"
    if safe in ("incoming", "kept"):
        safe += "_"
    return OWN + safe.encode() + b"/" + name.removeprefix(b"refs/")
