"""Versions and conflicts in the words that front ends show."""

from __future__ import annotations

from tcfs.model.conflict import preferred
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath, VersionId
from tcfs.model.paths import show
from tcfs.sync.context import Context
from tcfs.sync.git.names import split
from tcfs.sync.places import Place, place_of
from tcfs.sync.results import ConflictInfo, VersionInfo
from tcfs.sync.upstream_import.records import imported_of


def version_info(
    context: Context, namespace: NamespaceId, version: Version, *, live: bool | None = None
) -> VersionInfo:
    """One version for people and programs."""
    manifest = version.manifest
    imported = imported_of(manifest) if manifest.extra else None
    return VersionInfo(
        id=str(version.id),
        path=show(manifest.rel_path),
        op=version.op,
        kind=manifest.kind,
        size=manifest.file_size,
        file_hash=manifest.file_hash.hex(),
        mode=manifest.mode,
        mtime_ns=manifest.mtime_ns,
        device_id=version.id.device,
        device=show(manifest.written_by.encode()),
        actor=show(manifest.actor.encode()),
        written_at=manifest.written_at,
        lamport=version.lamport,
        segment=f"{version.id.device}/{version.seq}",
        parents=tuple(str(parent) for parent in manifest.parents),
        moved_from=show(version.moved_from) if version.moved_from else "",
        live=context.state.history.is_live(namespace, version.id) if live is None else live,
        vclock={str(d): n for d, n in manifest.vclock.clocks.items()},
        imported=imported.text() if imported is not None else "",
    )


def conflict_info(context: Context, namespace: NamespaceId, path: RelPath) -> ConflictInfo:
    """A conflict for people and programs."""
    from tcfs.sync.text_merge import contenders

    head = context.state.history.head(namespace, path)
    strategy = context.control.strategy(namespace)
    sides = contenders(context, namespace, head.siblings)
    ours = local_version(context, namespace, path)
    return ConflictInfo(
        path=show(path),
        versions=tuple(
            version_info(context, namespace, version, live=True) for version in head.siblings
        ),
        local_version=str(ours.id) if ours else "",
        would_win=str(preferred(sides, strategy).id) if sides else "",
    )


def local_version(context: Context, namespace: NamespaceId, path: RelPath) -> Version | None:
    """The sibling that this device's copy of a path is, if it is one."""
    place = place_of(context, namespace, path)
    if place is None:
        return None
    ids = _base_ids(context, place)
    head = context.state.history.head(namespace, path)
    for group in head.groups:
        if any(version.id in ids for version in group):
            return group[0]
    return None


def _base_ids(context: Context, place: Place) -> tuple[VersionId, ...]:
    """The versions that this device's copy of a path, or of a ref, was last the same as."""
    named = split(place.prefix)
    if named is not None:
        register = context.state.git.of(place.root, named[0]).get(named[1])
        return register.ids if register is not None else ()
    base = context.state.roots.base_of(place.root, place.prefix)
    return base.ids if base is not None else ()
