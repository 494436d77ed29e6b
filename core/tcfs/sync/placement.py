"""Putting files and links on disk in batches, durably, and never over bytes that are not safe.

A batch goes: new files under temporary names (``staging``); a barrier; intents into the state;
renames that clobber nothing (a file that is replaced is swapped out, and looked at before it is let
go); a barrier; base rows. Files of a directory that is new are written inside it while it still has
a temporary name: then one rename places them all.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from tcfs.errors import LocalFileError
from tcfs.host.base import Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import parents, show
from tcfs.model.plan import BaseEntry
from tcfs.sync.scan import look
from tcfs.sync.staging import Expected, Staged, Stager, Unit, Written
from tcfs.sync.wanted import Wanted, same_inode, unchanged
from tcfs.sync.workbench import Workbench

if TYPE_CHECKING:
    from concurrent.futures import Future

BATCH_FILES: Final = 10_000
BATCH_BYTES: Final = 128 << 20
"""Files and bytes that share two barriers."""
_NO_SWAP: Final = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


@dataclass(slots=True)
class _Batch:
    """Units that are placed together."""

    units: list[Unit] = field(default_factory=list)
    files: int = 0
    size: int = 0

    def add(self, unit: Unit) -> None:
        self.units.append(unit)
        self.files += len(unit.wanted)
        self.size += unit.size

    @property
    def full(self) -> bool:
        return self.files >= BATCH_FILES or self.size >= BATCH_BYTES


class Placer:
    """Places files and links. ``new_directories`` are wanted, and not on disk yet.

    ``keep_displaced`` leaves what is replaced beside it, as a conflict copy.
    """

    def __init__(
        self, bench: Workbench, new_directories: set[RelPath], *, keep_displaced: bool = False
    ) -> None:
        self._bench = bench
        self._files = bench.files
        self._new = new_directories
        self._keep_displaced = keep_displaced
        self._there: set[RelPath] = set()
        self._intended: int | None = None
        self._stager = Stager(bench, new_directories)
        self.placed = 0

    @property
    def bytes_received(self) -> int:
        """Bytes read from the store."""
        return self._stager.bytes_received

    def place(
        self,
        slices: Iterable[list[Wanted]],
        expected: Expected,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        """Place all of these, or say in the workbench's problems which could not be.

        Args:
            expected: about how many there are.
            settled: called when more is placed.

        Raises:
            LocalFileError: the disk is full, or an edit could not be put back.
            StoreError: the store failed.
        """
        bench = self._bench
        total, done = expected.size, 0
        batch = _Batch()
        # Written, and becoming durable while the workers write the next.
        before: tuple[_Batch, Future[None]] | None = None
        try:
            bench.context.report("pull", 0, total, "bytes")
            for unit in self._stager.write(slices, expected, BATCH_FILES, BATCH_BYTES):
                batch.add(unit)
                done += unit.size
                if before is not None and (batch.full or before[1].done()):
                    self._place_batch(*before)
                    before = None
                    settled()
                if batch.full:
                    before, batch = (batch, bench.begin_barrier()), _Batch()
                bench.context.report("pull", done, max(done, total), "bytes")
            if before is not None:
                self._place_batch(*before)
            if batch.units:
                bench.barrier()
                self._place_batch(batch)
        finally:
            self._stager.close()
            bench.clear()

    def settled_slices(self) -> int:
        """How many slices are done that were not when this was last asked, but for large files."""
        return self._stager.settled_slices()

    def forget_directories(self) -> None:
        """Let go of which directories are there."""
        self._there.clear()

    def _place_batch(self, batch: _Batch, durable: Future[None] | None = None) -> None:
        """Give the files of a batch their names, once they are durable."""
        if durable is not None:
            durable.result()
        bench, units = self._bench, batch.units
        if not batch.files:
            return  # pieces of a file that is not whole yet, durable before the rest of it
        for unit in units:
            self._stager.placing(unit)
        staged = [stage for unit in units for stage in unit.staged]
        single = [written for unit in units for written in unit.single]
        ready = [written for stage in staged for written in stage.files] + single
        intended = self._intended = bench.intend([x.wanted for x in ready])
        placed: list[Written] = []
        for stage in staged:
            placed += self._place_directory(stage)
        placed += [self._restat(x) for x in single if self._place_file(x)]
        bench.barrier()
        bases: list[tuple[RelPath, BaseEntry]] = [
            (x.wanted.path, x.wanted.base(x.stat)) for x in placed
        ]
        bench.done(intended, bases, [x.wanted for x in ready])
        self.placed += len(placed)
        for unit in units:
            self._stager.placed(unit)
        bench.clear()

    # Placing

    def _place_directory(self, stage: Staged) -> list[Written]:
        """A new directory with its files, by one rename; file by file if it is there meanwhile."""
        self._new.discard(stage.path)
        try:
            self.make_parents(stage.path)
            target = self._bench.local(stage.path)
            self._bench.attempt(stage.path, lambda: self._files.rename_new(stage.temp, target))
        except FileExistsError:
            return [self._restat(x) for x in stage.files if self._place_file(x)]
        except OSError as error:
            for x in stage.files:
                self._bench.problem(x.wanted.path, f"cannot be placed: {error.strerror or error}")
            return []
        self._bench.keep(stage.temp)
        self._there.add(stage.path)
        for x in stage.files:
            self._bench.keep(x.temp)
        return stage.files

    def _place_file(self, x: Written) -> bool:
        """Give a finished file its name, if what is there is what was decided on."""
        w, local = x.wanted, self._bench.local(x.wanted.path)
        try:
            self.make_parents(w.path)
            if w.found is None or w.found.kind == "dir":
                self._bench.attempt(w.path, lambda: self._files.rename_new(x.temp, local))
                self._bench.keep(x.temp)
                return True
            if unchanged(self._files.lstat(local), w.found):
                return self._swap(x, local)
            self._bench.problem(w.path, "changed meanwhile; it was left alone")
        except FileExistsError:
            self._bench.problem(w.path, "appeared meanwhile; it was left alone")
        except OSError as error:
            self._bench.problem(w.path, f"cannot be replaced: {error.strerror or error}")
        return False

    def _swap(self, x: Written, local: bytes) -> bool:
        """Replace a file by a finished one, unless it changed in the last moment.

        Raises:
            LocalFileError: the file that was swapped out cannot be put back. It is under its
                temporary name, where the next run finds and keeps it.
        """
        w, temp = x.wanted, self._bench.displaced_name(self._intended, x.wanted.path)
        assert w.found is not None
        # From here on this temporary name may hold the only copy of an edit: it is among those
        # that are looked at after a crash, which what a unit wrote is not.
        self._files.rename(x.temp, temp)
        try:
            self._bench.attempt(w.path, lambda: self._files.exchange(temp, local))
            displaced, back = temp, partial(self._files.exchange, temp, local)
        except FileNotFoundError:
            self._files.rename_new(temp, local)
            return True
        except OSError as error:
            if error.errno not in _NO_SWAP:
                if self._is_ours(x, temp):
                    self._bench.dispose_later(temp)
                    raise
                raise LocalFileError(
                    f"{show(local)} was replaced, and the system said it was not: "
                    f"{error.strerror or error}",
                    remedy="Check the disk, then run the command again.",
                ) from error
            displaced = self._bench.spare_name(temp)
            self._bench.attempt(w.path, lambda: self._files.rename(local, displaced))
            back = partial(self._files.rename_new, displaced, local)
        try:
            if same_inode(self._files.lstat(displaced), w.found):
                if displaced != temp:
                    self._files.rename_new(temp, local)
                self._let_go(w, displaced)
                return True
            try:
                back()
            except OSError:
                self._bench.rescue(displaced, w.path)
                self._bench.dispose_later(temp)
                return False
            # Ours had the name for a moment: an edit may have gone there.
            if displaced == temp and not self._is_as_written(x, temp):
                self._bench.rescue(temp, w.path)
                return False
        except OSError as error:
            raise edit_is_kept(local, displaced, error) from error
        self._bench.dispose_later(temp)
        self._bench.problem(w.path, "changed meanwhile; it was left alone")
        return False

    def _is_as_written(self, x: Written, temp: bytes) -> bool:
        """Whether what has the temporary name now is what we wrote, and nobody edited."""
        stat, ours = self._files.lstat(temp), x.stat
        return ours is not None and (stat.inode, stat.size, stat.mtime_ns) == (
            ours.inode,
            ours.size,
            ours.mtime_ns,
        )

    def _is_ours(self, x: Written, temp: bytes) -> bool:
        """Whether what we wrote still has its temporary name."""
        try:
            return x.stat is not None and self._files.lstat(temp).inode == x.stat.inode
        except OSError:
            return False

    def _let_go(self, w: Wanted, displaced: bytes) -> None:
        """What was replaced: its bytes are in the store, unless it is to be kept."""
        if not self._keep_displaced:
            self._bench.dispose_later(displaced)
            return
        kept = self._bench.local(self._bench.copy_name(w.path))
        self._bench.attempt(w.path, lambda: self._files.rename_new(displaced, kept))

    def _restat(self, x: Written) -> Written:
        """With the stat that the file has under its own name: a rename changes its ctime."""
        manifest = x.wanted.wanted_version.manifest
        try:
            stat: Stat | None = look(
                self._files, self._bench.root.local, x.wanted.path, self._there
            )
        except FileNotFoundError:
            stat = None
        # A stat that is not what we wrote belongs to a later edit: the next scan looks at it.
        ours = (
            stat is not None
            and stat.kind == manifest.kind
            and (
                manifest.kind == "symlink"
                or (stat.size == manifest.file_size and stat.mtime_ns == manifest.mtime_ns)
            )
            and (x.stat is None or stat.inode == x.stat.inode)
        )
        return Written(x.wanted, x.temp, stat if ours else None)

    def make_parents(self, path: RelPath) -> None:
        """Make the directories above a path that are not there.

        Raises:
            OSError: ENOTDIR if a file is in the way of one.
        """
        for directory in parents(path):
            if directory in self._there:
                continue
            local = self._bench.local(directory)
            try:
                mode = 0o700 if directory in self._new else 0o777
                self._bench.attempt(directory, partial(self._files.mkdir, local, mode))
                if directory not in self._new:
                    self._bench.directory_made(directory)
                self._new.discard(directory)
            except FileExistsError:
                if self._files.lstat(local).kind != "dir":
                    raise OSError(errno.ENOTDIR, "a file is in the way of its directory") from None
            self._there.add(directory)


def edit_is_kept(local: bytes, temp: bytes, error: OSError) -> LocalFileError:
    """The error for an edit that is under a temporary name, where the next run finds it."""
    return LocalFileError(
        f"{show(local)} was edited while it was replaced, and its bytes are in {show(temp)}: "
        f"{error.strerror or error}",
        remedy="Run the command again: it puts them beside the file.",
    )
