"""An exclusive lock on a path, between processes and within one.

The lock is ``flock`` on a file that stays: it ends with its process, however that ends, and is
neither inherited through exec nor kept by a forked child. The file names the holder's pid.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tcfs.errors import BusyError
from tcfs.model.paths import show

_held: dict[int, tuple[int, int, int]] = {}
"""Descriptor -> (device, inode, thread) of every lock that this process holds."""


@contextmanager
def file_lock(path: bytes, wait: bool) -> Iterator[None]:
    """Hold the lock on ``path``, whose directory exists, while the context lasts.

    Raises:
        BusyError: another holder has it and ``wait`` is false; or this very thread has it, which
            would wait for itself.
        OSError: the file cannot be made or locked.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        status = os.fstat(fd)
        mine = (status.st_dev, status.st_ino, threading.get_ident())
        if mine in list(_held.values()):
            raise _busy(fd, path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise _busy(fd, path) from None
        _held[fd] = mine
    except BaseException:
        os.close(fd)
        raise
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        if _held.pop(fd, None):  # a forked child has closed it already
            try:
                os.ftruncate(fd, 0)
                fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                os.close(fd)


def _busy(fd: int, path: bytes) -> BusyError:
    text = os.pread(fd, 20, 0).strip()
    holder = int(text) if text.isdigit() else None
    who = f"process {holder}" if holder else "another process"
    return BusyError(
        f"{who} holds the lock {show(path)}",
        details={"pid": holder, "lock": show(path)},
    )


def _release_in_child() -> None:
    # The lock belongs to the open file, which parent and child now share: the child gives up its
    # share, or the lock would outlive the parent.
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
