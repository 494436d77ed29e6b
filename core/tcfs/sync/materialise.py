"""Putting what the fleet says on disk: removals, then directories, files and links, attributes.

Every step is recorded when it is durable, so that a run that is cut off goes on where it was; see
``placement`` for how files are placed and ``leftovers`` for what a crash leaves.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from tcfs.errors import LocalFileError
from tcfs.host.base import Stat
from tcfs.model.clock import merge
from tcfs.model.ids import RelPath
from tcfs.model.paths import parents, show
from tcfs.model.plan import BaseEntry
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.leftovers import hash_file
from tcfs.sync.placement import Placer, edit_is_kept
from tcfs.sync.results import Problem
from tcfs.sync.spelling import hand_over
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
        LocalFileError: the disk is full, or failed.
        StoreError: the store failed in a way that concerns everything.
        CancelledError: the caller asked to stop; what was done is recorded.
    """
    bench = Workbench(context, root)
    run = _Run(bench, keep_displaced=keep_displaced)
    try:
        kept = run.remove([w for w in wanted if w.version is None or w.replaces_kind])
        creations = [w for w in wanted if w.version is not None and w.path not in bench.failed]
        hand_over(bench, kept, creations)
        creations += _implied(bench, creations)
        run.create(sorted(creations, key=lambda w: w.path))
    except OSError as error:
        raise LocalFileError(
            f"cannot go on in {show(root.local)}: {error.strerror or error}",
            remedy="Mend the disk or its rights, then run the command again: it goes on from here.",
        ) from error
    finally:
        bench.close()
    return Materialised(run.placed, run.bytes_received, bench.problems, bench.failed)


def _implied(bench: Workbench, creations: list[Wanted]) -> list[Wanted]:
    """Directories of the fleet that are to hold these, and are not on this disk.

    They were deleted here, or lie above the part that is pulled.
    """
    known = {w.path for w in creations}
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


class _Run:
    def __init__(self, bench: Workbench, *, keep_displaced: bool) -> None:
        self._bench = bench
        self._files = bench.files
        self._roots = bench.context.state.roots
        self._keep_displaced = keep_displaced
        self.placed = 0
        self.bytes_received = 0

    # Removals

    def remove(self, removals: list[Wanted]) -> list[RelPath]:
        """Remove, deepest first. Returns directories that stay, for what is not synced in them."""
        if not removals:
            return []
        bench = self._bench
        removals.sort(key=lambda w: w.path, reverse=True)
        intended = self._roots.intend(bench.root, [w.removal() for w in removals])
        gone: list[RelPath] = []
        replaced: list[RelPath] = []
        kept: list[tuple[RelPath, BaseEntry]] = []
        inhabited: set[RelPath] = set()
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
        return [path for path, _ in kept]

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

    def create(self, creations: list[Wanted]) -> None:
        """Directories, files, links, attributes; in path order."""
        bench = self._bench
        directories = [w for w in creations if w.kind == "dir"]
        new = {w.path for w in directories if w.found is None or w.replaces_kind}
        made = set(new)
        placer = Placer(bench, new, keep_displaced=self._keep_displaced)
        # From now on they appear, and are not finished before the end.
        intended = bench.intend(directories)
        self._set_attributes([w for w in creations if w.attributes_only and w.kind != "dir"])
        try:
            placer.place([w for w in creations if w.kind != "dir" and not w.attributes_only])
        finally:
            self.placed = placer.placed
            self.bytes_received = placer.bytes_received
        self._empty_directories(placer, directories, new)
        bench.lock_again()
        self._finish_directories(directories, made, intended)

    def _empty_directories(
        self, placer: Placer, directories: list[Wanted], new: set[RelPath]
    ) -> None:
        """New directories that no file was placed in."""
        for w in directories:
            if w.path not in new:
                continue
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

    def _finish_directories(
        self, directories: list[Wanted], made: set[RelPath], intended: int | None
    ) -> None:
        """Modes and times of directories, deepest first, when all is in them."""
        bases = []
        for w in reversed(directories):
            if w.path in self._bench.failed:
                continue
            manifest = w.wanted_version.manifest
            local = self._bench.local(w.path)
            mtime = manifest.mtime_ns if w.path in made else None
            try:
                self._files.set_attributes(local, mode=manifest.mode, mtime_ns=mtime)
                stat = self._files.lstat(local)
            except OSError as error:
                self._bench.problem(w.path, f"its rights cannot be set: {error.strerror or error}")
                continue
            bases.append((w.path, w.base(stat)))
        if directories:
            self._bench.barrier()
            # One that was not finished stays intended: as it is, it is nobody's wish.
            failed = [w for w in directories if w.path in self._bench.failed]
            finished = [w for w in directories if w.path not in self._bench.failed]
            self._bench.done(intended, bases, finished, left=failed)

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
