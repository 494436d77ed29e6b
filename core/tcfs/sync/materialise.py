"""Putting what the fleet says on disk: removals, then directories, files and links, attributes.

What is created comes in slices, in the order of paths, and the next is drawn while workers write
the one before. A directory is finished when all slices are done that reach into it.
Every step is recorded when it is durable, so that a run that is cut off goes on where it was; see
``placement`` for how files are placed and ``leftovers`` for what a crash leaves.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from tcfs.errors import LocalFileError
from tcfs.host.base import Stat
from tcfs.model.clock import merge
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, parents, show
from tcfs.model.plan import BaseEntry
from tcfs.state.columns import below
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.leftovers import hash_file
from tcfs.sync.placement import Placer, edit_is_kept
from tcfs.sync.results import Problem
from tcfs.sync.spelling import hand_over
from tcfs.sync.staging import Expected, comes_last, expected_of
from tcfs.sync.wanted import Wanted, same_inode, unchanged
from tcfs.sync.workbench import Workbench


@dataclass(slots=True)
class Materialised:
    """What became of it."""

    files: int = 0
    bytes_received: int = 0
    problems: list[Problem] = field(default_factory=list)
    failed: set[RelPath] = field(default_factory=set)


def materialise(
    context: Context, root: Root, wanted: list[Wanted], *, keep_displaced: bool = False
) -> Materialised:
    """Put all of these on disk, or say which could not be.

    Args:
        keep_displaced: leave what is replaced beside it, as a conflict copy.

    Raises:
        LocalFileError, StoreError, CancelledError: as ``materialising`` says.
    """
    expected = expected_of(wanted)
    with materialising(context, root, expected, keep_displaced=keep_displaced) as work:
        work.remove([w for w in wanted if w.leaves])
        work.create([[w for w in wanted if w.version is not None]])
    return Materialised(work.placed, work.bytes_received, work.problems, work.failed)


@contextmanager
def materialising(
    context: Context, root: Root, expected: Expected, *, keep_displaced: bool = False
) -> Iterator[Materialiser]:
    """What puts things on disk, until the context ends.

    Args:
        expected: about how much there will be.
        keep_displaced: leave what is replaced beside it, as a conflict copy.

    Raises:
        LocalFileError: the disk is full, or failed.
        StoreError: the store failed in a way that concerns everything.
        CancelledError: the caller asked to stop; what was done is recorded.
    """
    bench = Workbench(context, root)
    try:
        yield Materialiser(bench, expected, keep_displaced=keep_displaced)
    except OSError as error:
        raise LocalFileError(
            f"cannot go on in {show(root.local)}: {error.strerror or error}",
            remedy="Mend the disk or its rights, then run the command again: it goes on from here.",
        ) from error
    finally:
        bench.close()


def _implied(bench: Workbench, creations: list[Wanted], begun: Iterable[RelPath]) -> list[Wanted]:
    """Directories of the fleet that are to hold these, and are not on this disk.

    They were deleted here, or lie above the part that is pulled.

    Args:
        begun: directories that are known to be wanted.
    """
    known = {w.path for w in creations}.union(begun)
    found = []
    for directory in (directory for w in creations for directory in parents(w.path)):
        if directory in known:
            continue
        known.add(directory)
        try:
            if bench.lstat(directory) is not None:
                continue
        except OSError:
            continue  # Making it will say what is wrong.
        head = bench.head(directory)
        group = next((g for g in head.groups if g[0].manifest.kind == "dir"), None)
        if group is None:
            continue
        ids, clock = head.ids, head.clock
        if head.conflicted:
            ids = tuple(version.id for version in group)
            clock = merge(version.manifest.vclock for version in group)
        found.append(Wanted(directory, ids, clock, group[0], None, standing=head.conflicted))
    return found


@dataclass(slots=True)
class _Directory:
    """A directory that is not finished: ``made`` if this run makes it."""

    wanted: Wanted
    made: bool


class Materialiser:
    """Puts things on disk in a root: first ``remove``, as often as need be, then ``create``."""

    def __init__(self, bench: Workbench, expected: Expected, *, keep_displaced: bool) -> None:
        self._bench = bench
        self._files = bench.files
        self._roots = bench.context.state.roots
        self._expected = expected
        self._keep_displaced = keep_displaced
        # Directories that are gone as far as the fleet goes, and hold what is not synced.
        self._kept: list[RelPath] = []
        # Those in which something is that could not be removed.
        self._inhabited: set[RelPath] = set()
        # Not finished, in order; and what is intended of them, those that failed included.
        self._open: dict[RelPath, _Directory] = {}
        self._failed: list[Wanted] = []
        self._intended: int | None = None
        # Above files that come last.
        self._held: set[RelPath] = set()
        self.placed = 0
        self.bytes_received = 0

    @property
    def problems(self) -> list[Problem]:
        """What could not be done."""
        return self._bench.problems

    @property
    def failed(self) -> set[RelPath]:
        """Paths that could not be handled."""
        return self._bench.failed

    def problem(self, path: RelPath, message: str, remedy: str) -> None:
        """A path that cannot be handled."""
        self._bench.problem(path, message, remedy)

    def has_tried(self, path: RelPath) -> bool:
        """Whether something was to be removed here, and could not be."""
        return path in self._bench.failed or path in self._inhabited

    def left_alone(self, path: RelPath) -> None:
        """What is at a path is in the way by now, and was not before."""
        self._bench.problem(path, "changed meanwhile; it was left alone")

    # Removals

    def remove(self, removals: list[Wanted]) -> None:
        """Remove, deepest first. Of several calls, deeper paths come with the earlier ones."""
        if not removals:
            return
        bench = self._bench
        removals.sort(key=lambda w: w.path, reverse=True)
        intended = self._roots.intend(bench.root, [w.removal() for w in removals])
        gone: list[RelPath] = []
        replaced: list[RelPath] = []
        kept: list[tuple[RelPath, BaseEntry]] = []
        inhabited = self._inhabited
        for w in removals:
            removed = self._remove_one(w, intended)
            if removed is None:
                inhabited.update(parents(w.path))
                continue
            base = self._roots.base_of(bench.root, w.path)
            if w.version is not None:
                replaced.append(w.path)
            elif removed or base is None:
                gone.append(w.path)
            elif w.path in inhabited:
                continue  # what should have gone first is still in it
            else:
                # As far as the fleet goes this directory is no more; what lives in it may not be
                # synced. Remembering that keeps the next push from bringing it back then.
                kept.append((w.path, replace(base, ids=w.ids, clock=w.clock, ctime_ns=0)))
        gone += self._emptied(gone)
        bench.barrier()
        with bench.context.state.transaction():
            self._roots.drop_base(bench.root, gone + replaced)
            # What is to stand there instead is pulled later, if not now.
            self._roots.wait(bench.root, replaced)
            self._roots.set_base(bench.root, kept)
            self._roots.settle_intents(intended)
        bench.clear()
        self._kept += [path for path, _ in kept]

    def _emptied(self, gone: list[RelPath]) -> list[RelPath]:
        """Remove directories above that stood on this disk alone, for what was in them."""
        found = []
        above = {directory for path in gone for directory in parents(path)}
        for directory in sorted(above, reverse=True):
            base = self._roots.base_of(self._bench.root, directory)
            if base is None or not base.on_this_disk_alone:
                continue
            if not self._bench.head(directory).absent:
                continue
            try:
                self._files.rmdir(self._bench.local(directory))
            except OSError:
                continue  # It is not empty, or not a directory any more: it stays.
            found.append(directory)
        return found

    def _remove_one(self, w: Wanted, intended: int) -> bool | None:
        """Whether the path is gone now; None if that is a problem."""
        if w.found is None:
            return True
        try:
            if w.found.kind == "dir":
                return self._remove_directory(w)
            return self._remove_file(w, intended)
        except FileNotFoundError:
            return True
        except OSError as error:
            self._bench.problem(w.path, f"cannot be removed: {error.strerror or error}")
            return None

    def _remove_directory(self, w: Wanted) -> bool | None:
        try:
            local = self._bench.local(w.path)
            self._bench.attempt(w.path, lambda: self._files.rmdir(local))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if w.version is None:
                return False
            self._bench.problem(
                w.path,
                "is a directory that holds files which are not synced, and a file is to be there",
                "Move them elsewhere, then run the command again.",
            )
            return None
        return True

    def _remove_file(self, w: Wanted, intended: int) -> bool | None:
        """By way of a temporary name: it is looked at once more where nobody else has it."""
        bench, local = self._bench, self._bench.local(w.path)
        assert w.found is not None
        if unchanged(self._files.lstat(local), w.found):
            displaced = bench.displaced_name(intended, w.path)
            bench.attempt(w.path, lambda: self._files.rename(local, displaced))
            if same_inode(self._files.lstat(displaced), w.found):
                bench.dispose_later(displaced)
                return True
            try:
                self._put_back(w, displaced, local)
            except OSError as error:
                raise edit_is_kept(local, displaced, error) from error
        if w.path not in bench.failed:
            bench.problem(w.path, "changed meanwhile; nothing was removed")
        return None

    def _put_back(self, w: Wanted, displaced: bytes, local: bytes) -> None:
        """What was edited in the last moment, to its name or, if that is taken, beside it."""
        try:
            self._files.rename_new(displaced, local)
        except FileExistsError:
            self._bench.rescue(displaced, w.path)

    # Creations

    def create(self, slices: Iterable[list[Wanted]]) -> None:
        """Directories, files, links, attributes; in path order.

        Args:
            slices: asked for as room is made for them. Every path of one is before every path of
                the next.
        """
        bench = self._bench
        new: set[RelPath] = set()
        placer = Placer(bench, new, keep_displaced=self._keep_displaced)
        # Where slices begin that are not done, the one that is about to come not counted.
        starts: deque[bytes] = deque()

        def files() -> Iterator[list[Wanted]]:
            for creations in slices:
                starts.append(min((w.path for w in creations), default=b""))
                yield self._begin(creations, new)

        def finish() -> None:
            done = placer.settled_slices()
            if done:
                for _ in range(done):
                    starts.popleft()
                self._finish(placer, new, starts[0] if starts else None)

        try:
            placer.place(files(), self._expected, finish)
        finally:
            self.placed += placer.placed
            self.bytes_received += placer.bytes_received
        self._held.clear()
        self._finish(placer, new, None)
        bench.lock_again()

    def _begin(self, creations: list[Wanted], new: set[RelPath]) -> list[Wanted]:
        """Begin with a slice: directories are intended, attributes set; its files and links."""
        bench = self._bench
        creations = [w for w in creations if w.path not in bench.failed]
        hand_over(bench, self._kept, creations)
        creations = sorted(creations + _implied(bench, creations, self._open), key=lambda w: w.path)
        directories = [w for w in creations if w.kind == "dir"]
        for w in directories:
            made = w.found is None or w.replaces_kind
            self._open[w.path] = _Directory(w, made)
            if made:
                new.add(w.path)
        if directories:
            # From now on they appear, and are not finished before what is in them is there.
            before = self._intended
            unfinished = [d.wanted for d in self._open.values()] + self._failed
            self._intended = bench.intend(unfinished)
            if before is not None:
                self._roots.settle_intents(before)
        others = [w for w in creations if w.kind != "dir"]
        self._set_attributes([w for w in others if w.attributes_only])
        placed = [w for w in others if not w.attributes_only]
        for w in placed:
            if comes_last(w):
                self._held.update((ROOT, *parents(w.path)))
        return placed

    def _finish(self, placer: Placer, new: set[RelPath], end: bytes | None) -> None:
        """Finish directories that hold nothing from a path on, in the order of paths."""
        done = [
            d
            for d in self._open.values()
            if (end is None or below(d.wanted.path)[1] <= end) and d.wanted.path not in self._held
        ]
        if not done:
            return
        self._empty_directories(placer, [d.wanted for d in done if d.wanted.path in new])
        # Or the rights that they had would be given back to them.
        self._bench.lock_again()
        self._finish_directories(done)
        new.difference_update([d.wanted.path for d in done])
        placer.forget_directories()

    def _empty_directories(self, placer: Placer, directories: list[Wanted]) -> None:
        """New directories that no file was placed in."""
        for w in directories:
            try:
                placer.make_parents(w.path)
                local = self._bench.local(w.path)
                self._bench.attempt(w.path, partial(self._files.mkdir, local, 0o700))
            except FileExistsError:
                stat = self._bench.lstat(w.path)
                if stat is None or stat.kind != "dir":
                    self._bench.problem(w.path, "a file is in the way of a directory")
            except OSError as error:
                self._bench.problem(w.path, f"cannot be made: {error.strerror or error}")

    def _finish_directories(self, done: list[_Directory]) -> None:
        """Modes and times of directories, deepest first, when all is in them."""
        bases, finished = [], []
        for d in reversed(done):
            w = d.wanted
            del self._open[w.path]
            if w.path in self._bench.failed:
                # As it is, it is nobody's wish: it stays intended.
                self._failed.append(w)
                continue
            manifest = w.wanted_version.manifest
            local = self._bench.local(w.path)
            mtime = manifest.mtime_ns if d.made else None
            try:
                self._files.set_attributes(local, mode=manifest.mode, mtime_ns=mtime)
                stat = self._files.lstat(local)
            except OSError as error:
                self._bench.problem(w.path, f"its rights cannot be set: {error.strerror or error}")
                self._failed.append(w)
                continue
            finished.append(w)
            bases.append((w.path, w.base(stat)))
        self._bench.barrier()
        left = [d.wanted for d in self._open.values()] + self._failed
        self._bench.done(self._intended, bases, finished, left=left)
        if not left:
            self._intended = None

    def _set_attributes(self, wanted: list[Wanted]) -> None:
        if not wanted:
            return
        intended = self._bench.intend(wanted)
        bases = []
        for w in wanted:
            local = self._bench.local(w.path)
            manifest = w.wanted_version.manifest
            mode = manifest.mode if manifest.kind == "file" else None
            try:
                if w.found is not None and not unchanged(self._files.lstat(local), w.found):
                    self._bench.problem(w.path, "changed meanwhile; it was left alone")
                    continue
                self._files.set_attributes(local, mode=mode, mtime_ns=manifest.mtime_ns)
            except OSError as error:
                self._bench.problem(
                    w.path, f"its attributes cannot be set: {error.strerror or error}"
                )
                continue
            bases.append((w.path, w.base(self._stat_of_content(w, local))))
        self._bench.barrier()
        self._bench.done(intended, bases, wanted)

    def _stat_of_content(self, w: Wanted, local: bytes) -> Stat | None:
        """The stat under which a path still holds what it is to hold; None if that is not known.

        Its times are ours now, whoever wrote to it since it was looked at: only the bytes can tell.
        """
        manifest = w.wanted_version.manifest
        try:
            stat = self._files.lstat(local)
            if stat.kind != manifest.kind:
                return None
            if stat.kind == "symlink":
                same = self._files.readlink(local) == manifest.target
            else:
                same = hash_file(self._files, local) == manifest.file_hash
        except OSError:
            return None
        return stat if same else None
