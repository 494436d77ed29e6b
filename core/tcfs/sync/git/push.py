"""Pushing repositories: what changed in their registers becomes events, new objects a bundle.

Files are pushed first: until a repository's registers arrive as well, others see its new content as
uncommitted work, never its new history over old files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from tcfs.errors import AccessError, LocalFileError
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.paths import ROOT, join, parents, show
from tcfs.state.git import SEEN, RegisterBase
from tcfs.state.roots import Root
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.context import Context
from tcfs.sync.git import registers, report
from tcfs.sync.git.arrival import complete
from tcfs.sync.git.names import GIT_DIR, REPORTS, oids_of, path_of
from tcfs.sync.git.outgoing import bundle_drafts, deletion
from tcfs.sync.git.registers import Remote, register_draft
from tcfs.sync.git.repository import (
    RefusedRepositoryError,
    Repository,
    blockers,
    found_in,
    is_repository,
    open_repository,
)
from tcfs.sync.git.snapshot import Snapshot, take
from tcfs.sync.git.workshop import (
    PostponedError,
    Told,
    bundles_travel,
    directory_of,
    drop_scratch,
    fingerprint,
    held,
    hide_marker,
    newest_change,
    raw_travels,
    scratch_directory,
)
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Plan
from tcfs.sync.scan import Scan
from tcfs.sync.sending import Pushed
from tcfs.sync.upload import Upload


@dataclass(slots=True)
class Change:
    """What a push does about one repository.

    Attributes:
        new: registers whose value becomes an event, None for a deletion.
        adopted: registers that hold what the fleet has: only their base is recorded.
        looked: what the git directory looked like; empty if that is not to be relied on.
        repository: None for one that was removed from this disk.
    """

    path: RelPath
    remote: Remote
    repository: Repository | None
    snapshot: Snapshot | None
    new: dict[bytes, bytes | None] = field(default_factory=dict)
    parents: dict[bytes, tuple[VersionId, ...]] = field(default_factory=dict)
    looked: bytes = b""
    adopted: dict[bytes, RegisterBase | None] = field(default_factory=dict)


class GitPush:
    """The repositories at and below a prefix of a root, as a scan found them.

    Hides bare repositories from the scan, and in raw mode those in which something is in progress.

    Args:
        since: wall time in seconds before the scan began.
    """

    def __init__(
        self, context: Context, root: Root, prefix: RelPath, scanned: Scan, since: float
    ) -> None:
        self._context = context
        self._root = root
        self._since_ns = int(since * 1e9)
        self._told = Told()
        self._changes: list[Change] = []
        self._quiet: list[RelPath] = []
        if raw_travels(context):
            self._hold_back(scanned)
        if not bundles_travel(context):
            return
        found = found_in(scanned, prefix)
        gone = [path for path in self._known(prefix) if path not in found]
        if not found and not gone:
            return
        scratch = scratch_directory(context)
        try:
            for path in found:
                if self._is_quiet(path):
                    self._quiet.append(path)
                else:
                    self._guarded(path, scratch)
        finally:
            drop_scratch(scratch)
        for path in gone:
            if scanned.sees(path, True) and not is_repository(directory_of(context, root, path)):
                self._removed(path)

    def _known(self, prefix: RelPath) -> list[RelPath]:
        if not self._root.id:
            return []
        start = prefix + b"/" if prefix else b""
        known = self._context.state.git.repositories(self._root)
        return [path for path in known if path == prefix or path.startswith(start)]

    def _hold_back(self, scanned: Scan) -> None:
        for path in [p for p in scanned.entries if p == b".git" or p.endswith(b"/.git")]:
            reasons = blockers(directory_of(self._context, self._root, path))
            if reasons:
                for entry in [p for p in scanned.entries if p == path or p.startswith(path + b"/")]:
                    del scanned.entries[entry]
                scanned.hidden.add(path)
                repo = RelPath(path[:-4].rstrip(b"/"))
                self._told.problem(
                    self._root, repo, PostponedError(f"postponed: {', '.join(reasons)}")
                )

    # Deciding

    def _is_quiet(self, path: RelPath) -> bool:
        """Whether nothing happened in a git directory since it was last in step.

        Asking git costs some processes for each repository; this costs a look at its refs.
        """
        context, root = self._context, self._root
        if not root.id or path in context.state.git.begun(root):
            return False
        seen = context.state.git.seen(root, path)
        git_dir = os.path.join(directory_of(context, root, path), GIT_DIR)
        if not seen or seen != fingerprint(git_dir):
            return False
        remote = registers.read(context, root.namespace, join(root.remote, path))
        return len(self._base(path, remote)) == len(context.state.git.of(root, path))

    def _guarded(self, path: RelPath, scratch: bytes) -> None:
        try:
            self._look(path, scratch)
        except RefusedRepositoryError as error:
            self._told.warnings.append(f"not carried: {error.message}")
        except (LocalFileError, PostponedError) as error:
            self._told.problem(self._root, path, error)

    def _look(self, path: RelPath, scratch: bytes) -> None:
        context, root = self._context, self._root
        repository = open_repository(context.host.files, root.local, path)
        with held(context, repository):
            if root.id:
                complete(context, root, repository, scratch)
            looked = fingerprint(repository.git_dir)
            snapshot = take(repository, scratch)
        self._told.warnings += [
            f"{show(join(root.remote, path))}: not carried: {why}" for why in snapshot.skipped
        ]
        remote = registers.read(context, root.namespace, join(root.remote, path))
        change = Change(path, remote, repository, snapshot)
        if repository.kind == "normal" and not snapshot.skipped:
            change.looked = looked
        base = self._base(path, remote)
        mine = snapshot.registers
        if remote.removed and base and all(mine.get(n) == b.value for n, b in base.items()):
            return  # removed elsewhere, and nothing happened here since
        for name in sorted(mine.keys() | base.keys()):
            self._compare(change, name, mine.get(name), base.get(name))
        self._changes.append(change)

    def _base(self, path: RelPath, remote: Remote) -> dict[bytes, RegisterBase]:
        if not self._root.id:
            return {}
        return known_base(self._context, self._root, path, remote)

    def _compare(
        self, change: Change, name: bytes, value: bytes | None, base: RegisterBase | None
    ) -> None:
        head = change.remote.heads.get(name)
        revive = change.remote.removed
        if base is not None and base.value == value and not revive:
            return
        if value is None:
            assert base is not None
            if head is None or head.absent:
                change.adopted[name] = None
            else:
                change.new[name] = None
                change.parents[name] = base.ids
            return
        group = next(
            (g for g in head.groups if registers.value_of(g[0]) == value) if head else iter(()),
            None,
        )
        if group is not None and head is not None and not registers.is_held(group[0]):
            ids = head.ids if not head.conflicted else tuple(v.id for v in group)
            change.adopted[name] = RegisterBase(value, ids)
            return
        ids = base.ids if base is not None else ()
        if revive and head is not None:
            ids = tuple(dict.fromkeys((*ids, *head.ids)))
        change.new[name] = value
        change.parents[name] = ids

    def _removed(self, path: RelPath) -> None:
        """Its ``.git`` is gone from this disk."""
        context, root = self._context, self._root
        remote = registers.read(context, root.namespace, join(root.remote, path))
        change = Change(path, remote, None, None)
        for name, base in self._base(path, remote).items():
            head = remote.heads.get(name)
            if head is None or head.absent:
                change.adopted[name] = None
            else:
                change.new[name] = None
                change.parents[name] = base.ids
        self._changes.append(change)

    def plan(self) -> Plan | None:
        """The registers that will be written; None if there is nothing to say."""
        builder = PlanBuilder("git push", self._root.namespace, self._root.remote)
        count = 0
        for change in self._changes:
            for name, value in change.new.items():
                builder.add(
                    "change",
                    show(path_of(change.remote.repository, name)),
                    note=show(value)[:60] if value is not None else "deleted",
                    identity=(change.path, name, value, change.parents[name]),
                )
                count += 1
        if not count and not self._told.warnings:
            return None
        return builder.done(self._told.warnings[:20])

    # Doing

    @property
    def anything(self) -> bool:
        """Whether there is something to do or to tell."""
        return bool(self._changes or self._quiet or self._told.problems)

    def run(self, root: Root, changed: Iterable[RelPath] = ()) -> Pushed:
        """Commit what was decided. ``root`` is recorded by now.

        Args:
            changed: files that were pushed just now: what is uncommitted is told anew.
        """
        self._root = root
        self._look_again(changed)
        pushed = Pushed(problems=self._told.problems)
        if not self._changes:
            return pushed
        context, namespace = self._context, root.namespace
        own = context.state.history.heads(namespace).get(context.identity.device_id)
        scratch = scratch_directory(context)
        try:
            with Upload(context, namespace, own.seq + 1 if own else 1) as upload:
                committer = Committer(context, namespace, upload=upload)
                try:
                    for change in self._changes:
                        self._commit(change, committer, upload, scratch)
                finally:
                    pushed.bytes_sent = upload.bytes_sent + committer.bytes_sent
                    pushed.packs = upload.packs
                    pushed.segments = len(committer.segments)
                    pushed.last_segment = committer.last
        finally:
            drop_scratch(scratch)
        return pushed

    def _look_again(self, changed: Iterable[RelPath]) -> None:
        """Look at quiet repositories in whose work tree something changed."""
        inside = {directory for path in changed for directory in (ROOT, *parents(path))}
        again = [path for path in self._quiet if path in inside]
        if again:
            scratch = scratch_directory(self._context)
            try:
                for path in again:
                    self._guarded(path, scratch)
            finally:
                drop_scratch(scratch)

    def _commit(self, change: Change, committer: Committer, upload: Upload, scratch: bytes) -> None:
        try:
            drafts, names = self._drafts(change, upload, scratch)
            ids = committer.add(drafts) if drafts else []
        except (AccessError, LocalFileError, PostponedError) as error:
            self._told.problem(self._root, change.path, error)
            return
        written: dict[bytes, RegisterBase | None] = dict(change.adopted)
        if drafts:
            # A repository's bundle and registers stand in one segment, or a crash could part them.
            committer.flush()
            for name, version in zip(names, ids, strict=False):
                value = change.new[name]
                written[name] = None if value is None else RegisterBase(value, (version,))
        if change.looked:
            written[SEEN] = RegisterBase(change.looked, ())
        self._context.state.git.record(self._root, change.path, written)

    def _drafts(
        self, change: Change, upload: Upload, scratch: bytes
    ) -> tuple[list[Draft], list[bytes]]:
        """The events of one repository, its registers first and in the order of the names."""
        context, root, remote = self._context, self._root, change.remote
        names = list(change.new)
        drafts = [
            register_draft(
                context, root.namespace, remote.repository, n, change.new[n], change.parents[n]
            )
            for n in names
        ]
        repository, snapshot = change.repository, change.snapshot
        if repository is None or snapshot is None:
            for version in (*remote.bundles.values(), *remote.reports.values()):
                drafts.append(deletion(version))
            return drafts, names
        hide_marker(repository)
        if newest_change(repository.git_dir) >= self._since_ns:
            raise PostponedError("postponed: it changed while it was read")
        named = [
            (name, oid)
            for name, value in sorted(snapshot.registers.items())
            for oid in oids_of(name, value)
        ]
        drafts += bundle_drafts(
            context, root.namespace, repository, remote, named, upload, scratch, full=True
        )
        told = report.make(repository, snapshot).to_json()
        known = remote.reports.get(context.identity.device_id)
        if known is None or registers.value_of(known) != told:
            name = REPORTS + context.identity.device_id.encode()
            parents = (known.id,) if known else ()
            drafts.append(
                register_draft(context, root.namespace, remote.repository, name, told, parents)
            )
        return drafts, names


def known_base(
    context: Context, root: Root, path: RelPath, remote: Remote
) -> dict[bytes, RegisterBase]:
    """The base of a repository, without what rests on versions that no longer count."""
    history, found = context.state.history, {}
    for name, base in context.state.git.of(root, path).items():
        head = remote.heads.get(name)
        live = set(head.ids) if head is not None else set()
        if all(i in live or history.version(root.namespace, i) is not None for i in base.ids):
            found[name] = base
    return found
