"""What a pull does with each path, decided a slice of them at a time.

The paths are those that the fleet changed since the last pull, and those that are still to do; they
come out of the state in order. What was decided of a slice is let go of with it, so that memory
does not grow with the number of paths. A path may be decided on more than once: each time on what
the disk holds then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from tcfs.model.ids import RelPath
from tcfs.model.paths import join, parents, relative_to
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
from tcfs.sync.context import Context
from tcfs.sync.git.off_disk import stays_off_disk
from tcfs.sync.leftovers import hash_file
from tcfs.sync.results import Problem
from tcfs.sync.scan import local_entry, look, unreadable
from tcfs.sync.spelling import claim
from tcfs.sync.ticking import let_the_clock_tick

SLICE: Final = 5000
"""Paths that are decided on together."""
_UNREAD = b"\1" * 32
"""Stands for content that was not read because its size alone tells it from the fleet's."""


def few(paths: int) -> bool:
    """Whether so many are decided on together."""
    return paths <= SLICE


class Decision(Struct, frozen=True, gc=False):
    """What a pull does with one path, and what that was decided on."""

    path: RelPath
    action: PullAction
    head: Head
    base: BaseEntry | None
    entry: LocalEntry | None
    content: Content | None
    dirty: bool

    @property
    def outlives(self) -> bool:
        """Whether an edit on disk outlives a removal, as long as nobody takes that edit back."""
        known = self.base.ids if self.base else ()
        return self.dirty and self.head.absent and not set(self.head.ids) <= set(known)


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


class Decider:
    """Decides on paths of a root, at and below a prefix.

    Attributes:
        root: may be recorded after the first look; then this is to be the recorded one.
        root_is_new: its directory was made by this pull, so that nothing was there.
        problems: paths that could not be looked at, each once.
    """

    def __init__(self, context: Context, root: Root, prefix: RelPath) -> None:
        self._context = context
        self.root = root
        self.root_is_new = False
        self._prefix = prefix
        self._files = context.host.files
        self.problems: dict[RelPath, Problem] = {}
        self._directories: set[RelPath] = set()
        self._missing: set[bytes] = set()
        self._rows = (0, 0)

    # Which paths

    def look_anew(self) -> int:
        """From now on, paths are those that are to do as of now; the newest row of history."""
        history = self._context.state.history
        self._rows = (self._context.state.roots.pulled(self.root), history.newest())
        return self._rows[1]

    def taken_up(self) -> None:
        """What the fleet changed is among what is to do now."""
        self._rows = (self._rows[1], self._rows[1])

    def touched(self) -> Iterator[RelPath]:
        """Every path of the root that the fleet changed or that is still to do, in order."""
        for some in self._paths(RelPath(b"")):
            yield from some

    def waits(self, path: RelPath) -> bool:
        """Whether anything is to do at or below a path of the root."""
        return bool(self._some(path, path, 1))

    def slices(self) -> Iterator[list[Decision]]:
        """Decisions on all paths at and below the prefix, in order; none for most of ``.git``."""
        decide = self._deciding()
        for some in self._paths(self._prefix):
            yield decide(some)

    def removals(self) -> Iterator[list[Decision]]:
        """Decisions on what may have to be removed, the deepest first, each slice in order.

        Only once all paths are among what is to do.
        """
        decide, end = self._deciding(), None
        roots = self._context.state.roots
        while some := roots.todo_on_disk(self.root, self._prefix, end=end, limit=SLICE):
            end = some[-1]
            yield decide(sorted(some))

    def at(self, paths: Iterable[RelPath]) -> list[Decision]:
        """Decisions on some paths."""
        return self._deciding()(sorted(paths))

    def _paths(self, prefix: RelPath) -> Iterator[list[RelPath]]:
        """A slice after the other. What is done or put off meanwhile does not matter."""
        start, more = b"", True
        while more and (some := self._some(prefix, start, SLICE)):
            start, more = some[-1] + b"\0", len(some) == SLICE
            yield some

    def _some(self, prefix: RelPath, start: bytes, limit: int) -> list[RelPath]:
        root, state = self.root, self._context.state
        found = state.roots.todo(root, prefix, start=start, limit=limit) if root.id else []
        touched = state.history.touched(
            root.namespace,
            join(root.remote, prefix),
            self._rows,
            start=join(root.remote, RelPath(start)),
            limit=limit,
        )
        if touched:
            inside = (relative_to(path, root.remote) for path in touched)
            found = sorted({*found, *(path for path in inside if path is not None)})[:limit]
        return found

    # What is done with them

    def _deciding(self) -> Callable[[list[RelPath]], list[Decision]]:
        """What decides on paths that are in order."""
        context, root = self._context, self.root
        off_disk = stays_off_disk(context, root)
        # The names of directories are part of what is below them.
        claim(context, root, [path for path in parents(self._prefix) if self._is_touched(path)])

        def decide(paths: list[RelPath]) -> list[Decision]:
            self._directories.clear()
            self._missing.clear()
            claim(context, root, paths)
            wanted = [path for path in paths if (path or root.remote) and not off_disk(path)]
            bases = context.state.roots.base_at(root, wanted) if root.id else {}
            heads = context.state.history.heads_of(
                root.namespace, [join(root.remote, path) for path in wanted]
            )
            decisions = (
                self._decide_one(path, head, bases.get(path))
                for path, head in zip(wanted, heads, strict=True)
            )
            return [d for d in decisions if d is not None]

        return decide

    def _is_touched(self, path: RelPath) -> bool:
        return path in self._some(path, path, 1)

    def _decide_one(self, path: RelPath, head: Head, base: BaseEntry | None) -> Decision | None:
        try:
            entry = self.look(path)
            change = local_change(base, entry)
            dirty = change is not LocalChange.NONE
            content = self._content(path, head, base, entry, change)
        except OSError as error:
            self.problems[path] = unreadable(head.path, error)
            return None
        if base is not None and change is LocalChange.MAYBE and content == base.content:
            dirty = False
        action = pull_action(head, base, content, dirty)
        if _holds_all_but_time(action, head, base, entry, content):
            action = PullAction.ATTRIBUTES
        return Decision(path, action, head, base, entry, content, dirty)

    def look(self, path: RelPath) -> LocalEntry | None:
        """What stands at a path. Raises OSError."""
        if self.root_is_new and not path:
            return None
        directory = path.rpartition(b"/")[0]
        if directory in self._missing:
            return None
        try:
            stat = look(self._files, self.root.local, path, self._directories)
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
            return ("symlink", b"", 0, self._files.readlink(self.local(path)))
        sizes = {v.manifest.file_size for v in head.siblings if v.manifest.kind == "file"}
        if base is not None and base.kind == "file":
            sizes.add(base.size)
        if entry.size not in sizes:
            return ("file", _UNREAD, entry.mode, b"")
        # What is decided on this stat must not happen to a write that leaves it as it is.
        let_the_clock_tick(self._context.host.clock, [entry.ctime_ns])
        return ("file", hash_file(self._files, self.local(path)), entry.mode, b"")

    def local(self, path: RelPath) -> bytes:
        """The absolute path of a path in the root."""
        return os.path.join(self.root.local, path) if path else self.root.local
