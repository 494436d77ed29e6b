"""Looking at a local tree: every entry with its stat, and what could not be seen.

``walk`` tells of entries one by one, in the order of their paths, so that a tree of any size can be
compared with what is stored of it (``tcfs.sync.compare``); ``scan`` gathers them. What is hidden
(excluded, unreadable, of another kind) is remembered, because a path that was not seen must never
count as deleted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from tcfs.errors import LocalFileError
from tcfs.host.base import FileSystem, Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, parents, path_problem, show
from tcfs.model.plan import LocalEntry
from tcfs.sync.ignore import IGNORE_FILE, Exclusion
from tcfs.sync.results import Problem


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
    for path, stat in walk(files, root, exclude, prefix, found):
        entries[path] = entry_of(stat)
    return found


def entry_of(stat: Stat) -> LocalEntry:
    """The entry of something that is synced."""
    kind, size, mode, mtime_ns, ctime_ns, inode, _ = stat
    return LocalEntry(kind, size, mode, mtime_ns, ctime_ns, inode)  # type: ignore[arg-type]


def walk(
    files: FileSystem, root: bytes, exclude: Exclusion, prefix: RelPath, found: Scan
) -> Iterator[tuple[RelPath, Stat]]:
    """What is synced at and below ``prefix``, in the order of paths as bytes.

    Args:
        found: told of everything else: what is hidden, the problems, the exclusions. Its entries
            are left alone.

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
    yield prefix, stat
    if stat.kind == "dir":
        yield from _below(files, root, prefix, exclude, found)


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


_DOT: Final = ord(".")
_Listed = list[tuple[bytes, RelPath, Stat | None]]


def _below(
    files: FileSystem, root: bytes, start: RelPath, exclude: Exclusion, found: Scan
) -> Iterator[tuple[RelPath, Stat]]:
    """Everything below a directory. What is held are the listings of those that it is inside."""
    listed, inside = _listing(files, root, start, start, exclude, found)
    levels = [(iter(listed), inside)]
    while levels:
        rest, inside = levels[-1]
        for _, path, stat in rest:
            if stat is None:
                listed, inside = _listing(files, root, start, path, inside, found)
                levels.append((iter(listed), inside))
                break
            yield path, stat
        else:
            levels.pop()


def _listing(
    files: FileSystem,
    root: bytes,
    start: RelPath,
    directory: RelPath,
    exclude: Exclusion,
    found: Scan,
) -> tuple[_Listed, Exclusion]:
    """What of a directory is synced, in the order of paths, and the exclusion that holds in it.

    Without a stat stands the place of what is in a directory: after its own entry, and after those
    of other names that sort before the slash.
    """
    kept: _Listed = []
    try:
        listing = files.scan(root + b"/" + directory if directory else root)
    except FileNotFoundError:
        if directory == start:
            raise LocalFileError(f"{show(root)} vanished while it was looked at") from None
        return kept, exclude
    except OSError as error:
        found.hidden.add(directory)
        found.problems.append(unreadable(directory or root, error))
        return kept, exclude
    if any(name == IGNORE_FILE for name, _ in listing):
        exclude = _enter(files, root, directory, exclude, found)
        if directory in found.hidden:
            return kept, exclude
    prefix = directory + b"/" if directory else b""
    leaves_out, hidden = exclude.leaves_out, found.hidden
    doubtful = exclude.may_leave_out(directory, [name for name, _ in listing])
    for name, stat in listing:
        path = RelPath(prefix + name)
        kind = stat[0]
        if (doubtful or name[0] == _DOT) and leaves_out(path, name, kind == "dir"):
            hidden.add(path)
            continue
        if kind == "other":
            hidden.add(path)
            found.skipped.append(show(path))
            continue
        if len(path) > 4000 and path_problem(path):
            hidden.add(path)
            found.problems.append(Problem(show(path), "local", f"left out: {path_problem(path)}"))
            continue
        kept.append((name, path, stat))
        if kind == "dir":
            kept.append((name + b"/", path, None))
    kept.sort(key=itemgetter(0))
    return kept, exclude


def unreadable(path: bytes, error: OSError) -> Problem:
    """The report of a path that the system would not read."""
    return Problem(
        show(path),
        LocalFileError.code,
        f"cannot be read: {error.strerror or error}",
        "Mend its rights or exclude it; everything else was handled.",
    )
