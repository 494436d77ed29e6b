"""Pull: what the fleet says since the last pull is put on disk.

Where disk and fleet both changed, the local bytes go to the store first, as a sibling; then there
is one kind of conflict, settled by the namespace's strategy, or left standing. Nothing local is
replaced before its bytes are safe.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from msgspec import Struct

from tcfs.errors import AccessError, LocalFileError
from tcfs.model.clock import merge
from tcfs.model.conflict import conflict_path, preferred
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, join, parents, relative_to, show
from tcfs.model.plan import (
    BaseEntry,
    Content,
    LocalChange,
    LocalEntry,
    PullAction,
    local_change,
    pull_action,
)
from tcfs.model.tree import Head
from tcfs.state.roots import Root
from tcfs.sync.commit import base_entry
from tcfs.sync.context import Context
from tcfs.sync.durable import make_durable
from tcfs.sync.git.off_disk import stays_off_disk
from tcfs.sync.judge import require_write
from tcfs.sync.leftovers import hash_file
from tcfs.sync.materialise import materialise
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Action, Plan, Problem
from tcfs.sync.scan import Scan, local_entry, look, unreadable
from tcfs.sync.spelling import claim
from tcfs.sync.ticking import let_the_clock_tick
from tcfs.sync.wanted import Wanted

_ACTIONS: dict[PullAction, Action] = {
    PullAction.ADOPT: "adopt",
    PullAction.MATERIALISE: "fetch",
    PullAction.ATTRIBUTES: "attributes",
    PullAction.REMOVE: "remove",
    PullAction.SEND_FIRST: "conflict",
    PullAction.CONFLICT: "conflict",
}
MANY: Final = 500
"""Paths from which one look at all of them is cheaper than a question for each."""
_UNREAD = b"\1" * 32
"""Stands for content that was not read because its size alone tells it from the fleet's."""


def _above(paths: Iterable[RelPath]) -> set[RelPath]:
    """All directories above these paths, without the root."""
    nearest = {RelPath(path.rpartition(b"/")[0]) for path in paths} - {ROOT}
    return nearest.union(*map(parents, nearest))


class Decision(Struct, frozen=True, gc=False):
    """What a pull does with one path, and what that was decided on."""

    path: RelPath
    action: PullAction
    head: Head
    base: BaseEntry | None
    entry: LocalEntry | None
    content: Content | None
    dirty: bool


def _holds_all_but_time(
    action: PullAction,
    head: Head,
    base: BaseEntry | None,
    entry: LocalEntry | None,
    content: Content | None,
) -> bool:
    """Whether disk and fleet agree in all but the mtime, and the fleet's is to be taken."""
    if entry is None or entry.kind == "dir" or head.version is None:
        return False
    manifest = head.version.manifest
    if content != manifest.content or entry.mtime_ns == manifest.mtime_ns:
        return False
    # A push may have found the fleet's bytes on disk; a time that was set since is its user's.
    adopted = base is not None and base.mtime_ns == entry.mtime_ns
    return action is PullAction.ADOPT or (action is PullAction.NOTHING and adopted)


@dataclass(slots=True)
class Pulled:
    """What a pull did."""

    files: int = 0
    bytes_received: int = 0
    problems: list[Problem] = field(default_factory=list)
    conflict_copies: list[str] = field(default_factory=list)


