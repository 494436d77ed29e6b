"""The fold: which versions of each path are live, and what that makes of the path.

A version is live if no accepted version of its path names it among its parents. This depends on the
set of accepted versions alone, so the fold is commutative, associative and idempotent. See
FORMAT.md, *Fold*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from tcfs.model.clock import VectorClock, merge
from tcfs.model.event import Version
from tcfs.model.ids import RelPath, VersionId


class Head(Struct, frozen=True, gc=False):
    """What a path is now.

    Attributes:
        ids: every live version, tombstones included, in a fixed order.
        groups: live versions that are not tombstones, gathered by equal content; the first of each
            group represents it. None: the path is absent. One: settled. More: a conflict.
        clock: the merge of all live versions' clocks.
    """

    path: RelPath
    ids: tuple[VersionId, ...]
    groups: tuple[tuple[Version, ...], ...]
    clock: VectorClock

    @property
    def absent(self) -> bool:
        """Whether nothing is there: never written, or deleted."""
        return not self.groups

    @property
    def conflicted(self) -> bool:
        """Whether concurrent versions with different content stand."""
        return len(self.groups) > 1

    @property
    def version(self) -> Version | None:
        """The one version that represents a settled path."""
        return self.groups[0][0] if len(self.groups) == 1 else None

    @property
    def siblings(self) -> tuple[Version, ...]:
        """The representative of each group."""
        return tuple(group[0] for group in self.groups)

    def group_of(self, content: tuple[str, bytes, int, bytes]) -> tuple[Version, ...] | None:
        """The live versions with exactly this content, if any."""
        return next((g for g in self.groups if g[0].manifest.content == content), None)


def settle(path: RelPath, live: Iterable[Version]) -> Head:
    """What these live versions make of their path."""
    versions = list(live)
    if len(versions) == 1:
        only = versions[0]
        absent = only.manifest.kind == "tombstone"
        return Head(path, (only.id,), () if absent else ((only,),), only.manifest.vclock)
    versions.sort(key=lambda v: v.order, reverse=True)
    groups: dict[tuple[str, bytes, int, bytes], list[Version]] = {}
    for version in versions:
        if version.manifest.kind != "tombstone":
            groups.setdefault(version.manifest.content, []).append(version)
    return Head(
        path=path,
        ids=tuple(sorted(v.id for v in versions)),
        groups=tuple(tuple(group) for group in groups.values()),
        clock=merge(v.manifest.vclock for v in versions),
    )


class Fold:
    """The fold in memory: small, obviously right, and the reference for the stored one."""

    def __init__(self) -> None:
        self._versions: dict[VersionId, Version] = {}
        self._superseded: set[tuple[RelPath, VersionId]] = set()

    def add(self, version: Version) -> None:
        """Accept a version; again is harmless."""
        self._versions[version.id] = version
        path = version.manifest.rel_path
        self._superseded.update((path, parent) for parent in version.manifest.parents)

    def heads(self) -> Mapping[RelPath, Head]:
        """Every path that was ever written, as it is now."""
        live: dict[RelPath, list[Version]] = {}
        for version in self._versions.values():
            path = version.manifest.rel_path
            entry = live.setdefault(path, [])
            if (path, version.id) not in self._superseded:
                entry.append(version)
        return {path: settle(path, versions) for path, versions in live.items()}
