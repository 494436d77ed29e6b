"""What paths are called on a disk that takes several names for one; see ``spelt``."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from typing import Protocol

from tcfs.model.spelling import composed


class Record(Protocol):
    """Where names are remembered; durably, when a call returns.

    ``stamp`` changes with what other processes record; ``roots`` are directories to be covered.
    """

    def stamp(self) -> object: ...
    def roots(self) -> list[bytes]: ...
    def all(self) -> dict[bytes, bytes]: ...
    def record(self, names: Mapping[bytes, bytes]) -> None: ...
    def forget(self, paths: Collection[bytes]) -> None: ...


class Names:
    """True paths, absolute, with the last name each has on disk where that is another.

    Attributes:
        seen: names that tell by themselves, and are not recorded yet.
        given: what got a name of its own since this was last emptied.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._record = record
        self._stamp: object = None
        self._names: dict[bytes, bytes] = {}
        self._true: dict[tuple[bytes, bytes], bytes] = {}
        self.roots: list[bytes] = []
        self.seen: dict[bytes, bytes] = {}
        self.given: dict[bytes, bytes] = {}

    def __getstate__(self) -> dict[bytes, bytes]:
        """For a worker process: what is known, and nowhere to record."""
        return self._names

    def __setstate__(self, names: dict[bytes, bytes]) -> None:
        self._record, self._stamp, self.roots, self.seen, self.given = None, None, [], {}, {}
        self._take(names)

    def refresh(self) -> bool:
        """Take up what another process recorded; says whether anything may be new."""
        if self._record is None or (stamp := self._record.stamp()) == self._stamp:
            return False
        self._take(self._record.all())
        self.roots = self._record.roots()
        self._stamp = stamp
        return True

    def _take(self, names: dict[bytes, bytes]) -> None:
        self._names, self._true = {}, {}
        for path, name in names.items():
            self._put(path, name)

    def _put(self, path: bytes, name: bytes) -> None:
        self._drop(path)
        directory, _, true = path.rpartition(b"/")
        self._names[path] = name
        self._true[directory, composed(name)] = true

    def _drop(self, path: bytes) -> None:
        name = self._names.pop(path, None)
        if name is not None:
            directory, _, true = path.rpartition(b"/")
            key = directory, composed(name)
            if self._true.get(key) == true:
                del self._true[key]

    def _other(self, path: bytes, name: bytes) -> bytes | None:
        directory, _, true = path.rpartition(b"/")
        known = self._true.get((directory, composed(name)))
        return directory + b"/" + known if known is not None and known != true else None

    def get(self, path: bytes) -> bytes | None:
        """The last name that a path has on disk, if it is another."""
        return self._names.get(path)

    def all(self) -> dict[bytes, bytes]:
        """Every path that is spelt otherwise on disk, with its last name there."""
        return dict(self._names)

    def true(self, directory: bytes, shown: bytes) -> bytes | None:
        """The true name that was recorded for a name on disk."""
        return self._true.get((directory, shown))

    def record(self, names: Mapping[bytes, bytes]) -> None:
        """Remember what paths are called. Raises OSError in a worker process."""
        new = {path: name for path, name in names.items() if self._names.get(path) != name}
        if not new:
            return
        if self._record is None:
            raise OSError(errno.EROFS, "a worker process gives no names")
        # What is on disk by one name means one path.
        self.forget([other for path, name in new.items() if (other := self._other(path, name))])
        self._record.record(new)
        for path, name in new.items():
            self._put(path, name)

    def keep_seen(self) -> None:
        """Remember names that tell by themselves, to be looked at when a pull is done."""
        seen, self.seen = self.seen, {}
        self.record(seen)

    def forget(self, paths: Collection[bytes]) -> None:
        """These paths are called as they are, or are not there."""
        known = [path for path in paths if path in self._names]
        if known and self._record is not None:
            self._record.forget(known)
            for path in known:
                self._drop(path)
