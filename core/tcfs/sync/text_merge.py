"""Three-way merge of text, against the common ancestor found in history.

The merge itself is ``merge3``'s (the algorithm of diff3: Khanna, Kunal and Pierce, *A Formal
Investigation of Diff3*, 2007). It is refused, with the reason, unless it is clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tcfs.errors import IntegrityError
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.download import read_content
from tcfs.sync.upstream_import.records import without_record

MAX_TEXT: Final = 4 << 20
"""Bytes above which a file is not merged as text."""


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome: ``text`` if it is clean, else ``reason``."""

    base: Version | None
    text: bytes | None
    reason: str


def common_ancestor(
    context: Context, namespace: NamespaceId, versions: Sequence[Version]
) -> Version | None:
    """The latest version that all of these descend from, or None if there is none."""
    shared: set[VersionId] | None = None
    known: dict[VersionId, Version] = {}
    for version in versions:
        reached: set[VersionId] = set()
        waiting = [version]
        while waiting:
            current = waiting.pop()
            if current.id in reached:
                continue
            reached.add(current.id)
            known[current.id] = current
            for parent in current.manifest.parents:
                found = known.get(parent) or context.state.history.version(namespace, parent)
                # Another path's is of another branch of a cloned identity.
                if found is not None and found.manifest.rel_path == current.manifest.rel_path:
                    waiting.append(found)
        shared = reached if shared is None else shared & reached
    candidates = [known[i] for i in shared or ()]
    return max(candidates, key=lambda v: v.order, default=None)


def merge_attributes(
    context: Context, namespace: NamespaceId, versions: Sequence[Version]
) -> SyncManifest | None:
    """Two versions of which one changed no bytes: the other's bytes, and what each did to the mode.

    None if both changed the bytes, or the mode, each in a way of its own.
    """
    if len(versions) != 2:
        return None
    one, other = sorted(versions, key=lambda v: v.id)
    base = common_ancestor(context, namespace, (one, other))
    if base is None:
        return None
    before, sides = base.manifest, (one.manifest, other.manifest)
    changed = [side for side in sides if _bytes(side) != _bytes(before)]
    modes = {side.mode for side in sides} - {before.mode}
    if len(changed) == 2 or len(modes) > 1 or any(side.kind != before.kind for side in sides):
        return None
    # Where neither changed the bytes, the one that changed the mode gives the time as well.
    taken = changed[0] if changed else next((s for s in sides if s.mode in modes), sides[0])
    mode = modes.pop() if modes else before.mode
    # With another side's attributes it is no longer what was imported, if it was.
    return replace(taken, mode=mode, extra=without_record(taken))


def contenders(
    context: Context, namespace: NamespaceId, versions: Sequence[Version]
) -> Sequence[Version]:
    """Those of more than two versions between which there is something to choose.

    One that says what an ancestor said, which another answered, is no side of its own: a device may
    settle a conflict for what its disk held while its user goes on from the very same bytes.
    """
    if len(versions) < 3:
        return versions  # ``merge_attributes`` is about two.

    def has_answered(other: Version, one: Version) -> bool:
        base = common_ancestor(context, namespace, (one, other))
        return base is not None and base.manifest.content == one.manifest.content

    left = [
        one
        for one in versions
        if not any(other is not one and has_answered(other, one) for other in versions)
    ]
    return left or versions


def _bytes(manifest: SyncManifest) -> tuple[str, bytes, bytes]:
    return (manifest.kind, manifest.file_hash, manifest.target)


def merge_versions(context: Context, namespace: NamespaceId, versions: Sequence[Version]) -> Merge:
    """Merge two versions against their common ancestor; the same on every device."""
    if len(versions) != 2:
        return Merge(None, None, f"there are {len(versions)} versions; two can be merged")
    one, other = sorted(versions, key=lambda v: v.id)
    base = common_ancestor(context, namespace, (one, other))
    reason = _not_text(one, other)
    if reason:
        return Merge(base, None, reason)
    if one.manifest.mode != other.manifest.mode:
        return Merge(base, None, "their modes differ")
    if base is None or base.manifest.kind != "file":
        return Merge(base, None, "they have no common ancestor")
    if base.manifest.file_size > MAX_TEXT:
        return Merge(base, None, "their common ancestor is too large to merge as text")
    before = _kept(context, namespace, base)
    if before is None:
        return Merge(base, None, "the content of their common ancestor is kept no longer")
    texts = [before, *(read_content(context, namespace, v) for v in (one, other))]
    if any(b"\0" in text for text in texts):
        return Merge(base, None, "it is not text")
    merged = merge_text(*texts)
    if merged is None:
        return Merge(base, None, "both sides changed the same lines")
    return Merge(base, merged, "")


def _kept(context: Context, namespace: NamespaceId, base: Version) -> bytes | None:
    """What an ancestor held, unless a collection took it, or it is damaged: history may lose it."""
    index = context.state.index
    if any(index.address(namespace, chunk) is None for chunk in base.manifest.chunks):
        return None
    try:
        return read_content(context, namespace, base)
    except (IntegrityError, ObjectMissing):
        return None  # Where it was is still known here, since nobody says what was collected.


def merge_text(base: bytes, one: bytes, other: bytes) -> bytes | None:
    """The clean three-way merge of these texts, or None if they change the same lines."""
    # Loading the library is only worth it when there is something to merge.
    from merge3 import Merge3

    merge = Merge3(
        base.splitlines(keepends=True),
        one.splitlines(keepends=True),
        other.splitlines(keepends=True),
    )
    if any(group[0] == "conflict" for group in merge.merge_groups()):
        return None
    return b"".join(merge.merge_lines())


def _not_text(*versions: Version) -> str:
    for version in versions:
        if version.manifest.kind != "file":
            return f"one side is a {version.manifest.kind}"
        if version.manifest.file_size > MAX_TEXT:
            return f"one side is larger than {MAX_TEXT} bytes"
    return ""
