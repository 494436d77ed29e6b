"""Where a pull works: temporary names inside the root, barriers, and what went wrong.

Temporary names are in ``.tcfs/tmp-<device>``, on the root's own file system; for a root that is a
single file, in a directory beside it that is gone when the work is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from blake3 import blake3

from tcfs.errors import LocalFileError, TcfsError
from tcfs.host.base import Stat
from tcfs.model.clock import VectorClock
from tcfs.model.conflict import conflict_path
from tcfs.model.ids import DeviceId, RelPath
from tcfs.model.paths import METADATA_DIR, TEMP_PREFIX, join, show
from tcfs.model.plan import BaseEntry
from tcfs.model.tree import Head
from tcfs.state.roots import Intent, Root
from tcfs.sync.context import Context
from tcfs.sync.durable import barrier, top_of
from tcfs.sync.places import make_directory
from tcfs.sync.results import Problem
from tcfs.sync.scan import look
from tcfs.sync.wanted import Wanted

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
SPARE: Final = b"-"
"""What a second temporary name of the same path ends with."""
_WRITABLE: Final = 0o300
"""What its owner needs to change the names in a directory."""


def name_of_displaced(number: int, path: RelPath) -> bytes:
    """The temporary name of what is displaced at a path for a list of intents."""
    return b"%d-%s" % (number, blake3(path).digest(8).hex().encode())


class Workbench:
    """One root's place to work."""

    def __init__(self, context: Context, root: Root) -> None:
        self.context = context
        self.root = root
        self.files = context.host.files
        self.problems: list[Problem] = []
        self.failed: set[RelPath] = set()
        self.single = not root.marker and not root.inode
        self.top = top_of(root)
        self.temp = self.temp_of(context.identity.device_id)
        self._serial = 0
        self._placed = False
        # Temporary names whose content is nobody's only copy. In order, so that a directory comes
        # before what is in it.
        self._disposable: dict[bytes, None] = {}
        self._unlocked: dict[RelPath, int] = {}
        self._unlockings: list[int] = []
        self._aside: ThreadPoolExecutor | None = None

    def temp_of(self, device: DeviceId) -> bytes:
        """The directory of a device's temporary names."""
        if self.single:
            return self.top + b"/" + TEMP_PREFIX + device.encode()
        return self.root.local + b"/" + METADATA_DIR + b"/tmp-" + device.encode()

    def local(self, path: RelPath) -> bytes:
        """The absolute path of a path in the root."""
        return self.root.local + b"/" + path if path else self.root.local

    def lstat(self, path: RelPath) -> Stat | None:
        """What is at a path, or None for nothing. Raises OSError."""
        try:
            return look(self.files, self.root.local, path)
        except FileNotFoundError:
            return None

    def head(self, path: RelPath) -> Head:
        """What the fleet says of a path."""
        return self.context.state.history.head(self.root.namespace, join(self.root.remote, path))

    def directory_made(self, path: RelPath) -> None:
        """A directory was made that the fleet has not: remember that it is not the user's."""
        stat = self.files.lstat(self.local(path))
        head = self.head(path)
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
        self.context.state.roots.refresh_base(self.root, [(path, entry)])

    def barrier(self) -> None:
        """Return when everything written so far is durable.

        Raises:
            LocalFileError: nobody knows what is; what was intended stays so for the next run.
        """
        barrier(self.files, self.top)

    def begin_barrier(self) -> Future[None]:
        """``barrier`` in a thread, for what was written before this call."""
        if self._aside is None:
            from concurrent import futures

            self._aside = futures.ThreadPoolExecutor(1, thread_name_prefix="tcfs-barrier")
        return self._aside.submit(self.barrier)

    def intend(self, wanted: list[Wanted]) -> int | None:
        """Record, durably, what is about to be put on disk. Returns what ``done`` asks for."""
        if not wanted:
            return None
        return self.context.state.roots.intend(self.root, [w.intent() for w in wanted])

    def done(
        self,
        intended: int | None,
        bases: list[tuple[RelPath, BaseEntry]],
        wanted: Iterable[Wanted],
        *,
        left: Iterable[Wanted] = (),
    ) -> None:
        """Record, durably, what is on disk now.

        Nothing is intended any more but what is ``left``, and where a conflict stands there is
        still something to do.
        """
        roots = self.context.state.roots
        with self.context.state.transaction():
            roots.set_base(self.root, bases)
            roots.settle_intents(intended, [w.intent() for w in left])
            roots.wait(self.root, [w.path for w in wanted if w.standing])

    # Directories that may not be written

    def attempt(self, path: RelPath, change: Callable[[], T]) -> T:
        """Change a name, in a directory that is made writable first if it has to be.

        Raises:
            OSError: it cannot be done.
        """
        try:
            return change()
        except PermissionError:
            if not self._unlock(RelPath(path.rpartition(b"/")[0])):
                raise
        return change()

    def _unlock(self, directory: RelPath) -> bool:
        local = self.local(directory)
        stat = self.files.lstat(local)
        if stat.kind != "dir" or stat.mode & _WRITABLE == _WRITABLE:
            return False
        roots = self.context.state.roots
        base = roots.base_of(self.root, directory)
        if base is not None and base.kind == "dir" and base.ids and not base.on_this_disk_alone:
            # After a crash, its rights are what they were.
            clock = dict(base.clock.clocks)
            intent = Intent(directory, "dir", base.ids[0], base.ids, clock, stat.mode)
            self._unlockings.append(roots.intend(self.root, [intent]))
        self._unlocked.setdefault(directory, stat.mode)
        self.files.set_attributes(local, mode=stat.mode | _WRITABLE, mtime_ns=None)
        return True

    def lock_again(self) -> None:
        """Give directories that were made writable their rights back. Raises OSError."""
        for directory, mode in self._unlocked.items():
            try:
                self.files.set_attributes(self.local(directory), mode=mode, mtime_ns=None)
            except (FileNotFoundError, NotADirectoryError):
                continue
        if self._unlockings:
            with self.context.state.transaction():
                for number in self._unlockings:
                    self.context.state.roots.settle_intents(number)
        self._unlocked.clear()
        self._unlockings.clear()

    # Temporary names

    def rescue(self, name: bytes, path: RelPath) -> None:
        """Put an edit that is under a temporary name beside its path, which is taken by now.

        Raises:
            OSError: it cannot be put there.
        """
        kept = self.copy_name(path)
        self.attempt(path, lambda: self.files.rename_new(name, self.local(kept)))
        self.problem(path, f"changed twice meanwhile: one edit is in {show(kept)}")

    def copy_name(self, path: RelPath) -> RelPath:
        """A free name for a conflict copy of a local file."""
        return conflict_path(
            path, self.context.identity.name, lambda other: self.lstat(other) is not None
        )

    def displaced_name(self, intended: int | None, path: RelPath) -> bytes:
        """A name for what may be an only copy of what was at a path: ``leftovers`` looks at it.

        It tells, after a crash, of which list of intents it is, and of which path. Of one list and
        one path there are two: see ``spare_name``.
        """
        assert intended is not None
        self._make_place()
        return self.temp + b"/" + name_of_displaced(intended, path)

    @staticmethod
    def spare_name(name: bytes) -> bytes:
        """A second name that tells the same."""
        return name + SPARE

    def unit_place(self) -> tuple[int, bytes]:
        """A fresh number, and the name of a directory for copies: ``leftovers`` removes it."""
        self._make_place()
        self._serial += 1
        return self._serial, b"%s/u%d" % (self.temp, self._serial)

    @staticmethod
    def is_unit_place(name: bytes) -> bool:
        """Whether a name is one that ``unit_place`` gave."""
        return os.path.basename(name).startswith(b"u")

    def _make_place(self) -> None:
        """Make the directory of temporary names, if this is its first use."""
        if self._placed:
            return
        if not self.single:
            make_directory(self.context, os.path.dirname(self.temp))
        make_directory(self.context, self.temp)
        self._placed = True

    def dispose_later(self, name: bytes) -> None:
        """What is under this temporary name may be deleted at the next ``clear``."""
        self._disposable[name] = None

    def keep(self, name: bytes) -> None:
        """What is under this temporary name must not be deleted: it may be an only copy."""
        self._disposable.pop(name, None)

    def clear(self) -> None:
        """Delete what is disposable. What cannot be deleted is left for ``leftovers``."""
        for name in reversed(self._disposable):
            try:
                self.files.unlink(name)
            except FileNotFoundError:
                continue
            except OSError:
                try:
                    self.files.rmdir(name)
                except OSError:
                    continue
        self._disposable.clear()

    def close(self) -> None:
        """Clear, and remove the directory of temporary names if nothing is left in it."""
        if self._aside is not None:
            self._aside.shutdown(wait=True, cancel_futures=True)
        with suppress(OSError):
            # Otherwise ``leftovers`` does it.
            self.lock_again()
        self.clear()
        if self._placed:
            try:
                self.files.rmdir(self.temp)
            except OSError:
                return

    # What went wrong

    def problem(self, path: RelPath, message: str, remedy: str = "") -> None:
        """A path that could not be handled."""
        self.failed.add(path)
        self.problems.append(
            Problem(
                show(join(self.root.remote, path)),
                LocalFileError.code,
                message,
                remedy or "Run the command again; everything else was handled.",
            )
        )

    def failure(self, path: RelPath, error: TcfsError) -> None:
        """A path whose content could not be had."""
        self.failed.add(path)
        self.problems.append(
            Problem(show(join(self.root.remote, path)), error.code, error.message, error.remedy)
        )
