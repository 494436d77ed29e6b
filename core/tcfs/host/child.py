"""Starting fresh interpreters that work for this one, with a pipe to them and a pipe back."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from io import FileIO
from typing import Final, cast

from tcfs.errors import LocalFileError

_SET_PIPE_SIZE: Final[int | None] = getattr(fcntl, "F_SETPIPE_SZ", None)
_PIPE_SIZE: Final = 1 << 20
_HOME: Final = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
"""Where the package ``tcfs`` is."""


def start_python(
    code: str, *, site: bool = True, pass_fds: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """A process that runs ``code`` with pipes as standard input and output.

    It imports from where this process does. Standard error is ours.

    Args:
        site: False leaves out what installations add to each start of Python.
        pass_fds: descriptors that it is to have, too.

    Raises:
        LocalFileError: there is no interpreter to start.
        OSError: the system starts none.
    """
    if not has_interpreter():
        raise LocalFileError(
            "there is no Python interpreter to start workers with",
            remedy="Set the number of workers to 1.",
        )
    # Without its site, an interpreter knows nothing of how the installation finds this package.
    path = [*([] if site else [_HOME]), *map(str, sys.path)]
    # -I: neither the current directory nor PYTHON* variables choose what is imported there.
    flags = ["-I"] if site else ["-I", "-S"]
    start = f"import sys; sys.path[:] = {path!a}; {code}"
    process = subprocess.Popen(
        [sys.executable, *flags, "-c", start],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        process_group=0,  # Ctrl-C is ours
        pass_fds=pass_fds,
    )
    for pipe in pipes_of(process):
        _widen(pipe.fileno())
    return process


def has_interpreter() -> bool:
    """False where Python is embedded, or packed into one file."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def pipes_of(process: subprocess.Popen[bytes]) -> tuple[FileIO, FileIO]:
    """The pipe to it, and the pipe back."""
    return cast(FileIO, process.stdin), cast(FileIO, process.stdout)


def _widen(fd: int) -> None:
    """A pipe that holds much, where the system has such.

    Every write or read that has to wait gives up the interpreter's lock, and with a busy thread
    beside it waits up to 5 ms to get it back: with 64 KiB at a time that adds up.
    """
    if _SET_PIPE_SIZE is not None:
        with suppress(OSError):  # there is a limit for all pipes of a user
            fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_SIZE)