class Pull:
    """One pull into a root, or into the part of it at and below a prefix."""

    def __init__(self, context: Context, root: Root, prefix: RelPath) -> None:
        self._context = context
        self._root = root
        self._prefix = prefix
        self._files = context.host.files
        self.problems: list[Problem] = []
        self.decisions: list[Decision] = []
        self._directories: set[RelPath] = set()
        self._missing: set[bytes] = set()

    # Deciding

    def decide(self) -> list[Decision]:
        """Look at every path that the fleet changed, and decide. Changes nothing."""
        history, root = self._context.state.history, self._root
        self._directories.clear()
        self._missing.clear()
        pulled = self._context.state.roots.pulled(root)
        touched, newest = history.touched(root.namespace, root.remote, pulled)
        changed = [relative_to(path, root.remote) for path in touched]
        paths = {path for path in changed if path is not None}
        if root.id:
            paths.update(self._context.state.roots.todo(root))
        self._touched, self._newest = sorted(paths), newest
        off_disk = stays_off_disk(self._context, root)
        claim(self._context, root, self._touched)
        wanted = [
            join(root.remote, path)
            for path in paths
            if relative_to(path, self._prefix) is not None
            and (path or root.remote)
            and not off_disk(path)
        ]
        base = self._context.state.roots.base(root) if root.id and len(wanted) >= MANY else None
        decisions = [
            self._decide_one(head, base)
            for head in history.heads_of(root.namespace, root.remote, wanted)
        ]
        history.fresh.forget()
        self.decisions = [d for d in decisions if d is not None]
        return self.decisions

    @property
    def touched(self) -> list[RelPath]:
        """Every path that the fleet changed or that is still to do, on disk here or not."""
        return self._touched

    def adopt(self, root: Root) -> None:
        """The root is recorded now; what was decided for it stands."""
        self._root = root

    def take_up(self) -> None:
        """Remember that these changes are to be put on disk, whatever happens now."""
        self._context.state.roots.take_up(self._root, self._touched, self._newest)

    def _decide_one(self, head: Head, bases: dict[RelPath, BaseEntry] | None) -> Decision | None:
        root = self._root
        path = relative_to(head.path, root.remote)
        assert path is not None
        if bases is not None:
            base = bases.get(path)
        else:
            base = self._context.state.roots.base_of(root, path) if root.id else None
        try:
            entry = self._look(path)
            change = local_change(base, entry)
            dirty = change is not LocalChange.NONE
            content = self._content(path, head, base, entry, change)
        except OSError as error:
            self.problems.append(unreadable(join(root.remote, path), error))
            return None
        if base is not None and change is LocalChange.MAYBE and content == base.content:
            dirty = False
        action = pull_action(head, base, content, dirty)
        if _holds_all_but_time(action, head, base, entry, content):
            action = PullAction.ATTRIBUTES
        return Decision(path, action, head, base, entry, content, dirty)

    def _look(self, path: RelPath) -> LocalEntry | None:
        directory = path.rpartition(b"/")[0]
        if directory in self._missing:
            return None
        try:
            stat = look(self._files, self._root.local, path, self._directories)
        except FileNotFoundError:
            if directory and directory not in self._directories:
                self._missing.add(directory)
            return None
        entry = local_entry(stat)
        if entry is None:
            raise OSError(0, "a socket, device or the like is in the way")
        return entry

    def _content(
        self,
        path: RelPath,
        head: Head,
        base: BaseEntry | None,
        entry: LocalEntry | None,
        change: LocalChange,
    ) -> Content | None:
        """What is on disk, reading it only where that can change the decision."""
        if entry is None:
            return None
        if change is LocalChange.NONE:
            assert base is not None
            return base.content
        if entry.kind == "dir":
            return ("dir", b"", entry.mode, b"")
        if entry.kind == "symlink":
            return ("symlink", b"", 0, self._files.readlink(self._local(path)))
        sizes = {v.manifest.file_size for v in head.siblings if v.manifest.kind == "file"}
        if base is not None and base.kind == "file":
            sizes.add(base.size)
        if entry.size not in sizes:
            return ("file", _UNREAD, entry.mode, b"")
        # What is decided on this stat must not happen to a write that leaves it as it is.
        let_the_clock_tick(self._context.host.clock, [entry.ctime_ns])
        return ("file", hash_file(self._files, self._local(path)), entry.mode, b"")

    # Planning

    def plan(self) -> Plan:
        """The decisions as a plan."""
        builder = PlanBuilder("pull", self._root.namespace, self._root.remote)
        moves = self._moves()
        old_paths = set(moves.values())
        for d in self.decisions:
            if d.action is PullAction.NOTHING or (d.action is PullAction.ADOPT and not d.content):
                continue
            if d.head.path in old_paths:
                continue
            version = d.head.version
            fetched = d.action is PullAction.MATERIALISE and version is not None
            moved = moves.get(d.head.path)
            builder.add(
                _ACTIONS[d.action] if moved is None else "move",
                show(d.head.path),
                size=version.manifest.file_size if fetched and version else 0,
                moved_from=show(moved) if moved is not None else "",
                note="both sides changed" if d.action is PullAction.SEND_FIRST else "",
                identity=(
                    d.path,
                    d.head.ids,
                    d.base and d.base.ids,
                    d.entry and (d.entry.size, d.entry.mtime_ns, d.entry.inode),
                ),
            )
        return builder.done()

    def _moves(self) -> dict[RelPath, RelPath]:
        """Files that are fetched to a new path while their old one is removed: nothing is lost."""
        removed = {
            d.head.path: d.base.file_hash
            for d in self.decisions
            if d.action is PullAction.REMOVE and d.base is not None and d.base.kind == "file"
        }
        moves: dict[RelPath, RelPath] = {}
        for d in self.decisions:
            version = d.head.version
            if removed and d.action is PullAction.MATERIALISE and version is not None:
                old = version.moved_from
                if old is not None and removed.get(old) == version.manifest.file_hash:
                    del removed[old]
                    moves[d.head.path] = old
        return moves

    def dirty_conflicts(self) -> frozenset[RelPath]:
        """Paths whose local bytes must be in the store before anything else happens to them."""
        return frozenset(d.path for d in self.decisions if d.action is PullAction.SEND_FIRST)

    def local_scan(self, paths: frozenset[RelPath]) -> Scan:
        """What the decisions saw at these paths, for a push of just them."""
        entries = {d.path: d.entry for d in self.decisions if d.path in paths and d.entry}
        return Scan(entries=entries)

    def standing_conflicts(self) -> list[Head]:
        """Paths whose live versions differ."""
        return [d.head for d in self.decisions if d.head.conflicted]

    def files_in_the_way(self) -> list[Head]:
        """Settled files and symlinks below which the fleet holds other paths."""
        history, root = self._context.state.history, self._root
        heads = {d.head.path: d.head for d in self.decisions}
        above = _above(heads)
        for directory in above - heads.keys():
            heads[directory] = history.head(root.namespace, directory)
        candidates = [
            head
            for head in heads.values()
            if head.version is not None and head.version.manifest.kind != "dir"
        ]
        if len(candidates) > MANY:
            inhabited = _above(history.present_paths(root.namespace, root.remote))
            return [head for head in candidates if head.path in inhabited]
        return [h for h in candidates if history.has_live_below(root.namespace, h.path)]

    # Doing

    def run(self) -> Pulled:
        """Put on disk what was decided. Conflicts that still stand are left as they are."""
        context, root = self._context, self._root
        pulled = Pulled(problems=self.problems)
        adopted: list[tuple[RelPath, BaseEntry]] = []
        dropped: list[RelPath] = []
        nothing: list[RelPath] = []
        wanted: list[Wanted] = []
        for d in self.decisions:
            if d.action is PullAction.NOTHING:
                nothing.append(d.path)
            elif d.action is PullAction.ADOPT:
                if d.content is None:
                    dropped.append(d.path)
                else:
                    adopted.append((d.path, self._adopted(d)))
            elif d.action is PullAction.CONFLICT:
                stale = d.base is None or set(d.base.ids).isdisjoint(d.head.ids)
                # It stays to do until somebody settles it, so that a pull in mode auto finds it.
                if not d.dirty and stale:
                    wanted.append(self._representative(d))
            elif d.action is PullAction.SEND_FIRST:
                self._set_aside(d, wanted, pulled)
            else:
                version = None if d.action is PullAction.REMOVE else d.head.version
                wanted.append(
                    Wanted(
                        d.path,
                        d.head.ids,
                        d.head.clock,
                        version,
                        d.entry,
                        attributes_only=d.action is PullAction.ATTRIBUTES,
                    )
                )
        if adopted:
            make_durable(context, root, [path for path, _ in adopted])
        roots = context.state.roots
        if self.decisions:
            with context.state.transaction():
                roots.set_base(root, adopted)
                roots.drop_base(root, dropped)
                roots.done(root, nothing)
        done = materialise(context, root, self._unblocked(wanted))
        pulled.files = done.files
        pulled.bytes_received = done.bytes_received
        pulled.problems.extend(done.problems)
        return pulled

    def _adopted(self, d: Decision) -> BaseEntry:
        assert d.content is not None
        group = d.head.group_of(d.content)
        assert group is not None
        if d.head.conflicted:
            ids = tuple(v.id for v in group)
            clock = merge(v.manifest.vclock for v in group)
        else:
            ids, clock = d.head.ids, d.head.clock
        return base_entry(ids, group[0].manifest, d.entry, clock)

    def _representative(self, d: Decision) -> Wanted:
        """Of a standing conflict that this disk has no part in: the version that would win."""
        strategy = self._context.control.strategy(self._root.namespace)
        version = preferred(d.head.siblings, strategy)
        group = d.head.group_of(version.manifest.content) or (version,)
        return Wanted(
            d.path,
            tuple(v.id for v in group),
            merge(v.manifest.vclock for v in group),
            version,
            d.entry,
            standing=True,
        )

    def _set_aside(self, d: Decision, wanted: list[Wanted], pulled: Pulled) -> None:
        """Local bytes that could not be sent: they move to a conflict copy beside the file."""
        local = self._local(d.path)
        try:
            require_write(self._context, self._root.namespace, d.head.path)
        except AccessError as error:
            name = conflict_path(
                d.path, self._context.identity.name, lambda path: self._exists(path)
            )
            try:
                self._files.rename_new(local, self._local(name))
            except OSError as failure:
                pulled.problems.append(unreadable(join(self._root.remote, d.path), failure))
                return
            pulled.conflict_copies.append(show(join(self._root.remote, name)))
            pulled.problems.append(
                Problem(
                    show(join(self._root.remote, d.path)),
                    error.code,
                    f"changed here and in the fleet, and {error.message}: the local bytes are in "
                    f"{show(name)}",
                    error.remedy,
                )
            )
            version = d.head.version or d.head.siblings[0]
            wanted.append(Wanted(d.path, d.head.ids, d.head.clock, version, None))

    def _exists(self, path: RelPath) -> bool:
        return self._look(path) is not None

    def _unblocked(self, wanted: list[Wanted]) -> list[Wanted]:
        """Without paths below a local file that stays: they wait until that is settled."""
        leaving = {w.path for w in wanted if w.version is None or w.found is None}
        leaving |= {
            w.path for w in wanted if w.version is not None and w.version.manifest.kind == "dir"
        }

        @cache
        def blocks(directory: RelPath) -> bool:
            entry = self._look(directory)
            return entry is not None and entry.kind != "dir" and directory not in leaving

        @cache
        def blocker_of(above: bytes) -> RelPath | None:
            return next((p for p in (*parents(RelPath(above)), RelPath(above)) if blocks(p)), None)

        kept = []
        for w in wanted:
            directory = w.path.rpartition(b"/")[0]
            blocker = blocker_of(directory) if directory else None
            if blocker is None or w.version is None:
                kept.append(w)
                continue
            self.problems.append(
                Problem(
                    show(join(self._root.remote, w.path)),
                    LocalFileError.code,
                    f"a file stands where its directory {show(blocker)} must be",
                    "Settle that first; see: tcfs conflicts",
                )
            )
        return kept

    def _local(self, path: RelPath) -> bytes:
        return os.path.join(self._root.local, path) if path else self._root.local
