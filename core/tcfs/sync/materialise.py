"""Putting remote versions on disk, durably, and never over bytes that are not safe.

A batch goes: new files under temporary names; a barrier; intents into the state; renames that
clobber nothing (a file that is replaced is swapped out, and looked at before it is let go); a
barrier; base rows. A crash in between leaves temporary files and intents, which ``recover`` tells
apart: a path that holds what was intended is remembered as pulled, any other is pulled again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from blake3 import blake3

from tcfs.errors import IntegrityError, LocalFileError, StoreError, TcfsError
from tcfs.host.base import Stat
from tcfs.model.clock import VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.paths import join, parents, show
from tcfs.model.plan import BaseEntry, LocalEntry
from tcfs.model.tree import Head
from tcfs.state.roots import Intent, Root
from tcfs.sync.commit import base_entry
from tcfs.sync.context import Context
from tcfs.sync.download import Download, check_content, have
from tcfs.sync.places import TEMP, make_directory
from tcfs.sync.results import Problem
from tcfs.sync.scan import look

BATCH_FILES: Final = 2000
BATCH_BYTES: Final = 48 << 20
"""Plaintext of small files held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a path is to hold.

    Attributes:
        path: relative to the root.
        ids, clock: the versions that the base will record, and their clocks' merge.
        version: what to put there; None to remove what is there.
        found: what the disk held when that was decided; None for nothing.
        standing: a conflict still stands there, for a later pull to settle.
    """

    path: RelPath
    ids: tuple[VersionId, ...]
    clock: VectorClock
    version: Version | None
    found: LocalEntry | None
    attributes_only: bool = False
    standing: bool = False

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.version.manifest.file_size if self.version else 0


@dataclass(slots=True)
class Materialised:
    """What became of a batch."""

    files: int = 0
    bytes_received: int = 0
    problems: list[Problem] = field(default_factory=list)


class Materialiser:
    """Puts versions on the disk of one root.

    ``keep_displaced`` leaves what is replaced beside it, as a conflict copy.
    """

    def __init__(self, context: Context, root: Root, *, keep_displaced: bool = False) -> None:
        self._context = context
        self._root = root
        self._files = context.host.files
        single = not root.marker and not root.inode
        top = os.path.dirname(root.local) if single else root.local
        self._top = top
        self._single = single
        self._temp = (
            top + b"/.tcfs-tmp-" + context.identity.device_id.encode()
            if single
            else root.local + b"/" + TEMP + b"-" + context.identity.device_id.encode()
        )
        self._serial = 0
        self._disposable: list[bytes] = []
        self._blocked: set[RelPath] = set()
        self._made: set[RelPath] = set()
        self._known_directories: set[RelPath] = set()
        self._download = Download(context, root.namespace)
        self.result = Materialised()

    # Recovery

    def recover(self) -> None:
        """Clean up after a run that was cut off. Call with the device's lock held.

        Raises:
            LocalFileError: what it left cannot be looked at.
        """
        roots = self._context.state.roots
        intents = roots.intents(self._root)
        try:
            leftovers = self._leftovers()
            done: list[tuple[RelPath, BaseEntry]] = []
            gone: list[RelPath] = []
            again: list[RelPath] = []
            for intent in intents:
                content = self._content(intent.path)
                if intent.entry is None:
                    (gone if content is None else again).append(intent.path)
                elif content == (intent.kind, intent.entry.file_hash, intent.entry.target):
                    done.append((intent.path, replace(intent.entry, ctime_ns=0)))
                else:
                    again.append(intent.path)
            if intents:
                self._keep_displaced(leftovers)
            # What a swap displaced is the old file: where neither is there, it was between names.
            lost = [p for p in again if self._lstat(p) is None]
            with self._context.state.transaction():
                # They stay to do: a conflict may stand there that this run would have remembered.
                roots.refresh_base(self._root, done)
                roots.drop_base(self._root, gone)
                roots.drop_base(self._root, lost)
                roots.take_up(self._root, again, self._root.pulled)
                roots.clear_intents(self._root)
            for name in leftovers:
                self._files.unlink(name)
        except OSError as error:
            raise LocalFileError(
                f"cannot clean up after an earlier pull in {show(self._root.local)}: "
                f"{error.strerror or error}"
            ) from error

    def _leftovers(self) -> list[bytes]:
        try:
            return [self._temp + b"/" + name for name, _ in self._files.scan(self._temp)]
        except FileNotFoundError:
            return []

    def _keep_displaced(self, leftovers: list[bytes]) -> None:
        """A leftover whose bytes the fleet does not know was edited at the last moment: keep it."""
        history = self._context.state.history
        for name in list(leftovers):
            stat = self._files.lstat(name)
            if stat.kind != "file":
                continue
            if history.knows_content(self._root.namespace, hash_file(self._context, name)):
                continue
            kept = self._top + b"/recovered.conflict-" + os.path.basename(name)
            self._files.rename_new(name, kept)
            leftovers.remove(name)
            self.result.problems.append(
                Problem(
                    show(kept),
                    LocalFileError.code,
                    "was being edited when an earlier pull was cut off, and was kept here",
                    "Look at it, then move it where it belongs.",
                )
            )

    def _content(self, path: RelPath) -> tuple[str, bytes, bytes] | None:
        stat = self._lstat(path)
        if stat is None:
            return None
        local = self._local(path)
        if stat.kind == "file":
            return ("file", hash_file(self._context, local), b"")
        if stat.kind == "symlink":
            return ("symlink", b"", self._files.readlink(local))
        return (stat.kind, b"", b"")

    # Batches

    def run(self, wanted: list[Wanted]) -> None:
        """Put all of these on disk, or say in ``result.problems`` which could not be.

        Removals come first, deepest first; then directories, files and links; attributes of
        directories last.

        Raises:
            StoreError: the store failed in a way that concerns everything.
            CancelledError: the caller asked to stop; what was done is recorded.
        """
        removals = [w for w in wanted if w.version is None or self._replaces_kind(w)]
        removals.sort(key=lambda w: w.path, reverse=True)
        self._remove(removals)
        creations = [w for w in wanted if w.version is not None and w.path not in self._blocked]
        creations.sort(key=lambda w: w.path)
        directories = [w for w in creations if _kind(w) == "dir"]
        self._make_directories(directories)
        self._set_attributes([w for w in creations if w.attributes_only and _kind(w) != "dir"])
        content = [w for w in creations if _kind(w) != "dir" and not w.attributes_only]
        total, done = sum(w.size for w in content), 0
        for batch in self._batches(content):
            self._context.report("pull", done, total, "bytes")
            self._create(batch)
            done += sum(w.size for w in batch)
        self._finish_directories(directories)
        self.result.bytes_received = self._download.bytes_received
        self._context.report("pull", done, total, "bytes")

    def _replaces_kind(self, w: Wanted) -> bool:
        if w.version is None or w.found is None:
            return False
        return (w.found.kind == "dir") != (w.version.manifest.kind == "dir")

    # Removals

    def _remove(self, removals: list[Wanted]) -> None:
        if not removals:
            return
        roots = self._context.state.roots
        roots.intend(self._root, [Intent(w.path, "tombstone", None) for w in removals])
        gone: list[RelPath] = []
        kept: list[tuple[RelPath, BaseEntry]] = []
        for w in removals:
            outcome = self._remove_one(w)
            if outcome is None:
                self._blocked.add(w.path)
            elif w.version is None and outcome:
                gone.append(w.path)
            elif w.version is None:
                base = roots.base_of(self._root, w.path)
                if base is not None:
                    # As far as the fleet goes this directory is no more; what lives in it may not
                    # be synced. Remembering that keeps the next push from bringing it back then.
                    kept.append((w.path, replace(base, ids=w.ids, clock=w.clock, ctime_ns=0)))
        gone += self._emptied(gone)
        self._barrier()
        with self._context.state.transaction():
            roots.drop_base(self._root, gone)
            roots.set_base(self._root, kept)
            roots.clear_intents(self._root)
        self._clear_temp()

    def _emptied(self, gone: list[RelPath]) -> list[RelPath]:
        """Remove directories above that stood on this disk alone, for what was in them."""
        found = []
        above = {directory for path in gone for directory in parents(path)}
        for directory in sorted(above, reverse=True):
            base = self._context.state.roots.base_of(self._root, directory)
            if base is None or not base.on_this_disk_alone or not self._head(directory).absent:
                continue
            try:
                self._files.rmdir(self._local(directory))
            except OSError:
                continue  # It is not empty, or not a directory any more: it stays.
            self._known_directories.discard(directory)
            found.append(directory)
        return found

    def _head(self, path: RelPath) -> Head:
        remote = join(self._root.remote, path)
        return self._context.state.history.head(self._root.namespace, remote)

    def _remove_one(self, w: Wanted) -> bool | None:
        """Remove one path. Returns whether it is gone; None if it could not be removed."""
        local = self._local(w.path)
        if w.found is None:
            return True
        try:
            if w.found.kind == "dir":
                try:
                    self._files.rmdir(local)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    if w.version is None:
                        return False
                    self._problem(w, "holds files that are not synced, and a file is to be there")
                    return None
                return True
            if not self._unchanged(local, w.found):
                self._problem(w, "changed meanwhile; nothing was removed")
                return None
            displaced = self._temp_name()
            self._files.rename(local, displaced)
            if not _same(self._files.lstat(displaced), w.found):
                self._files.rename_new(displaced, local)
                self._problem(w, "changed meanwhile; nothing was removed")
                return None
            self._disposable.append(displaced)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            self._problem(w, f"cannot be removed: {error.strerror or error}")
            return None

    # Directories

    def _make_directories(self, directories: list[Wanted]) -> None:
        for w in directories:
            try:
                self._parents(w.path)
                if w.path or self._lstat(w.path) is None:
                    self._files.mkdir(self._local(w.path), 0o700)
                self._made.add(w.path)
            except FileExistsError:
                stat = self._lstat(w.path)
                if stat is None or stat.kind != "dir":
                    self._problem(w, "a file is in the way of a directory")
                    continue
            except OSError as error:
                self._problem(w, f"cannot be made: {error.strerror or error}")

    def _finish_directories(self, directories: list[Wanted]) -> None:
        """Modes and times of directories, deepest first, when all is in them."""
        bases = []
        failed = {p.path for p in self.result.problems}
        for w in reversed(directories):
            assert w.version is not None
            shown = show(join(self._root.remote, w.path))
            if shown in failed:
                continue
            manifest = w.version.manifest
            new = w.path in self._made
            local = self._local(w.path)
            try:
                self._files.set_attributes(
                    local, mode=manifest.mode, mtime_ns=manifest.mtime_ns if new else None
                )
                stat = self._files.lstat(local)
            except OSError as error:
                self._problem(w, f"its rights cannot be set: {error.strerror or error}")
                continue
            bases.append((w.path, self._base(w, stat)))
        if bases:
            self._barrier()
            self._set_base(bases, done_for=directories)

    def _set_attributes(self, wanted: list[Wanted]) -> None:
        bases = []
        for w in wanted:
            assert w.version is not None
            local = self._local(w.path)
            manifest = w.version.manifest
            try:
                if w.found is not None and not self._unchanged(local, w.found):
                    self._problem(w, "changed meanwhile; it was left alone")
                    continue
                self._files.set_attributes(
                    local,
                    mode=manifest.mode if manifest.kind == "file" else None,
                    mtime_ns=manifest.mtime_ns,
                )
                stat = self._files.lstat(local)
            except OSError as error:
                self._problem(w, f"its attributes cannot be set: {error.strerror or error}")
                continue
            bases.append((w.path, self._base(w, stat)))
        if bases:
            self._set_base(bases, done_for=wanted)

    def _set_base(self, bases: list[tuple[RelPath, BaseEntry]], done_for: list[Wanted]) -> None:
        roots = self._context.state.roots
        with self._context.state.transaction():
            roots.set_base(self._root, bases)
            roots.wait(self._root, [w.path for w in done_for if w.standing])

    # Files and links

    def _batches(self, wanted: list[Wanted]) -> Iterator[list[Wanted]]:
        batch: list[Wanted] = []
        size = 0
        for w in wanted:
            if batch and (len(batch) >= BATCH_FILES or size + w.size > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(w)
            size += w.size
        if batch:
            yield batch

    def _create(self, batch: list[Wanted]) -> None:
        """One batch, all steps."""
        ready: list[tuple[Wanted, bytes]] = []
        try:
            ready = self._write(batch)
            self._barrier()
            roots = self._context.state.roots
            roots.intend(
                self._root,
                [
                    Intent(w.path, _kind(w), self._base(w, None))  # type: ignore[arg-type]
                    for w, _ in ready
                ],
            )
            placed = [w for w, temp in ready if self._place(w, temp)]
            bases = self._stat_placed(placed)
            self._barrier()
            with self._context.state.transaction():
                self._set_base(bases, done_for=batch)
                roots.clear_intents(self._root)
            self.result.files += len(bases)
        finally:
            self._clear_temp()

    def _write(self, batch: list[Wanted]) -> list[tuple[Wanted, bytes]]:
        """Content under temporary names; what cannot be had is a problem, the rest goes on."""
        ready = []
        small = [w for w in batch if _kind(w) == "file" and w.size <= BATCH_BYTES]
        chunks = self._download.fetch(c for w in small for c in _version(w).manifest.chunks)
        for w in batch:
            manifest = _version(w).manifest
            temp = self._temp_name()
            try:
                if manifest.kind == "symlink":
                    self._files.symlink(manifest.target, temp, manifest.mtime_ns)
                elif w.size <= BATCH_BYTES:
                    parts = [have(chunks, chunk) for chunk in manifest.chunks]
                    check_content(_version(w), parts)
                    self._files.write_new(temp, parts, manifest.mode, manifest.mtime_ns)
                else:
                    self._files.write_new(
                        temp, self._download.stream(_version(w)), manifest.mode, manifest.mtime_ns
                    )
                self._disposable.append(temp)
                ready.append((w, temp))
            except (IntegrityError, StoreError) as error:
                self._failure(w, error)
            except OSError as error:
                self._problem(w, f"cannot be written: {error.strerror or error}")
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise LocalFileError(
                        f"no space left for {show(self._root.local)}",
                        remedy="Make room, then run the command again: it goes on from here.",
                    ) from error
        return ready

    def _place(self, w: Wanted, temp: bytes) -> bool:
        """Give a finished file its name, if what is there is what was decided on."""
        local = self._local(w.path)
        try:
            self._parents(w.path)
            if w.found is None or w.found.kind == "dir":
                self._files.rename_new(temp, local)
                return True
            if not self._unchanged(local, w.found):
                self._problem(w, "changed meanwhile; it was left alone")
                return False
            return self._swap(w, temp, local)
        except FileExistsError:
            self._problem(w, "appeared meanwhile; it was left alone")
        except OSError as error:
            self._problem(w, f"cannot be replaced: {error.strerror or error}")
        return False

    def _swap(self, w: Wanted, temp: bytes, local: bytes) -> bool:
        """Replace a file by a finished one, unless it changed in the last moment.

        Raises:
            LocalFileError: the file that was swapped out cannot be put back. It is under its
                temporary name, where the next run finds and keeps it.
        """
        assert w.found is not None
        # From here on the temporary name may hold the only copy of an edit.
        self._disposable.remove(temp)
        try:
            self._files.exchange(temp, local)
            displaced, back = temp, partial(self._files.exchange, temp, local)
        except FileNotFoundError:
            self._files.rename_new(temp, local)
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                self._disposable.append(temp)
                raise
            displaced = self._temp_name()
            self._files.rename(local, displaced)
            back = partial(self._files.rename_new, displaced, local)
        try:
            same = _same(self._files.lstat(displaced), w.found)
            if same:
                if displaced != temp:
                    self._files.rename_new(temp, local)
                self._disposable.append(displaced)
                return True
            back()
        except OSError as error:
            raise LocalFileError(
                f"{show(local)} was edited while it was replaced, and its bytes are in "
                f"{show(displaced)}: {error.strerror or error}",
                remedy="Run the command again: it puts them beside the file.",
            ) from error
        self._disposable.append(temp)
        self._problem(w, "changed meanwhile; it was left alone")
        return False

    def _stat_placed(self, placed: list[Wanted]) -> list[tuple[RelPath, BaseEntry]]:
        bases = []
        for w in placed:
            manifest = _version(w).manifest
            stat = self._lstat(w.path)
            # A stat that is not what we wrote belongs to a later edit: the next scan looks at it.
            ours = (
                stat is not None
                and stat.kind == manifest.kind
                and (
                    manifest.kind == "symlink"
                    or (stat.size == manifest.file_size and stat.mtime_ns == manifest.mtime_ns)
                )
            )
            bases.append((w.path, self._base(w, stat if ours else None)))
        return bases

    # Helpers

    def _temp_name(self) -> bytes:
        if self._serial == 0:
            if not self._single:
                make_directory(self._context, os.path.dirname(self._temp))
            make_directory(self._context, self._temp)
        self._serial += 1
        return b"%s/%d" % (self._temp, self._serial)

    def _clear_temp(self) -> None:
        for name in self._disposable:
            try:
                self._files.unlink(name)
            except FileNotFoundError:
                continue
            except OSError:
                # It stays a leftover; the next run's recovery removes it.
                continue
        self._disposable = []

    def close(self) -> None:
        """Remove the directory of temporary files where it would be in the user's sight."""
        self._clear_temp()
        if self._single and self._serial:
            try:
                self._files.rmdir(self._temp)
            except OSError:
                return

    def _parents(self, path: RelPath) -> None:
        """Make the directories above a path that have no entry of their own."""
        for directory in parents(path):
            if directory in self._known_directories:
                continue
            try:
                self._files.mkdir(self._local(directory), 0o777)
                self._record_directory(directory)
            except FileExistsError:
                if self._files.lstat(self._local(directory)).kind != "dir":
                    raise OSError(errno.ENOTDIR, "a file is in the way of its directory") from None
            self._known_directories.add(directory)

    def _record_directory(self, path: RelPath) -> None:
        """A directory that nothing in this pull asked for: remember that it is not the user's."""
        stat = self._files.lstat(self._local(path))
        head = self._head(path)
        entry = BaseEntry(
            ids=head.ids if head.absent else (),
            clock=head.clock if head.absent else VectorClock(),
            kind="dir",
            size=0,
            mode=stat.mode,
            mtime_ns=stat.mtime_ns,
            ctime_ns=0,
            inode=stat.inode,
            file_hash=b"",
            target=b"",
            size_class=0,
        )
        self._context.state.roots.refresh_base(self._root, [(path, entry)])

    def _unchanged(self, local: bytes, found: LocalEntry) -> bool:
        stat = self._files.lstat(local)
        return _same(stat, found) and stat.ctime_ns == found.ctime_ns

    def _base(self, w: Wanted, stat: Stat | None) -> BaseEntry:
        entry = (
            LocalEntry(
                stat.kind,  # type: ignore[arg-type]
                stat.size,
                stat.mode,
                stat.mtime_ns,
                stat.ctime_ns,
                stat.inode,
            )
            if stat
            else None
        )
        return replace(base_entry(w.ids, _version(w).manifest, entry), clock=w.clock)

    def _lstat(self, path: RelPath) -> Stat | None:
        try:
            return look(self._files, self._root.local, path)
        except FileNotFoundError:
            return None

    def _local(self, path: RelPath) -> bytes:
        return self._root.local + b"/" + path if path else self._root.local

    def _barrier(self) -> None:
        self._files.barrier(self._top)

    def _problem(self, w: Wanted, message: str) -> None:
        self.result.problems.append(
            Problem(
                show(join(self._root.remote, w.path)),
                LocalFileError.code,
                message,
                "Run the command again; everything else was handled.",
            )
        )

    def _failure(self, w: Wanted, error: TcfsError) -> None:
        self.result.problems.append(
            Problem(show(join(self._root.remote, w.path)), error.code, error.message, error.remedy)
        )


def _version(w: Wanted) -> Version:
    assert w.version is not None
    return w.version


def _kind(w: Wanted) -> str:
    return _version(w).manifest.kind


def _same(stat: Stat, found: LocalEntry) -> bool:
    """Whether an inode is the one that was seen; a rename changes its ctime, so not that."""
    return (stat.kind, stat.size, stat.mtime_ns, stat.inode) == (
        found.kind,
        found.size,
        found.mtime_ns,
        found.inode,
    )


def hash_file(context: Context, path: bytes) -> bytes:
    """BLAKE3 of a local file. Raises OSError."""
    hasher = blake3()
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with context.host.files.open(path) as reader:
        while count := reader.readinto(view):
            hasher.update(view[:count])
    return hasher.digest()
