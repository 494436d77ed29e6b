"""Settling conflicts: new versions whose parents are everything that was live.

A resolution is decided from the live set alone, so that devices which settle the same conflict
write equal content, which coalesces. Losers with other bytes stay beside the file as conflict
copies, and in history in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from tcfs.model.access import Strategy
from tcfs.model.clock import VectorClock
from tcfs.model.conflict import conflict_path, preferred
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import show
from tcfs.model.tree import Head
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.content_store import store_bytes
from tcfs.sync.context import Context
from tcfs.sync.text_merge import contenders, merge_attributes, merge_versions
from tcfs.sync.upload import Upload


@dataclass(slots=True)
class Resolved:
    """What was settled. Paths are shown."""

    paths: list[str] = field(default_factory=list)
    conflict_copies: list[str] = field(default_factory=list)
    segment: str = ""
    version: str = ""


class Resolver:
    """Settles conflicts of one namespace; commit with ``flush``. Use as a context manager."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace
        heads = context.state.history.heads(namespace)
        own = heads.get(context.identity.device_id)
        self._upload = Upload(context, namespace, own.seq + 1 if own else 1)
        self._committer = Committer(context, namespace, upload=self._upload)
        self._taken: dict[RelPath, SyncManifest] = {}
        self.resolved = Resolved()

    def __enter__(self) -> Resolver:
        self._upload.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._upload.__exit__(*exc)

    def automatic(self, head: Head) -> None:
        """Settle by the namespace's strategy, if there is anything to choose between.

        There is not where one side only changed the mode or the time: then both sides' changes are
        kept, and what the other replaced is the ancestor, which history has.
        """
        sides = contenders(self._context, self._namespace, head.siblings)
        both = merge_attributes(self._context, self._namespace, sides)
        if both is not None:
            self._write(head, both)
            return
        strategy = self._context.control.strategy(self._namespace)
        if strategy == "merge":
            merged = merge_versions(self._context, self._namespace, sides)
            if merged.text is not None:
                self.merged(head, merged.text)
                return
        self.winner(head, self.preferred(head, strategy), keep_losers=True)

    def preferred(self, head: Head, strategy: Strategy | None = None) -> Version:
        """The version that the namespace's strategy prefers."""
        chosen = strategy or self._context.control.strategy(self._namespace)
        return preferred(contenders(self._context, self._namespace, head.siblings), chosen)

    def merged(self, head: Head, text: bytes) -> None:
        """Settle with merged bytes, which supersede all sides."""
        stored = store_bytes(self._context, self._upload, text)
        newest = max(head.siblings, key=lambda v: v.order)
        manifest = replace(
            newest.manifest,
            file_hash=stored.file_hash,
            file_size=stored.size,
            chunks=tuple(stored.chunks),
            size_class=stored.size_class,
        )
        self._write(head, manifest)

    def winner(self, head: Head, version: Version, *, keep_losers: bool) -> None:
        """Settle for one version; the others become conflict copies if ``keep_losers``."""
        drafts = [self._draft(head, version.manifest)]
        if keep_losers:
            drafts += self._copies(head, version)
        ids = self._committer.add(drafts)
        self.resolved.version = str(ids[0])
        self.resolved.paths.append(show(head.path))
        if self._committer.full:
            self._committer.flush()

    def deleted(self, head: Head) -> None:
        """Settle for the deletion of the path."""
        tombstone = SyncManifest(
            rel_path=head.path,
            kind="tombstone",
            vclock=VectorClock(),
            parents=(),
            written_by="",
            written_at=0,
        )
        ids = self._committer.add(
            [Draft("delete", replace(tombstone, parents=head.ids), head.clock)]
        )
        self.resolved.version = str(ids[0])
        self.resolved.paths.append(show(head.path))

    def make_room(self, head: Head) -> None:
        """A file stands where a directory must be: it takes a conflict name."""
        versions = head.siblings
        drafts = []
        for version in versions:
            if version.manifest.kind != "dir":
                drafts += self._copy(version)
        directory = SyncManifest(
            rel_path=head.path,
            kind="dir",
            vclock=VectorClock(),
            parents=head.ids,
            written_by="",
            written_at=0,
            mode=0o755,
            mtime_ns=max(v.manifest.mtime_ns for v in versions),
        )
        drafts.insert(0, Draft("write", directory, head.clock))
        self._committer.add(drafts)
        self.resolved.paths.append(show(head.path))

    def flush(self) -> Resolved:
        """Commit what was settled."""
        self._committer.flush()
        self.resolved.segment = self._committer.last
        return self.resolved

    def _write(self, head: Head, manifest: SyncManifest) -> None:
        ids = self._committer.add([self._draft(head, manifest)])
        self.resolved.version = str(ids[0])
        self.resolved.paths.append(show(head.path))

    def _draft(self, head: Head, manifest: SyncManifest) -> Draft:
        return Draft("write", replace(manifest, rel_path=head.path, parents=head.ids), head.clock)

    def _copies(self, head: Head, winner: Version) -> Sequence[Draft]:
        drafts: list[Draft] = []
        sides = contenders(self._context, self._namespace, head.siblings)
        for loser in sorted(sides, key=lambda v: v.order):
            manifest = loser.manifest
            same_bytes = (manifest.kind, manifest.file_hash, manifest.target) == (
                winner.manifest.kind,
                winner.manifest.file_hash,
                winner.manifest.target,
            )
            if loser.id != winner.id and manifest.kind != "dir" and not same_bytes:
                drafts += self._copy(loser)
        return drafts

    def _copy(self, loser: Version) -> list[Draft]:
        """A loser beside its path.

        Where such a copy is there already it is written once more: somebody may be about to remove
        that one, who does not know that it holds this edit too.
        """
        manifest = loser.manifest

        def taken(path: RelPath) -> bool:
            here = self._taken.get(path)
            if here is not None:
                return here.content != manifest.content
            head = self._context.state.history.head(self._namespace, path)
            return not head.absent and head.group_of(manifest.content) is None

        path = conflict_path(manifest.rel_path, manifest.written_by, taken)
        if path in self._taken:
            return []
        self.resolved.conflict_copies.append(show(path))
        self._taken[path] = manifest
        head = self._context.state.history.head(self._namespace, path)
        return [Draft("write", replace(manifest, rel_path=path, parents=head.ids), head.clock)]
