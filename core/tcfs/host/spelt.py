"""A disk that ignores case or normalises Unicode, made to look like one that keeps names apart.

Below a root, paths are spelt as in the fleet (*true* names); this adapter finds what each is called
on disk, and says by its true name what a listing shows. Two rules do it:

* What the disk shows is the true name, composed where the disk normalises. So a change of case is
  a rename as everywhere, and another normalisation of a name is no change at all.
* Where that name is taken by another, or would mean another, or is ``.git`` to a program though it
  is spelt otherwise, a file has a name of its own (``tcfs.model.spelling``), which tells its true
  name. If both are there, the plain one has it.

A true name that is not composed has to be remembered (``names.Names``), as has one too long to be
told by its own name; before the disk is changed, so that no crash comes between.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from tcfs.host.base import FileSystem, Reader, Stat
from tcfs.host.names import Names
from tcfs.model.paths import METADATA_DIR
from tcfs.model.spelling import composed, folded, own_name, true_of_own

T = TypeVar("T")

_TEMPORARY: Final = METADATA_DIR + b"/tmp-"
_GUARDED: Final = frozenset((METADATA_DIR, b".git"))
"""Names that programs look for: what such a disk takes for one of them is never put there."""


def _may_stand(name: bytes) -> bool:
    """Whether a name, put on disk as it is, means itself and is nothing to any program."""
    return true_of_own(name) is None and (name in _GUARDED or folded(name) not in _GUARDED)


def _exists(path: bytes) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


class SpeltFiles:
    """``FileSystem`` over one that takes several names for one.

    Paths outside the directories that ``cover`` was told of are passed on as they are.
    """

    ignores_case = False
    normalises_unicode = False

    def __init__(self, inner: FileSystem, names: Names) -> None:
        self.inner = inner
        self.names = names
        self.composes = inner.normalises_unicode
        self._covered: list[bytes] = []

    def cover(self, directory: bytes) -> None:
        """From here on, paths below this directory are spelt as in the fleet."""
        if directory not in self._covered:
            self._covered.append(directory)
            self._covered.sort(key=len, reverse=True)

    # Names

    def shown(self, name: bytes) -> bytes:
        """How a name that the disk lists is compared: composed, if the disk normalises."""
        return composed(name) if self.composes else name

    def is_plain(self, path: bytes) -> bool:
        """Whether the name of a path can stand on disk as it is, and means itself there."""
        directory, _, name = path.rpartition(b"/")
        known = self.names.true(directory, name)
        return self.shown(name) == name and _may_stand(name) and known in (None, name)

    def _refresh(self) -> None:
        """Take up what other processes recorded. In the thread that has the state alone."""
        if self.names.refresh():
            for root in self.names.roots:
                self.cover(root)

    def _split(self, path: bytes) -> tuple[bytes, list[bytes]]:
        """The covered directory that a path is below, and the names from there.

        None for temporary names: whoever gives them takes care that no two are one.
        """
        for directory in self._covered:
            if path.startswith(directory + b"/"):
                start = len(directory) + 1
                if path.startswith(_TEMPORARY, start):
                    break
                return directory, path[start:].split(b"/")
        return path, []

    def _true(self, directory: bytes, shown: bytes, has: Callable[[bytes], bool]) -> bytes:
        """The true name of what is shown in a directory. ``has`` says what else is shown."""
        true = self.names.true(directory, shown) or true_of_own(shown)
        if true is None:
            return shown
        plain = self.shown(true)
        if plain != shown and has(plain) and self._true(directory, plain, has) == true:
            return shown
        return true

    def _shows(self, place: bytes, name: bytes) -> bytes | None:
        """The name that the disk has for a name that it may show, or None."""
        try:
            spelt = self.inner.spelling(place + b"/" + name)
        except FileNotFoundError:
            return None
        return spelt if self.shown(spelt) == name else None

    def _find(self, place: bytes, directory: bytes, name: bytes) -> bytes | None:
        """What a true name is called in a directory on disk; None if it is not there."""

        def has(shown: bytes) -> bool:
            return self._shows(place, shown) is not None

        plain = self.shown(name)
        spelt = self._shows(place, plain)
        if spelt is not None and self._true(directory, plain, has) == name:
            return spelt
        own = own_name(name)
        spelt = self._shows(place, own)
        if spelt is not None and self._true(directory, own, has) == name:
            return spelt
        return None

    def at(self, path: bytes) -> bytes:
        """Where a path is on disk.

        Raises:
            FileNotFoundError: nothing is at it by that very name.
            OSError: the disk cannot be looked at.
        """
        self._refresh()
        return self._at(path)

    def _at(self, path: bytes) -> bytes:
        place, names = self._split(path)
        directory = place
        for name in names:
            spelt = self._find(place, directory, name)
            if spelt is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            place += b"/" + spelt
            directory += b"/" + name
        return place

    def true(self, path: bytes) -> bytes:
        """The path that stands for something on disk, however it is spelt, there or not."""
        self._refresh()
        place, names = self._split(path)
        directory = place
        for name in names:
            here = place
            try:
                spelt = self.inner.spelling(place + b"/" + name)
            except OSError:
                spelt = name
            true = self._true(
                directory,
                self.shown(spelt),
                lambda n: self._shows(here, n) is not None,  # noqa: B023
            )
            place += b"/" + spelt
            directory += b"/" + true
        return directory

    def listed(self, path: bytes) -> bytes:
        """An absolute path as the disk lists it, as far as it is there; whether covered or not."""
        place = b""
        for name in path.split(b"/")[1:]:
            try:
                place += b"/" + self.shown(self.inner.spelling(place + b"/" + name))
            except OSError:
                place += b"/" + name
        return place

    def new(self, path: bytes) -> bytes:
        """Where something new is to be put, so that it is found at ``path``.

        Raises:
            FileExistsError: something is there.
            OSError: its directory is not there, or cannot be looked at.
        """
        self._refresh()
        if not self._split(path)[1]:
            return path
        directory, _, name = path.rpartition(b"/")
        place = self.at(directory)
        if self._find(place, directory, name) is not None:
            raise _exists(path)
        plain = self.shown(name)
        if _may_stand(plain) and self._is_free(place + b"/" + plain):
            known = self.names.true(directory, plain)
            if known is not None and known != name:
                # It stood for one that is gone. That is to be so after a power loss, too.
                self.inner.barrier(place)
                self.names.forget([directory + b"/" + known])
            if plain != name:
                self.names.record({path: plain})
            return place + b"/" + name
        if self._find(place, directory, name) is not None:
            # Somebody has put it there since: nothing else that the disk takes for one with it.
            raise _exists(path)
        own = own_name(name)
        if self.names.get(path) not in (None, own) or true_of_own(own) != name:
            self.names.record({path: own})
        self.names.seen[path] = self.names.given[path] = own
        return place + b"/" + own

    def _put(self, path: bytes, put: Callable[[bytes], T], take_back: Callable[[bytes], None]) -> T:
        """Put something new where it is found at ``path``.

        Args:
            put, take_back: given its place on disk.

        Raises:
            FileExistsError: something is there, or came to be there in this very moment.
            OSError: as ``new`` says, and ``put``.
        """
        place = self.new(path)
        result = put(place)
        directory, _, name = path.rpartition(b"/")
        there, _, given = place.rpartition(b"/")
        if given != name:
            # Its user may have put something at the plain name since that was found taken: then
            # this one stands for itself, by a name that nobody gave it. That they took it away
            # again is as with any other.
            found = self._find(there, directory, name)
            found_here = found is not None and self.shown(found) == given
            if not found_here and self._shows(there, given) is not None:
                take_back(place)
                for names in (self.names.seen, self.names.given):
                    names.pop(path, None)
                raise _exists(path)
        return result

    def _put_by_rename(self, place: bytes, target: bytes) -> None:
        """Have what is at a place on disk found at ``target``. Raises as ``_put`` does."""
        before: Stat | None = None

        def put(new: bytes) -> None:
            nonlocal before
            if os.path.basename(new) != os.path.basename(target):
                before = self.inner.lstat(place)
            self.inner.rename_new(place, new)

        def take_back(new: bytes) -> None:
            self.inner.rename_new(new, place)
            after = self.inner.lstat(place)
            if before is not None and (after[:4], after.inode) != (before[:4], before.inode):
                # Somebody wrote to it by the name that it had there: it is theirs.
                self.inner.rename_new(place, new)

        self._put(target, put, take_back)

    def _leave(self, path: bytes) -> bytes:
        """Where something is on disk that is about to leave its path. Raises OSError.

        What bears its name of its own beside it stands for itself, and is to do so when it is gone.
        """
        place = self.at(path)
        if not self._split(path)[1]:
            return place
        directory, _, name = path.rpartition(b"/")
        there, _, spelt = place.rpartition(b"/")
        own = own_name(name)
        if (
            self.shown(spelt) != own
            and self.names.true(directory, own) != own
            and self._shows(there, own) is not None
        ):
            self.names.record({directory + b"/" + own: own})
        return place

    def plain_place(self, path: bytes) -> bytes | None:
        """Where a path would be on disk by its true name, if nothing is there. Raises OSError."""
        directory, _, name = path.rpartition(b"/")
        plain = self.shown(name)
        place = self.at(directory)
        known = self.names.true(directory, plain)
        if not _may_stand(plain) or known not in (None, name):
            return None
        return place + b"/" + name if self._is_free(place + b"/" + plain) else None

    def planned(self, path: bytes) -> bytes:
        """Where something new would be put, with nothing recorded. Raises OSError."""
        plain = self.plain_place(path)
        if plain is not None:
            return plain
        directory, _, name = path.rpartition(b"/")
        return self.at(directory) + b"/" + own_name(name)

    def _is_free(self, path: bytes) -> bool:
        try:
            self.inner.lstat(path)
        except FileNotFoundError:
            return True
        return False

    # The file system

    def spelling(self, path: bytes) -> bytes:
        self.at(path)
        return os.path.basename(path)

    def lstat(self, path: bytes) -> Stat:
        return self.inner.lstat(self.at(path))

    def scan(self, directory: bytes) -> list[tuple[bytes, Stat]]:
        listing = self.inner.scan(self.at(directory))
        covered = bool(self._split(directory + b"/.")[1])
        if not covered or all(n.isascii() and b".case-" not in n for n, _ in listing):
            return listing
        shown = {self.shown(name): stat for name, stat in listing}
        if len(shown) < len(listing):
            raise OSError(errno.EILSEQ, "two names differ in how Unicode writes them alone")
        found = []
        for name, stat in shown.items():
            true = self._true(directory, name, shown.__contains__)
            path = directory + b"/" + true
            # Of its own, or taken for one if the plain one had not been there.
            tells = name == own_name(true) or (name == true and true_of_own(name) is not None)
            if tells and self.names.get(path) is None:
                self.names.seen[path] = name
            found.append((true, stat))
        return found

    def open(self, path: bytes) -> Reader:
        return self.inner.open(self.at(path))

    def readlink(self, path: bytes) -> bytes:
        return self.inner.readlink(self.at(path))

    def write_new(
        self, path: bytes, parts: Iterable[bytes | memoryview], mode: int, mtime_ns: int
    ) -> Stat:
        return self._put(
            path,
            lambda place: self.inner.write_new(place, parts, mode, mtime_ns),
            self.inner.unlink,
        )

    def write_at(self, path: bytes, offset: int, parts: Iterable[bytes | memoryview]) -> None:
        self.inner.write_at(self.at(path), offset, parts)

    def symlink(self, target: bytes, path: bytes, mtime_ns: int) -> Stat:
        return self._put(
            path, lambda place: self.inner.symlink(target, place, mtime_ns), self.inner.unlink
        )

    def mkdir(self, path: bytes, mode: int = 0o777) -> None:
        self._put(path, lambda place: self.inner.mkdir(place, mode), self.inner.rmdir)

    def rename_new(self, source: bytes, target: bytes) -> None:
        place = self._leave(source)
        other = self._other_spelling(place, target)
        if other is not None:
            self.inner.rename(place, other)
        else:
            self._put_by_rename(place, target)

    def _other_spelling(self, place: bytes, target: bytes) -> bytes | None:
        """Where what is at a place gets the name ``target`` by a change of its spelling alone."""
        directory, _, name = target.rpartition(b"/")
        there, _, spelt = place.rpartition(b"/")
        if not self._split(target)[1] or self.at(directory) != there or not self.is_plain(target):
            return None
        try:
            same = self.inner.spelling(there + b"/" + name) == spelt
        except FileNotFoundError:
            return None
        return there + b"/" + name if same and self.shown(spelt) != name else None

    def exchange(self, one: bytes, other: bytes) -> None:
        self.inner.exchange(self.at(one), self.at(other))

    def rename(self, source: bytes, target: bytes) -> None:
        place = self._leave(source)
        try:
            self.inner.rename(place, self.at(target))
        except FileNotFoundError:
            self._put_by_rename(place, target)

    def unlink(self, path: bytes) -> None:
        self.inner.unlink(self._leave(path))

    def rmdir(self, path: bytes) -> None:
        self.inner.rmdir(self._leave(path))

    def set_attributes(self, path: bytes, *, mode: int | None, mtime_ns: int | None) -> None:
        self.inner.set_attributes(self.at(path), mode=mode, mtime_ns=mtime_ns)

    def barrier(self, directory: bytes) -> None:
        self.inner.barrier(self._at(directory))  # in a thread of its own, maybe

    def fsync(self, path: bytes) -> None:
        self.inner.fsync(self.at(path))

    def free_space(self, path: bytes) -> int:
        return self.inner.free_space(self.at(path))
