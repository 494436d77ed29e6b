"""The fleet's side of a repository: registers with their live versions, bundles, reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tcfs.model.clock import VectorClock, merge
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.tree import Head
from tcfs.sync.commit import Draft
from tcfs.sync.context import Context
from tcfs.sync.git.bundle import BundleInfo
from tcfs.sync.git.names import (
    BUNDLES,
    HEAD,
    REPORTS,
    is_oid,
    is_register,
    is_value,
    mark,
    oids_of,
    path_of,
    split,
)

EXTRA: Final = "git"
HELD: Final = "held"
"""Marks a version that says: this device keeps its value, since its work tree has edits."""


@dataclass(slots=True)
class Remote:
    """What the fleet knows of one repository.

    Attributes:
        heads: registers by name, deleted ones included.
        bundles: versions of bundles that stand, by name.
        reports: versions of devices' reports, by device id.
        refused: names whose value is not one; they are left alone.
    """

    repository: RelPath
    heads: dict[bytes, Head] = field(default_factory=dict)
    bundles: dict[bytes, Version] = field(default_factory=dict)
    reports: dict[str, Version] = field(default_factory=dict)
    refused: list[bytes] = field(default_factory=list)

    @property
    def removed(self) -> bool:
        """Whether the repository was removed from the fleet, or never was in it."""
        head = self.heads.get(HEAD)
        return head is None or head.absent

    def values(self, name: bytes) -> list[bytes]:
        """The values that stand, more than one in a conflict."""
        head = self.heads.get(name)
        return [value_of(version) for version in head.siblings] if head else []

    def value(self, name: bytes) -> bytes | None:
        """The value of a settled register; None if it is absent or in conflict."""
        found = self.values(name)
        return found[0] if len(found) == 1 else None

    def oids(self) -> set[bytes]:
        """Every object that a live version of a register names."""
        return {
            oid
            for name in self.heads
            for value in self.values(name)
            for oid in oids_of(name, value)
        }


def read(context: Context, namespace: NamespaceId, repository: RelPath) -> Remote:
    """What the fleet knows of the repository at a remote path."""
    remote = Remote(repository)
    for head in context.state.history.tree(namespace, mark(repository)):
        named = split(head.path)
        if named is None:
            continue
        name = named[1]
        if is_register(name):
            if all(_sound(name, v) for v in head.siblings):
                remote.heads[name] = head
            else:
                remote.refused.append(name)
        elif head.version is not None:
            kind = head.version.manifest.kind
            if name.startswith(BUNDLES) and kind == "file":
                remote.bundles[name] = head.version
            elif name.startswith(REPORTS) and kind == "symlink":
                remote.reports[name[len(REPORTS) :].decode("ascii", "replace")] = head.version
    return remote


def _sound(name: bytes, version: Version) -> bool:
    return version.manifest.kind == "symlink" and is_value(name, version.manifest.target)


def repositories(paths: Iterable[RelPath]) -> set[RelPath]:
    """The repositories that paths of a namespace speak of."""
    return {found[0] for path in paths if (found := split(path)) is not None}


def value_of(version: Version) -> bytes:
    """The value of a version of a register."""
    return version.manifest.target


def is_held(version: Version) -> bool:
    """Whether a version only says that its device has edits; see ``HELD``."""
    extra = version.manifest.extra.get(EXTRA)
    return isinstance(extra, dict) and extra.get(HELD) is True


def bundle_info(version: Version) -> BundleInfo | None:
    """What a bundle holds, as its event says; None if that is not said."""
    extra = version.manifest.extra.get(EXTRA)
    if not isinstance(extra, dict):
        return None
    found = []
    for key in ("tips", "needs"):
        listed = extra.get(key)
        if not isinstance(listed, list) or not all(isinstance(oid, str) for oid in listed):
            return None
        oids = tuple(oid.encode() for oid in listed)
        if not all(map(is_oid, oids)):
            return None
        found.append(oids)
    return BundleInfo(*found)


def bundle_extra(info: BundleInfo) -> dict[str, Any]:
    """What a bundle's event says of it."""
    return {
        EXTRA: {
            "tips": [oid.decode() for oid in info.tips],
            "needs": [oid.decode() for oid in info.needs],
        }
    }


def register_draft(
    context: Context,
    namespace: NamespaceId,
    repository: RelPath,
    name: bytes,
    value: bytes | None,
    parents: tuple[VersionId, ...],
    *,
    held: bool = False,
) -> Draft:
    """A register's next version; without a value it is deleted."""
    manifest = SyncManifest(
        rel_path=path_of(repository, name),
        kind="symlink" if value is not None else "tombstone",
        vclock=VectorClock(),
        parents=parents,
        written_by="",
        written_at=0,
        target=value or b"",
        extra={EXTRA: {HELD: True}} if held else {},
    )
    return Draft(
        "write" if value is not None else "delete", manifest, clock_of(context, namespace, parents)
    )


def clock_of(context: Context, namespace: NamespaceId, parents: Iterable[VersionId]) -> VectorClock:
    """The merge of the clocks of versions that are known here."""
    found = [context.state.history.version(namespace, parent) for parent in parents]
    return merge(version.manifest.vclock for version in found if version is not None)


def ordered(bundles: Mapping[bytes, Version]) -> list[Version]:
    """Bundles in an order in which a later one may build on an earlier one."""
    return sorted(bundles.values(), key=lambda version: version.order)
