"""Three trees to a plan: what this device saw last, what is on disk, what the fleet says.

Everything here is pure. ``BaseEntry`` is the last synced tree, ``LocalEntry`` the disk,
``tcfs.model.tree.Head`` the fleet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Literal

from msgspec import Struct

from tcfs.model.clock import VectorClock
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.manifest import Kind
from tcfs.model.tree import Head

LocalKind = Literal["file", "dir", "symlink"]
Content = tuple[Kind, bytes, int, bytes]


class LocalEntry(Struct, frozen=True, gc=False):
    """What a scan found at a path. Sizes in bytes, times in ns, mode as permission bits."""

    kind: LocalKind
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class BaseEntry(Struct, frozen=True, gc=False):
    """What a source last materialised at a path: the versions, their content, and the file's stat.

    ``ctime_ns`` is 0 where the stat is not to be trusted, so that content is compared instead; of a
    directory, where it may stand on this disk alone: see ``on_this_disk_alone``.
    """

    ids: tuple[VersionId, ...]
    clock: VectorClock
    kind: LocalKind
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    file_hash: bytes
    target: bytes
    size_class: int

    @property
    def content(self) -> Content:
        """In the terms of ``SyncManifest.content``."""
        return (self.kind, self.file_hash, 0 if self.kind == "symlink" else self.mode, self.target)

    @property
    def on_this_disk_alone(self) -> bool:
        """Whether this is a directory that a pull made or kept for what is in it.

        The fleet has no such directory, or had none then: it was deleted there, or never written.
        """
        return self.kind == "dir" and self.ctime_ns == 0


class LocalChange(Enum):
    """What a stat alone says about a path since the base."""

    NONE = "none"
    NEW = "new"
    MAYBE = "maybe"
    """The stat differs: content must be read to know."""
    MODE = "mode"
    """Only a directory's mode."""
    DELETED = "deleted"


def local_change(base: BaseEntry | None, local: LocalEntry | None) -> LocalChange:
    """Compare a path's base and its entry on disk, without reading content.

    A directory has no content of its own: its times change with every entry and mean nothing.
    """
    if base is None:
        return LocalChange.NONE if local is None else LocalChange.NEW
    if local is None:
        return LocalChange.DELETED
    if base.kind != local.kind:
        return LocalChange.MAYBE
    if local.kind == "dir":
        return LocalChange.NONE if base.mode == local.mode else LocalChange.MODE
    same = (
        base.ctime_ns == local.ctime_ns
        and base.mtime_ns == local.mtime_ns
        and base.size == local.size
        and base.inode == local.inode
        # What mode a symlink has is the system's choice.
        and (base.mode == local.mode or local.kind == "symlink")
        and base.ctime_ns != 0
    )
    return LocalChange.NONE if same else LocalChange.MAYBE


class PullAction(Enum):
    """What a pull does with one path."""

    NOTHING = "nothing"
    ADOPT = "adopt"
    """Disk already holds what the fleet says: only remember it."""
    MATERIALISE = "materialise"
    """Put the head's version on disk."""
    ATTRIBUTES = "attributes"
    """Same bytes; set mode and mtime."""
    REMOVE = "remove"
    SEND_FIRST = "send_first"
    """Both sides changed: the local bytes go to the store as a sibling before anything else."""
    CONFLICT = "conflict"
    """The fleet itself holds more than one version, and the disk adds none."""


def pull_action(
    head: Head, base: BaseEntry | None, local: Content | None, dirty: bool
) -> PullAction:
    """Decide what a pull does with a path.

    Args:
        head: what the fleet says.
        base: what this source materialised last.
        local: the content on disk, or None if nothing is there. Must be exact where ``dirty``.
        dirty: whether the disk differs from the base (a new file included).
    """
    known = set(base.ids) if base else set()
    # A base without any head left holds what access rules came to refuse. Of one that holds a
    # version beside a tombstone, that alone may be left: what joins the two came after both.
    outlived = head.absent and known > set(head.ids) and not (base and base.on_this_disk_alone)
    seen = base is not None and known >= set(head.ids) and not outlived
    if not dirty and seen and (head.ids or not known):
        return PullAction.NOTHING
    if head.absent:
        if local is None:
            return PullAction.ADOPT
        # A local edit that the deleter had not seen outlives the deletion.
        return PullAction.NOTHING if dirty else PullAction.REMOVE
    # A tombstone beside what is live says nothing of it: only who had not seen it wrote one.
    nothing_new = bool(known) and known >= {v.id for group in head.groups for v in group}
    if local is not None and dirty and head.group_of(local) is None:
        return PullAction.NOTHING if nothing_new else PullAction.SEND_FIRST
    if head.conflicted:
        return PullAction.CONFLICT
    version = head.version
    assert version is not None
    if local is None:
        # Deleted here and changed elsewhere: the change outlives the deletion. Deleted here and
        # unchanged elsewhere: a push will say so.
        return PullAction.NOTHING if nothing_new else PullAction.MATERIALISE
    if local == version.manifest.content:
        return PullAction.ADOPT
    if local[0] == version.manifest.kind and local[1] == version.manifest.file_hash:
        same_target = local[3] == version.manifest.target
        return PullAction.ATTRIBUTES if same_target else PullAction.MATERIALISE
    return PullAction.MATERIALISE


class MoveMatcher:
    """Pairs files that are new with files that are gone, by content.

    A move is a hint and costs nothing: the bytes are shared by their chunks either way. Among equal
    candidates the same inode is the best sign, the same name the next; each is used once.
    """

    def __init__(self, gone: Mapping[RelPath, BaseEntry]) -> None:
        # By what is known of a candidate, so that none has to be searched for: a tree may hold
        # thousands of equal files. In path order; used ones are passed over when they come up.
        self._by: dict[tuple[bytes, int | None, bytes | None], deque[RelPath]] = {}
        self._used: set[RelPath] = set()
        for path in sorted(gone):
            entry = gone[path]
            if entry.kind == "file" and entry.size:
                for key in _keys(path, entry.file_hash, entry.inode):
                    self._by.setdefault(key, deque()).append(path)

    def match(self, path: RelPath, file_hash: bytes, inode: int) -> RelPath | None:
        """The path that the file at ``path`` was moved from, if any."""
        if not self._by:
            return None
        for key in _keys(path, file_hash, inode):
            candidates = self._by.get(key, ())
            while candidates:
                found = candidates.popleft()
                if found not in self._used:
                    self._used.add(found)
                    return found
        return None


def _keys(
    path: RelPath, file_hash: bytes, inode: int
) -> Iterator[tuple[bytes, int | None, bytes | None]]:
    """What a file may be known by, the best sign first."""
    name = path.rpartition(b"/")[2]
    yield file_hash, inode, name
    yield file_hash, inode, None
    yield file_hash, None, name
    yield file_hash, None, None
