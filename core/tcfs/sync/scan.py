"""Looking at a local tree: every entry with its stat, and what could not be seen.

``walk`` tells of entries one by one, in the order of their paths, so that a tree of any size can be
compared with what is stored of it (``tcfs.sync.compare``); ``scan`` gathers them. What is hidden
(excluded, unreadable, of another kind) is remembered, because a path that was not seen must never
count as deleted.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tcfs.errors import LocalFileError
from tcfs.host.base import Ahead, FileSystem, Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, parents, path_problem, show
from tcfs.model.plan import LocalEntry
from tcfs.sync.ignore import IGNORE_FILE, Exclusion
from tcfs.sync.results import Problem

if TYPE_CHECKING:
    from tcfs.host.listing import Seen

_DOT: Final = ord(".")
_LONG: Final = 4000
"""Bytes of a path from which on it may be too long."""
_TOGETHER: Final = 64
"""Entries that a walk tells of at a time, at least, if there are so many."""


@dataclass(slots=True)
class Scan:
    """What a scan saw, by path relative to the root; the root itself is the empty path.

    Attributes:
        hidden: paths that may exist but were not taken, each with everything below it.
        problems: what could not be read; its place is hidden.
        skipped: sockets, devices and the like.
        exclusions: what decides inside each directory that has patterns of its own, and at the top.
    """

    entries: dict[RelPath, LocalEntry] = field(default_factory=dict)
    hidden: set[RelPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    exclusions: dict[RelPath, Exclusion] = field(default_factory=dict)

    def sees(self, path: RelPath, is_dir: bool) -> bool:
        """Whether this scan would have seen the path if it existed, as what it was."""
        hidden = self.hidden
        if path in hidden or ROOT in hidden:
            return False
        end = path.rfind(b"/") if hidden else 0
        while end > 0:
            if path[:end] in hidden:
                return False
            end = path.rfind(b"/", 0, end)
        return not self._leaves_out(path, is_dir)

    def add(self, other: Scan) -> None:
        """What a scan of another part of the same root saw, too."""
        self.entries |= other.entries
        self.hidden |= other.hidden
        self.problems += other.problems
        self.skipped += other.skipped
        self.exclusions |= other.exclusions

    def _leaves_out(self, path: RelPath, is_dir: bool) -> bool:
        """Whether a pattern would have hidden it: the scan met only what is there."""
        inside = self.exclusions.get(ROOT)
        if inside is None or not path:
            return False
        names = path.split(b"/")
        for depth, name in enumerate(names, 1):
            part = RelPath(b"/".join(names[:depth]))
            if inside.leaves_out(part, name, is_dir or depth < len(names)):
                return True
            inside = self.exclusions.get(part, inside)
        return False


def local_entry(stat: Stat) -> LocalEntry | None:
    """The entry for a stat; None for what is not synced."""
    if stat.kind == "other":
        return None
    return LocalEntry(stat.kind, stat.size, stat.mode, stat.mtime_ns, stat.ctime_ns, stat.inode)


def scan(files: FileSystem, root: bytes, exclude: Exclusion, prefix: RelPath = ROOT) -> Scan:
    """Look at a root, or at the part of it at and below ``prefix``.

    Raises:
        LocalFileError: the root itself cannot be looked at.
    """
    found = Scan()
    entries = found.entries
    for some in walk(files, root, exclude, prefix, found):
        for seen in some:
            entries[RelPath(seen[0])] = entry_of(seen)
    return found


def entry_of(seen: Seen) -> LocalEntry:
    """The entry of something that is synced."""
    _, kind, size, mode, mtime_ns, ctime_ns, inode = seen
    return LocalEntry(kind, size, mode, mtime_ns, ctime_ns, inode)  # type: ignore[arg-type]


def walk(
    files: FileSystem,
    root: bytes,
    exclude: Exclusion,
    prefix: RelPath,
    found: Scan,
    ahead: Ahead | None = None,
) -> Iterator[list[Seen]]:
    """What is synced at and below ``prefix``, in the order of paths as bytes, some at a time.

    Args:
        found: told of everything else: what is hidden, the problems, the exclusions. Its entries
            are left alone.
        ahead: who lists the directories below the root, as far as it does.

    Raises:
        LocalFileError: the root itself cannot be looked at.
    """
    found.exclusions[ROOT] = exclude
    top = root + b"/" + prefix if prefix else root
    for directory in _above(prefix):
        exclude = _enter(files, root, directory, exclude, found)
    try:
        stat = look(files, root, prefix)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalFileError(f"cannot look at {show(top)}: {error.strerror}") from error
    name = prefix.rpartition(b"/")[2]
    if prefix and _left_out_on_the_way(exclude, prefix, stat.kind == "dir"):
        found.hidden.add(prefix)
        return
    if stat.kind == "other":
        found.hidden.add(prefix)
        found.skipped.append(show(name or top))
        return
    yield [(prefix, *stat[:6])]
    if stat.kind == "dir":
        yield from _Below(files, root, prefix, found, ahead).walk(exclude)


def look(files: FileSystem, root: bytes, path: RelPath, known: set[RelPath] | None = None) -> Stat:
    """What stands at a path of a root, never behind a symlink that stands above it.

    Args:
        known: directories that were looked at before, to which these are added.

    Raises:
        FileNotFoundError: nothing does; a file or symlink above it may stand in its place.
        OSError: it cannot be looked at.
    """
    for directory in parents(path):
        if known is not None and directory in known:
            continue
        if files.lstat(root + b"/" + directory).kind != "dir":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        if known is not None:
            known.add(directory)
    return files.lstat(root + b"/" + path if path else root)


def _above(path: RelPath) -> Iterator[RelPath]:
    if path:
        yield ROOT
        names = path.split(b"/")
        for depth in range(1, len(names)):
            yield RelPath(b"/".join(names[:depth]))


def _left_out_on_the_way(exclude: Exclusion, path: RelPath, is_dir: bool) -> bool:
    names = path.split(b"/")
    return any(
        exclude.leaves_out(b"/".join(names[: i + 1]), name, is_dir or i + 1 < len(names))
        for i, name in enumerate(names)
    )


def _enter(
    files: FileSystem, root: bytes, directory: RelPath, exclude: Exclusion, found: Scan
) -> Exclusion:
    """The exclusion inside a directory, with its ignore file if it has one."""
    place = root + b"/" + directory if directory else root

    def read() -> bytes:
        with files.open(place + b"/" + IGNORE_FILE) as reader:
            return reader.read(1 << 21)

    try:
        found.exclusions[directory] = exclude.within(directory, read)
        return found.exclusions[directory]
    except (FileNotFoundError, NotADirectoryError):
        return exclude
    except OSError as error:
        # Without its patterns, the directory's content cannot be told from what it leaves out.
        found.hidden.add(directory)
        found.problems.append(unreadable(directory or IGNORE_FILE, error))
        return exclude


class _Level(Struct, frozen=True):
    """A directory that the walk is inside of.

    Attributes:
        entries: what of it is synced, in order.
        directories: those of its directories that are still to be entered, the next one last.
        inside: the exclusion that holds in it.
    """

    entries: list[Seen]
    directories: list[RelPath]
    inside: Exclusion


class _Below(Struct, frozen=True):
    """A walk through everything below a directory, ``start``."""

    files: FileSystem
    root: bytes
    start: RelPath
    found: Scan
    ahead: Ahead | None

    def walk(self, exclude: Exclusion) -> Iterator[list[Seen]]:
        """What is synced there. What is held are the listings of those that it is inside."""
        some: list[Seen] = []
        level = self._level(self.start, exclude)
        levels = [(level, 0)]
        while levels:
            level, at = levels.pop()
            if not level.directories:
                some += level.entries[at:] if at else level.entries
            else:
                directory = level.directories.pop()
                # After its own entry, and those of other names that sort before the slash.
                here = bisect_left(level.entries, (directory + b"/",), at)
                some += level.entries[at:here]
                levels += [(level, here), (self._level(directory, level.inside), 0)]
            if len(some) >= _TOGETHER:
                yield some
                some = []
        if some:
            yield some

    def _level(self, directory: RelPath, exclude: Exclusion) -> _Level:
        """What of a directory is synced."""
        found = self.found
        try:
            listing = self._listing(directory)
        except FileNotFoundError:
            if directory == self.start:
                raise LocalFileError(f"{show(self.root)} vanished while it was looked at") from None
            return _Level([], [], exclude)
        except OSError as error:
            found.hidden.add(directory)
            found.problems.append(unreadable(directory or self.root, error))
            return _Level([], [], exclude)
        paths = [seen[0] for seen in listing]
        prefix = directory + b"/" if directory else b""
        ignore = prefix + IGNORE_FILE
        text = b"\n".join(paths)
        if ignore in text and ignore in paths:
            exclude = _enter(self.files, self.root, directory, exclude, found)
            if directory in found.hidden:
                return _Level([], [], exclude)
        kinds = {seen[1] for seen in listing}
        doubtful = exclude.may_leave_out(directory, (text,))
        if (
            doubtful
            or "other" in kinds
            or prefix + b"." in text
            or max(map(len, paths), default=0) > _LONG
        ):
            listing = [
                seen for seen in listing if self._is_synced(seen, len(prefix), exclude, doubtful)
            ]
        inner = [RelPath(path) for path, kind, *_ in listing if kind == "dir"]
        inner.sort(key=lambda path: path + b"/", reverse=True)
        return _Level(listing, inner, exclude)

    def _listing(self, directory: RelPath) -> list[Seen]:
        """What a directory holds, in order. Raises OSError."""
        if self.ahead is not None:
            known = self.ahead.entries(directory)
            if known is not None:
                return known
        top, prefix = self.root, b""
        if directory:
            top, prefix = self.root + b"/" + directory, directory + b"/"
        return sorted((prefix + name, *stat[:6]) for name, stat in self.files.scan(top))

    def _is_synced(self, seen: Seen, start: int, exclude: Exclusion, doubtful: bool) -> bool:
        """Whether an entry is; what is hidden is told. Its name begins at ``start``.

        Args:
            doubtful: whether patterns may leave it out.
        """
        path, kind, found = RelPath(seen[0]), seen[1], self.found
        dotted = path[start] == _DOT
        if (doubtful or dotted) and exclude.leaves_out(path, path[start:], kind == "dir"):
            found.hidden.add(path)
            return False
        if kind == "other":
            found.hidden.add(path)
            found.skipped.append(show(path))
            return False
        if len(path) > _LONG and path_problem(path):
            found.hidden.add(path)
            found.problems.append(Problem(show(path), "local", f"left out: {path_problem(path)}"))
            return False
        return True


def unreadable(path: bytes, error: OSError) -> Problem:
    """The report of a path that the system would not read."""
    return Problem(
        show(path),
        LocalFileError.code,
        f"cannot be read: {error.strerror or error}",
        "Mend its rights or exclude it; everything else was handled.",
    )
