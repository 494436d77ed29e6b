"""The steps of a push: content stored, events drafted and committed, stats recorded."""

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
from tcfs.model.ids import RelPath
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import join, parents, show
from tcfs.model.plan import BaseEntry, LocalChange, LocalEntry, MoveMatcher
from tcfs.state.roots import Root
from tcfs.sync.candidates import SLICE, Candidate, Candidates
from tcfs.sync.commit import Committer, Draft, base_entry
from tcfs.sync.context import Context
from tcfs.sync.durable import make_durable
from tcfs.sync.results import Problem
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


class Sending:
    """The steps of a push, to be taken in the order in which ``Push.run`` does."""

    def __init__(
        self,
        context: Context,
        root: Root,
        candidates: Candidates,
        committer: Committer,
        upload: Upload,
        pushed: Pushed,
    ) -> None:
        self._context = context
        self._root = root
        self._namespace = root.namespace
        self._committer = committer
        self._upload = upload
        self._pushed = pushed
        self._refreshed: list[tuple[RelPath, BaseEntry]] = []
        self._gone = {c.path: c.base for c in candidates.gone() if c.base is not None}
        self._moves = MoveMatcher(self._gone)
        # A file or link in place of a directory comes after what was in that: the fleet may see a
        # part of a push, and would take them for a conflict.
        emptied = {directory for path in self._gone for directory in parents(path)}
        self._first, self._last = candidates.divided(emptied)
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
