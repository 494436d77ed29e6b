"""System calls that Python does not offer, by ctypes, which is loaded at the first call.

Each function says whether the system has the call at all, so that the caller can fall back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

PLATFORM: Final[str] = sys.platform

_AT_FDCWD: Final = -100
_LINUX_NOREPLACE: Final = 1
_LINUX_SET_PDEATHSIG: Final = 1
_LINUX_EXCHANGE: Final = 2
_GLIBC_MMAP_THRESHOLD: Final = -3
_GLIBC_TRIM_THRESHOLD: Final = -1
_DARWIN_SWAP: Final = 2
_DARWIN_EXCL: Final = 4
_DARWIN_FULLSYNC_WAIT: Final = 3
_ATTR_BIT_MAP_COUNT: Final = 5
_ATTR_CMN_NAME: Final = 1
_FSOPT_NOFOLLOW: Final = 1
_LENGTH_BYTES: Final = 4
_NAME_ANSWER: Final = 1100
"""Bytes for the answer: names have at most 255 characters of UTF-8."""

LARGE_BLOCK: Final = 20 << 20
"""Bytes: more than a pull reads at once, so that the memory of reads is still used again."""
_KEPT: Final = 32 << 20
"""Bytes of free memory at the end of the heap that malloc keeps for the next block."""

# What kernels, old C libraries and file systems answer to a call or flag they do not know.
_UNSUPPORTED: Final = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP))


def rename_exclusive(source: bytes, target: bytes) -> bool:
    """Rename only if ``target`` does not exist; False if the system cannot. Raises OSError."""
    return _rename(source, target, _LINUX_NOREPLACE, _DARWIN_EXCL)


def rename_exchange(one: bytes, other: bytes) -> bool:
    """Swap two names; False if the system cannot. Raises OSError."""
    return _rename(one, other, _LINUX_EXCHANGE, _DARWIN_SWAP)


def sync_volume(fd: int) -> bool:
    """Make the file system of ``fd`` durable; False if the system cannot. Raises OSError.

    Linux: ``syncfs``, which reports failed write-backs since Linux 5.8. macOS:
    ``fsync_volume_np`` with full synchronisation of the drive, waited for.
    """
    call, arguments = _sync_call()
    if call is None:
        return False
    code = _errno_of(call(fd, *arguments))
    if code in _UNSUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code))
    return True


def name_of(path: bytes) -> bytes | None:
    """The last name of a path as the file system has it; None if the system cannot say.

    macOS alone: getattrlist(2), ATTR_CMN_NAME, not through a symlink. Raises OSError.
    """
    call = _name_call()
    if call is None:
        return None
    if b"\0" in path:  # C would silently cut the name there
        raise ValueError("embedded null byte")
    import ctypes

    wanted = struct.pack("=HHIIIII", _ATTR_BIT_MAP_COUNT, 0, _ATTR_CMN_NAME, 0, 0, 0, 0)
    answer = ctypes.create_string_buffer(_NAME_ANSWER)
    code = _errno_of(call(path, wanted, answer, _NAME_ANSWER, _FSOPT_NOFOLLOW))
    if code in _UNSUPPORTED:
        return None
    if code:
        raise OSError(code, os.strerror(code), path)
    # The answer's length, then where the name is, from there on, and its length with a NUL.
    _, offset, length = struct.unpack_from("=IiI", answer)
    start = _LENGTH_BYTES + offset
    return answer.raw[start : start + length].rstrip(b"\0")


def die_with_parent() -> None:
    """Ask to be killed when the parent ends, however it ends. Linux alone has that.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if PLATFORM == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_LINUX_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@cache
def give_back_large_blocks() -> None:
    """Have each freed block of memory of ``LARGE_BLOCK`` bytes or more go back to the system.

    glibc's malloc stops doing so for sizes that were freed once, up to 32 MiB; then packs
    leave holes that nothing else fits into. A push of large files took 75 MB
    more. Other C libraries have no such call and no such habit.

    Who sets that threshold ends the other one's growth, too: of what was freed at the end of the
    heap all but 128 KiB would go back each time, and new memory is filled at half the speed.

    Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    call = getattr(_library(), "mallopt", None) if PLATFORM == "linux" else None
    if call is not None:
        call(_GLIBC_MMAP_THRESHOLD, LARGE_BLOCK)
        call(_GLIBC_TRIM_THRESHOLD, _KEPT)


def full_fsync(fd: int) -> None:
    """``fsync`` that also empties the drive's cache, where that is another call (macOS)."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(fd, full)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:  # network volumes have no such call
                raise
        else:
            return
    os.fsync(fd)


def _rename(source: bytes, target: bytes, linux_flag: int, darwin_flag: int) -> bool:
    call = _rename_call()
    if call is None:
        return False
    if b"\0" in source or b"\0" in target:  # C would silently cut the name there
        raise ValueError("embedded null byte")
    flag = darwin_flag if PLATFORM == "darwin" else linux_flag
    code = _errno_of(call(source, target, flag))
    if code in _UNSUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code), source, None, target)
    return True


def _errno_of(result: int) -> int:
    if result == 0:
        return 0
    import ctypes

    return ctypes.get_errno()


def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


@cache
def _rename_call() -> Callable[[bytes, bytes, int], int] | None:
    import ctypes

    library = _library()
    if PLATFORM == "darwin":
        call = getattr(library, "renamex_np", None)
        if call is not None:
            call.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint)
            call.restype = ctypes.c_int
        return call
    at = getattr(library, "renameat2", None)  # glibc from 2.28
    if at is None:
        return None
    at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    at.restype = ctypes.c_int

    def call_at(source: bytes, target: bytes, flag: int) -> int:
        return at(_AT_FDCWD, source, _AT_FDCWD, target, flag)  # type: ignore[no-any-return]

    return call_at


@cache
def _name_call() -> Callable[..., int] | None:
    if PLATFORM != "darwin":
        return None
    import ctypes

    call = getattr(_library(), "getattrlist", None)
    if call is not None:
        text = ctypes.c_char_p
        call.argtypes = (text, text, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_ulong)
        call.restype = ctypes.c_int
    return call


@cache
def _sync_call() -> tuple[Callable[..., int] | None, tuple[int, ...]]:
    import ctypes

    name, arguments = "syncfs", tuple[int, ...]()
    if PLATFORM == "darwin":
        name, arguments = "fsync_volume_np", (_DARWIN_FULLSYNC_WAIT,)
    call = getattr(_library(), name, None)
    if call is not None:
        call.argtypes = (ctypes.c_int,) * (1 + len(arguments))
        call.restype = ctypes.c_int
    return call, arguments
