"""Push: what changed on disk since the base becomes events of this device.

A push never takes anything from the fleet and never settles a conflict: a file whose remote version
was not pulled is committed as a sibling.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from tcfs.content.ingest import RefusedFile, SourceFile, StoredFile
from tcfs.errors import LocalFileError
from tcfs.host.base import Stat
from tcfs.model.clock import VectorClock, merge
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import ROOT, join, parents, show
from tcfs.model.plan import BaseEntry, LocalChange, LocalEntry, MoveMatcher, local_change
from tcfs.state.roots import Root
from tcfs.sync.candidates import SLICE, Candidate, Candidates
from tcfs.sync.commit import Committer, Draft, base_entry
from tcfs.sync.compare import Look
from tcfs.sync.context import Context
from tcfs.sync.durable import make_durable
from tcfs.sync.places import adopt
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Action, Plan, Problem
from tcfs.sync.ticking import let_the_clock_tick
from tcfs.sync.upload import Sizes, Upload, sizes_of

CHANGED: Final = "changed while it was read"
REFRESHED: Final = 10_000
"""Files whose bytes turned out to be known, that share a barrier."""


@dataclass(slots=True)
class Pushed:
    """What a push did."""

    files: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    packs: int = 0
    segments: int = 0
    last_segment: str = ""
    problems: list[Problem] = field(default_factory=list)


class Push:
    """One push of a root, or of the parts of it at and below some prefixes.

    ``only`` restricts it to certain paths; then nothing is deleted.
    """

    def __init__(
        self, context: Context, root: Root, looked: Look, *, only: frozenset[RelPath] | None = None
    ) -> None:
        self._context = context
        self._root = root
        self._look = looked
        self._scan = looked.scan
        self._namespace: NamespaceId = root.namespace
        self.candidates = looked.changed
        if only is not None:
            self.candidates.drop(lambda path: path not in only)
        elif not root.remote:
            self.candidates.drop(lambda path: path == ROOT)  # a namespace is no directory
        self.candidates.narrow(self._change)
        if only is None:
            self.candidates.add_gone(self._gone())

    def _change(self, c: Candidate) -> LocalChange:
        if c.base is not None and c.base.on_this_disk_alone and self._revives(c, c.base):
            return LocalChange.NEW
        return local_change(c.base, c.entry)

    def _gone(self) -> Iterator[RelPath]:
        """What is in the base, is not on disk, and would have been seen there."""
        gone, sees, roots = self._look.gone, self._scan.sees, self._context.state.roots
        for start in range(0, len(gone), SLICE):
            some = gone[start : start + SLICE]
            for path, known in roots.base_at(self._root, some).items():
                if sees(path, known.kind == "dir"):
                    yield path

    def _revives(self, c: Candidate, base: BaseEntry) -> bool:
        """Whether a directory that only this disk has is to be in the fleet after all.

        It is if it holds what is synced, or nothing, or one that is to be. A deleted one that is
        kept for excluded files alone is not.
        """
        history = self._context.state.history
        head = history.head(self._namespace, join(self._root.remote, c.path))
        if (
            c.entry is None
            or c.entry.kind != "dir"
            or not head.absent
            or not set(head.ids) <= set(base.ids)
        ):
            return False
        if c.path in self._look.in_use:
            return True
        start = c.path + b"/"
        return any(
            not any(hidden.startswith(other + b"/") for hidden in self._scan.hidden)
            for other in self._look.alone
            if other == c.path or other.startswith(start)
        )

    @property
    def tracked(self) -> int:
        """How many paths the base has here."""
        return self._look.tracked

    def plan(self) -> Plan:
        """What this push would do, by stat alone: content is read when it is done."""
        builder = PlanBuilder("push", self._namespace, self._root.remote)
        moves = self._moves()
        old_paths = set(moves.values())
        for c in self.candidates:
            if c.path in old_paths:
                continue
            action: Action = {
                LocalChange.NEW: "add",
                LocalChange.MAYBE: "change",
                LocalChange.MODE: "attributes",
                LocalChange.DELETED: "delete",
            }[c.change]  # type: ignore[assignment]
            moved = ""
            if c.path in moves:
                action, moved = "move", show(join(self._root.remote, moves[c.path]))
            builder.add(
                action,
                show(join(self._root.remote, c.path)),
                size=c.entry.size if c.entry and c.entry.kind == "file" else 0,
                moved_from=moved,
                identity=(
                    c.path,
                    c.entry and (c.entry.size, c.entry.mtime_ns, c.entry.ctime_ns, c.entry.inode),
                    c.base and c.base.ids,
                ),
            )
        return builder.done(
            [f"skipped, neither file, directory nor symlink: {p}" for p in self._scan.skipped[:20]]
        )

    def _moves(self) -> dict[RelPath, RelPath]:
        """New paths that were renamed, by what a rename leaves as it was, to their old paths."""
        gone = {
            (c.base.inode, c.base.size, c.base.mtime_ns): c.path
            for c in self.candidates.gone()
            if c.base is not None and c.base.kind == "file"
        }
        moves: dict[RelPath, RelPath] = {}
        for c in self.candidates.files() if gone else ():
            if c.change is LocalChange.NEW and c.entry is not None and c.entry.size:
                old = gone.pop((c.entry.inode, c.entry.size, c.entry.mtime_ns), None)
                if old is not None:
                    moves[c.path] = old
        return moves

    def adopt(self) -> None:
        """Record the root, if it is new, or check that it is still what it was."""
        self._root = adopt(self._context, self._root)

    def run(self) -> Pushed:
        """Do it. Commits in parts; what was committed stays if a later part fails."""
        pushed = Pushed(problems=list(self._scan.problems))
        if not self.candidates:
            return pushed
        context = self._context
        seq = self._next_seq()
        with Upload(context, self._namespace, seq) as upload:
            committer = Committer(context, self._namespace, root=self._root, upload=upload)
            work = _Work(self, committer, upload, pushed)
            try:
                work.attributes_and_links()
                work.files()
                work.deletions()
                work.replacements()
                committer.flush()
                work.refresh()
            finally:
                pushed.bytes_read = upload.bytes_read
                pushed.bytes_sent = upload.bytes_sent + committer.bytes_sent
                pushed.packs = upload.packs
                pushed.segments = len(committer.segments)
                pushed.last_segment = committer.last
        return pushed

    def _next_seq(self) -> int:
        heads = self._context.state.history.heads(self._namespace)
        own = heads.get(self._context.identity.device_id)
        return own.seq + 1 if own else 1


class _Work:
    """The steps of a push."""

    def __init__(self, push: Push, committer: Committer, upload: Upload, pushed: Pushed) -> None:
        self._push = push
        self._context = push._context
        self._root = push._root
        self._namespace = push._namespace
        self._committer = committer
        self._upload = upload
        self._pushed = pushed
        self._refreshed: list[tuple[RelPath, BaseEntry]] = []
        self._gone = {c.path: c.base for c in push.candidates.gone() if c.base is not None}
        self._moves = MoveMatcher(self._gone)
        # A file or link in place of a directory comes after what was in that: the fleet may see a
        # part of a push, and would take them for a conflict.
        emptied = {directory for path in self._gone for directory in parents(path)}
        self._first, self._last = push.candidates.divided(emptied)
        # Paths that hold something in the fleet: only there can equal content be adopted.
        self._inhabited: set[RelPath] = set()

    def _with_heads(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """The same, a few at a time, with what is known of their paths in the fleet at hand."""
        history, waiting = self._context.state.history, iter(candidates)
        while some := list(islice(waiting, SLICE)):
            remotes = [self._remote(c.path) for c in some]
            self._inhabited |= history.inhabited(self._namespace, remotes)
            yield from some

    def attributes_and_links(self) -> None:
        """Directories and symlinks: no content to store."""
        self._without_content(self._first)

    def files(self) -> None:
        """Files: stored first, then drafted as their content comes back."""
        self._with_content(self._first)

    def replacements(self) -> None:
        """Links and files where directories were."""
        self._without_content(self._last)
        self._with_content(self._last)

    def _without_content(self, candidates: Candidates) -> None:
        for c in self._with_heads(candidates.others()):
            if c.entry is None:
                continue
            if c.entry.kind == "dir":
                mtime = c.entry.mtime_ns
                self._settle(
                    c,
                    SyncManifest(
                        rel_path=self._remote(c.path),
                        kind="dir",
                        vclock=VectorClock(),
                        parents=c.base.ids if c.base else (),
                        written_by="",
                        written_at=0,
                        mode=c.entry.mode,
                        mtime_ns=mtime,
                    ),
                    c.entry,
                )
            else:
                self._link(c, c.entry)
            self._part()

    def _link(self, c: Candidate, entry: LocalEntry) -> None:
        try:
            target = self._context.host.files.readlink(self._local(c.path))
        except OSError as error:
            self._problem(c.path, error)
            return
        self._settle(
            c,
            SyncManifest(
                rel_path=self._remote(c.path),
                kind="symlink",
                vclock=VectorClock(),
                parents=c.base.ids if c.base else (),
                written_by="",
                written_at=0,
                mtime_ns=entry.mtime_ns,
                target=target,
            ),
            entry,
        )

    def _with_content(self, candidates: Candidates) -> None:
        clock = self._context.host.clock
        let_the_clock_tick(clock, (ctime_ns for _, ctime_ns in candidates.stats()))
        again = self._store(candidates.files(), sizes_of(size for size, _ in candidates.stats()))
        if again:
            # A file that was being written is given one more chance.
            found = self._look_again(again)
            entries = [c.entry for c in found if c.entry]
            let_the_clock_tick(clock, (entry.ctime_ns for entry in entries))
            again = self._store(found, sizes_of(entry.size for entry in entries))
        for c in again:
            self._pushed.problems.append(
                Problem(
                    show(self._remote(c.path)),
                    LocalFileError.code,
                    CHANGED,
                    "The next push takes it; everything else was handled.",
                )
            )

    def _store(self, candidates: Iterable[Candidate], sizes: Sizes) -> list[Candidate]:
        """Store and draft these; returns those that changed while they were read."""
        flying: dict[int, Candidate] = {}

        def sources() -> Iterator[SourceFile]:
            for index, c in enumerate(self._with_heads(candidates)):
                entry = c.entry
                assert entry is not None
                stat = Stat(
                    "file", entry.size, entry.mode, entry.mtime_ns, entry.ctime_ns, entry.inode, 0
                )
                previous = c.base.size_class if c.base and c.base.kind == "file" else None
                flying[index] = c
                yield SourceFile(self._local(c.path), stat, index, previous)

        changed = []
        done, total = 0, sum(sizes)
        for answer in self._upload.store(sources(), sizes):
            c = flying.pop(answer.ref)
            if isinstance(answer, RefusedFile):
                if answer.errno is None or answer.errno == errno.ENOENT:
                    changed.append(c)
                else:
                    self._problem(c.path, OSError(answer.errno, os.strerror(answer.errno)))
                continue
            self._draft(c, answer)
            self._pushed.files += 1
            done += answer.size
            self._context.report("push", done, total, "bytes")
            self._part()
        # What follows may be about the same paths, and goes by what the state says of them.
        self._committer.settle()
        return changed

    def _draft(self, c: Candidate, stored: StoredFile) -> None:
        entry = c.entry
        assert entry is not None
        self._settle(
            c,
            SyncManifest(
                rel_path=self._remote(c.path),
                kind="file",
                vclock=VectorClock(),
                parents=c.base.ids if c.base else (),
                written_by="",
                written_at=0,
                file_hash=stored.file_hash,
                file_size=stored.size,
                chunks=tuple(stored.chunks),
                mode=entry.mode,
                mtime_ns=entry.mtime_ns,
                size_class=stored.size_class,
            ),
            entry,
        )

    def _settle(self, c: Candidate, manifest: SyncManifest, entry: LocalEntry) -> None:
        """Decide what a path's content means: nothing new, adopted, attributes, or a write."""
        base = c.base
        revived = base is not None and c.change is LocalChange.NEW
        if base is not None and base.content == manifest.content and not revived:
            if base.mtime_ns == entry.mtime_ns or entry.kind == "dir":
                self._refreshed.append((c.path, _with_stat(base, entry)))
                return
            self._commit("setattr", c, manifest, entry)
            return
        if manifest.rel_path in self._inhabited:
            head = self._context.state.history.head(self._namespace, manifest.rel_path)
            same = head.group_of(manifest.content)
            held = base is not None and not set(base.ids).isdisjoint(head.ids)
            if same is not None and not held:
                # The fleet has these very bytes: remember that this disk holds them too.
                ids, clock = [v.id for v in same], merge(v.manifest.vclock for v in same)
                self._refreshed.append((c.path, base_entry(ids, same[0].manifest, entry, clock)))
                return
        unchanged = (
            base is not None
            and base.kind == manifest.kind
            and base.file_hash == manifest.file_hash
            and base.target == manifest.target
        )
        moved = None
        if manifest.kind == "file" and manifest.file_size and base is None:
            moved = self._moves.match(c.path, manifest.file_hash, entry.inode)
        op = "setattr" if unchanged and not revived else "write"
        self._commit(op, c, manifest, entry, moved)

    def _commit(
        self,
        op: str,
        c: Candidate,
        manifest: SyncManifest,
        entry: LocalEntry,
        moved: RelPath | None = None,
    ) -> None:
        drafts = [_draft_of(op, c.base, manifest, (c.path, entry))]
        if moved is not None:
            old = self._gone.pop(moved)
            drafts[0] = Draft(
                drafts[0].op,
                drafts[0].manifest,
                drafts[0].parents_clock,
                self._remote(moved),
                drafts[0].local,
            )
            drafts.append(self._deletion(moved, old))
        self._committer.add(drafts)

    def deletions(self) -> None:
        """What is gone from disk and was not moved."""
        settled = []
        for path, base in sorted(self._gone.items(), reverse=True):
            if self._context.state.history.head(self._namespace, self._remote(path)).absent:
                settled.append(path)
                continue
            self._committer.add([self._deletion(path, base)])
            self._part()
        self._gone.clear()
        self._context.state.roots.forget_base(self._root, settled)

    def _deletion(self, path: RelPath, base: BaseEntry) -> Draft:
        return _draft_of(
            "delete",
            base,
            SyncManifest(
                rel_path=self._remote(path),
                kind="tombstone",
                vclock=VectorClock(),
                parents=base.ids,
                written_by="",
                written_at=0,
            ),
            (path, None),
        )

    def refresh(self) -> None:
        """Record stats of what turned out to be unchanged."""
        if self._refreshed:
            make_durable(self._context, self._root, [path for path, _ in self._refreshed])
            self._context.state.roots.refresh_base(self._root, self._refreshed)
            self._refreshed.clear()

    def _part(self) -> None:
        self._committer.advance()
        if len(self._refreshed) >= REFRESHED:
            self.refresh()

    def _look_again(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        found = []
        for c in candidates:
            try:
                stat = self._context.host.files.lstat(self._local(c.path))
            except FileNotFoundError:
                # It vanished: the next scan says what that means.
                continue
            except OSError as error:
                self._problem(c.path, error)
                continue
            if stat.kind == "file":
                entry = LocalEntry(
                    "file", stat.size, stat.mode, stat.mtime_ns, stat.ctime_ns, stat.inode
                )
                found.append(Candidate(c.path, c.change, entry, c.base))
        return found

    def _problem(self, path: RelPath, error: OSError) -> None:
        self._pushed.problems.append(
            Problem(
                show(self._remote(path)),
                LocalFileError.code,
                f"cannot be read: {error.strerror or error}",
                "Mend its rights or exclude it; everything else was handled.",
            )
        )

    def _remote(self, path: RelPath) -> RelPath:
        return join(self._root.remote, path)

    def _local(self, path: RelPath) -> bytes:
        return self._root.local + b"/" + path if path else self._root.local


def _draft_of(
    op: str,
    base: BaseEntry | None,
    manifest: SyncManifest,
    local: tuple[RelPath, LocalEntry | None],
) -> Draft:
    return Draft(
        op,  # type: ignore[arg-type]
        manifest,
        base.clock if base else VectorClock(),
        local=local,
    )


def _with_stat(base: BaseEntry, entry: LocalEntry) -> BaseEntry:
    return BaseEntry(
        base.ids,
        base.clock,
        base.kind,
        entry.size,
        base.mode,
        entry.mtime_ns,
        entry.ctime_ns,
        entry.inode,
        base.file_hash,
        base.target,
        base.size_class,
    )
