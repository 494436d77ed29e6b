"""Putting files and links on disk in batches, durably, and never over bytes that are not safe.

A batch goes: new files under temporary names; a barrier; intents into the state; renames that
clobber nothing (a file that is replaced is swapped out, and looked at before it is let go); a
barrier; base rows. Files of a directory that is new are written inside it while it still has a
temporary name: then one rename places them all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec import Struct

from tcfs.errors import IntegrityError, LocalFileError, StoreError
from tcfs.host.base import Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import parents, show
from tcfs.model.plan import BaseEntry
from tcfs.sync.download import Download, Fetched, check_content, have
from tcfs.sync.scan import look
from tcfs.sync.wanted import Wanted, same_inode, unchanged
from tcfs.sync.workbench import Workbench

BATCH_FILES: Final = 4000
BATCH_BYTES: Final = 48 << 20
"""Plaintext of small files held in memory at a time."""
_NO_SWAP: Final = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


class Written(Struct, frozen=True, gc=False):
    """A finished file under its temporary name; ``stat`` holds once placed without a rename."""

    wanted: Wanted
    temp: bytes
    stat: Stat | None


@dataclass(slots=True)
class Staged:
    """A new directory under a temporary name, with files that are to appear with it."""

    path: RelPath
    temp: bytes
    files: list[Written]


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
        self._download = Download(bench.context, bench.root.namespace)
        self.placed = 0

    @property
    def bytes_received(self) -> int:
        """Bytes read from the store."""
        return self._download.bytes_received

    def place(self, wanted: list[Wanted]) -> None:
        """Place all of these, or say in the workbench's problems which could not be.

        Raises:
            LocalFileError: the disk is full, or an edit could not be put back.
            StoreError: the store failed.
        """
        total, done = sum(w.size for w in wanted), 0
        for batch in _batches(wanted):
            self._bench.context.report("pull", done, total, "bytes")
            try:
                self._batch(batch)
            finally:
                self._bench.clear()
            done += sum(w.size for w in batch)
        self._bench.context.report("pull", done, total, "bytes")

    def _batch(self, batch: list[Wanted]) -> None:
        bench = self._bench
        staged, single = self._write(batch)
        bench.barrier()
        ready = [written for stage in staged for written in stage.files] + single
        bench.intend([x.wanted for x in ready])
        placed: list[Written] = []
        for stage in staged:
            placed += self._place_directory(stage)
        placed += [self._restat(x) for x in single if self._place_file(x)]
        bench.barrier()
        bases: list[tuple[RelPath, BaseEntry]] = [
            (x.wanted.path, x.wanted.base(x.stat)) for x in placed
        ]
        bench.done(bases, [x.wanted for x in ready])
        self.placed += len(placed)

    # Writing

    def _write(self, batch: list[Wanted]) -> tuple[list[Staged], list[Written]]:
        """Content under temporary names; what cannot be had is a problem, the rest goes on."""
        fetched = self._download.fetch(
            chunk
            for w in batch
            if w.kind == "file" and w.size <= BATCH_BYTES
            for chunk in w.wanted_version.manifest.chunks
        )
        staged: dict[RelPath, Staged] = {}
        single: list[Written] = []
        for w in batch:
            directory, _, name = w.path.rpartition(b"/")
            try:
                stage = self._stage(RelPath(directory), staged)
                temp = stage.temp + b"/" + name if stage else self._bench.temp_name()
                self._bench.dispose_later(temp)
                written = Written(w, temp, self._write_one(w, temp, fetched))
            except (IntegrityError, StoreError) as error:
                if error.retryable:
                    raise
                self._bench.failure(w.path, error)
            except OSError as error:
                self._bench.problem(w.path, f"cannot be written: {error.strerror or error}")
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise LocalFileError(
                        f"no space left for {show(self._bench.root.local)}",
                        remedy="Make room, then run the command again: it goes on from here.",
                    ) from error
            else:
                (stage.files if stage else single).append(written)
        return list(staged.values()), single

    def _stage(self, directory: RelPath, staged: dict[RelPath, Staged]) -> Staged | None:
        """The staged directory for a path, if its directory is new. Raises OSError."""
        if directory not in self._new:
            return None
        stage = staged.get(directory)
        if stage is None:
            temp = self._bench.temp_name()
            self._files.mkdir(temp, 0o700)
            self._bench.dispose_later(temp)
            stage = staged[directory] = Staged(directory, temp, [])
        return stage

    def _write_one(self, w: Wanted, temp: bytes, fetched: Fetched) -> Stat:
        version = w.wanted_version
        manifest = version.manifest
        if manifest.kind == "symlink":
            return self._files.symlink(manifest.target, temp, manifest.mtime_ns)
        if w.size > BATCH_BYTES:
            return self._files.write_new(
                temp, self._download.stream(version), manifest.mode, manifest.mtime_ns
            )
        parts = [have(fetched, chunk) for chunk in manifest.chunks]
        check_content(version, parts)
        return self._files.write_new(temp, parts, manifest.mode, manifest.mtime_ns)

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
        w, temp = x.wanted, x.temp
        assert w.found is not None
        # From here on the temporary name may hold the only copy of an edit.
        self._bench.keep(temp)
        try:
            self._bench.attempt(w.path, lambda: self._files.exchange(temp, local))
            displaced, back = temp, partial(self._files.exchange, temp, local)
        except FileNotFoundError:
            self._files.rename_new(temp, local)
            return True
        except OSError as error:
            if error.errno not in _NO_SWAP:
                if self._is_ours(x):
                    self._bench.dispose_later(temp)
                    raise
                raise LocalFileError(
                    f"{show(local)} was replaced, and the system said it was not: "
                    f"{error.strerror or error}",
                    remedy="Check the disk, then run the command again.",
                ) from error
            displaced = self._bench.temp_name()
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
        except OSError as error:
            raise edit_is_kept(local, displaced, error) from error
        self._bench.dispose_later(temp)
        self._bench.problem(w.path, "changed meanwhile; it was left alone")
        return False

    def _is_ours(self, x: Written) -> bool:
        """Whether what we wrote still has its temporary name."""
        try:
            return x.stat is not None and self._files.lstat(x.temp).inode == x.stat.inode
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


def _batches(wanted: list[Wanted]) -> Iterator[list[Wanted]]:
    """Batches bounded in files and bytes, each directory's files one after the other."""
    batch: list[Wanted] = []
    size = 0
    for w in sorted(wanted, key=lambda w: w.path.rpartition(b"/")):
        if batch and (len(batch) >= BATCH_FILES or size + w.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(w)
        size += w.size
    if batch:
        yield batch
