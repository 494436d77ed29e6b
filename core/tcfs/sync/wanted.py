"""What a path on disk is to become, and what it was when that was decided."""

from __future__ import annotations

from msgspec import Struct

from tcfs.host.base import Stat
from tcfs.model.clock import VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.plan import BaseEntry, LocalEntry
from tcfs.state.roots import Intent
from tcfs.sync.commit import base_entry


class Wanted(Struct, frozen=True, gc=False):
    """What a path is to hold.

    Attributes:
        path: relative to the root.
        ids, clock: the versions that the base will record, and their clocks' merge.
        version: what to put there; None to remove what is there.
        found: what the disk held when that was decided; None for nothing.
        attributes_only: the bytes are right already.
        standing: a conflict still stands there, for a later pull to settle.
    """

    path: RelPath
    ids: tuple[VersionId, ...]
    clock: VectorClock
    version: Version | None
    found: LocalEntry | None
    attributes_only: bool = False
    standing: bool = False

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.version.manifest.file_size if self.version else 0

    @property
    def kind(self) -> str:
        """What is to be there; ``tombstone`` for nothing."""
        return self.version.manifest.kind if self.version else "tombstone"

    @property
    def wanted_version(self) -> Version:
        """The version to put there. Only for what is not a removal."""
        assert self.version is not None
        return self.version

    @property
    def replaces_kind(self) -> bool:
        """Whether a directory gives way to a file, or the other way round."""
        if self.version is None or self.found is None:
            return False
        return (self.found.kind == "dir") != (self.version.manifest.kind == "dir")

    @property
    def leaves(self) -> bool:
        """Whether what is there is removed, for good or before something else can be there."""
        return self.version is None or self.replaces_kind

    def intent(self) -> Intent:
        """That it is about to be there."""
        version = self.wanted_version
        kind = version.manifest.kind
        if self.ids == (version.id,):
            return Intent(self.path, kind, version.id, displaces=self._displaces)
        clock = dict(self.clock.clocks)
        return Intent(self.path, kind, version.id, self.ids, clock, displaces=self._displaces)

    def removal(self) -> Intent:
        """That what is there is about to go."""
        return Intent(self.path, "tombstone", displaces=self._displaces)

    @property
    def _displaces(self) -> int | None:
        found = self.found
        return None if found is None or found.kind == "dir" else found.mtime_ns

    def base(self, stat: Stat | None) -> BaseEntry:
        """The base once it is there; without a stat, content will be compared."""
        entry = (
            LocalEntry(
                stat.kind,  # type: ignore[arg-type]
                stat.size,
                stat.mode,
                stat.mtime_ns,
                stat.ctime_ns,
                stat.inode,
            )
            if stat
            else None
        )
        return base_entry(self.ids, self.wanted_version.manifest, entry, self.clock)


def same_inode(stat: Stat, found: LocalEntry) -> bool:
    """Whether an inode is the one that was seen; a rename changes its ctime, so not that."""
    return (stat.kind, stat.size, stat.mtime_ns, stat.inode) == (
        found.kind,
        found.size,
        found.mtime_ns,
        found.inode,
    )


def unchanged(stat: Stat, found: LocalEntry) -> bool:
    """Whether a file is exactly as it was seen."""
    return same_inode(stat, found) and stat.ctime_ns == found.ctime_ns
