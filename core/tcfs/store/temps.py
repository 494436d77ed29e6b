"""Names for objects being written to a directory, and the removal of what dead writers left.

Each writer holds a lock file ``<token>.lock`` for as long as it lives, however it ends, and all
its temporary files begin with that token. Files are removed only by one who has just taken their
writer's lock, so those of a live writer are safe, however old they are and wherever it runs.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from contextlib import suppress
from typing import Final

_SUFFIX: Final = b".lock"
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class TempArea:
    """The temporary files of one writer in ``directory``, which is made when it is needed."""

    def __init__(self, directory: bytes) -> None:
        self._directory = directory
        self._mutex = threading.Lock()
        self._numbers = itertools.count(1)
        self._lock = -1
        self._token = b""

    def new(self) -> bytes:
        """A path that nobody else uses. The first call removes dead writers' files.

        Raises:
            OSError: the directory cannot be made, read or written.
        """
        with self._mutex:
            if self._lock < 0:
                with suppress(FileExistsError):
                    os.mkdir(self._directory, 0o700)
                self._remove_stale()
                while not self._claim():
                    pass
        # The pid: a forked child shares the token.
        name = b"%s-%d-%d" % (self._token, os.getpid(), next(self._numbers))
        return self._directory + b"/" + name

    def close(self) -> None:
        """Give up the lock; called when nothing is being written."""
        with self._mutex:
            fd, self._lock = self._lock, -1
            if fd >= 0:
                _unlink(self._directory + b"/" + self._token + _SUFFIX)
                os.close(fd)

    def _claim(self) -> bool:
        token = os.urandom(8).hex().encode()
        path = self._directory + b"/" + token + _SUFFIX
        fd = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two calls another process may have taken it for a dead writer's.
            kept = os.path.samestat(os.fstat(fd), os.lstat(path))
        except (BlockingIOError, FileNotFoundError):
            kept = False
        except BaseException:
            os.close(fd)
            raise
        if not kept:
            os.close(fd)
            return False
        self._lock, self._token = fd, token
        return True

    def _remove_stale(self) -> None:
        names = os.listdir(self._directory)
        for name in names:
            if name.endswith(_SUFFIX):
                self._remove_if_dead(name.removesuffix(_SUFFIX), names)

    def _remove_if_dead(self, token: bytes, names: list[bytes]) -> None:
        path = self._directory + b"/" + token + _SUFFIX
        try:
            fd = os.open(path, _OPEN)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            for name in names:
                if name.startswith(token + b"-"):
                    _unlink(self._directory + b"/" + name)
            _unlink(path)  # last: without it nobody would look for the others
        finally:
            os.close(fd)


def _unlink(path: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
