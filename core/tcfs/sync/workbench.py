"""Where a pull works: temporary names inside the root, barriers, and what went wrong.

Temporary names are in ``.tcfs/tmp-<device>``, on the root's own file system; for a root that is a
single file, in a directory beside it that is gone when the work is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tcfs.errors import LocalFileError, TcfsError
from tcfs.host.base import Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import METADATA_DIR, TEMP_PREFIX, join, show
from tcfs.model.plan import BaseEntry
from tcfs.state.roots import Intent, Root
from tcfs.sync.context import Context
from tcfs.sync.places import make_directory
from tcfs.sync.results import Problem
from tcfs.sync.scan import look
from tcfs.sync.wanted import Wanted


class Workbench:
    """One root's place to work."""

    def __init__(self, context: Context, root: Root) -> None:
        self.context = context
        self.root = root
        self.files = context.host.files
        self.problems: list[Problem] = []
        self.failed: set[RelPath] = set()
        device = context.identity.device_id.encode()
        self._single = not root.marker and not root.inode
        if self._single:
            self.top = os.path.dirname(root.local)
            self.temp = self.top + b"/" + TEMP_PREFIX + device
        else:
            self.top = root.local
            self.temp = root.local + b"/" + METADATA_DIR + b"/tmp-" + device
        self._serial = 0
        # Temporary names whose content is nobody's only copy. In order, so that a directory comes
        # before what is in it.
        self._disposable: dict[bytes, None] = {}

    def local(self, path: RelPath) -> bytes:
        """The absolute path of a path in the root."""
        return self.root.local + b"/" + path if path else self.root.local

    def lstat(self, path: RelPath) -> Stat | None:
        """What is at a path, or None for nothing. Raises OSError."""
        try:
            return look(self.files, self.root.local, path)
        except FileNotFoundError:
            return None

    def barrier(self) -> None:
        """Return when everything written so far is durable.

        Raises:
            LocalFileError: nobody knows what is; what was intended stays so for the next run.
        """
        try:
            self.files.barrier(self.top)
        except OSError as error:
            raise LocalFileError(
                f"what was written to {show(self.top)} may not be safe: {error.strerror or error}",
                remedy="Check the disk, then run the command again: it looks at what is there.",
            ) from error

    def intend(self, wanted: list[Wanted]) -> None:
        """Record, durably, what is about to be put on disk."""
        self.context.state.roots.intend(
            self.root,
            [Intent(w.path, w.kind, w.base(None)) for w in wanted],  # type: ignore[arg-type]
        )

    def done(self, bases: list[tuple[RelPath, BaseEntry]], wanted: Iterable[Wanted]) -> None:
        """Record, durably, what is on disk now. Of all that was wanted nothing is intended any
        more, and where a conflict stands there is still something to do.
        """
        wanted, roots = list(wanted), self.context.state.roots
        with self.context.state.transaction():
            roots.set_base(self.root, bases)
            roots.drop_intents(self.root, [w.path for w in wanted])
            roots.wait(self.root, [w.path for w in wanted if w.standing])

    # Temporary names

    def temp_name(self) -> bytes:
        """A fresh name for a temporary file; the file is nobody's business until it is placed."""
        if self._serial == 0:
            if not self._single:
                make_directory(self.context, os.path.dirname(self.temp))
            make_directory(self.context, self.temp)
        self._serial += 1
        return b"%s/%d" % (self.temp, self._serial)

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
        self.clear()
        if self._serial:
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
