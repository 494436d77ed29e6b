"""A worker process: reads a function and an item, answers with the result, until its input ends.

``Worker`` is the parent's end and ``serve`` the child's. The child is a fresh interpreter with
pipes of its own, not a fork (the parent may have threads) and not ``multiprocessing``, whose
children import the parent's ``__main__`` again: a console script, ``python -m pytest`` or the
program that embeds tcfs. Functions therefore travel by name and cannot live in ``__main__``.

On the wire, both ways: the length in 8 bytes, then a pickle. Only the parent writes to a child,
and the child has the parent's rights, so what is unpickled comes from tcfs itself.
"""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tcfs.errors import LocalFileError, TcfsError
from tcfs.host import native, room

if TYPE_CHECKING:
    from tcfs.host.room import Arena

_START: Final = "from tcfs.host.worker import serve; serve({shared})"


class WorkerDied(LocalFileError):
    """A worker process ended in the middle of its work."""

    code = "worker_died"
    default_remedy = (
        "It was killed, perhaps for lack of memory. What was finished is kept: "
        "run the command again, with fewer workers if it happens again."
    )


class Worker:
    """One worker process. ``call`` is for one thread at a time; ``stop`` for any.

    The child ends when its input does: when it is stopped, and when the parent dies, however.

    Args:
        arena: memory that it is to share.
    """

    def __init__(self, arena: Arena | None = None) -> None:
        # Not at the top: the child, which is to start fast, has no use for it.
        from tcfs.host.child import pipes_of, start_python

        shared = -1 if arena is None else arena.fd
        process = start_python(
            _START.format(shared=shared), pass_fds=() if arena is None else (shared,)
        )
        self._process = process
        self._requests, self._answers = pipes_of(process)
        self._in_step = True

    @property
    def usable(self) -> bool:
        """Whether another call can follow: the last one was answered to the end."""
        return self._in_step

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def call(self, function: Callable[[Any], Any], item: Any) -> Any:
        """``function(item)``, run there. Raises what it raised, or WorkerDied."""
        request = pickle.dumps((function, item), pickle.HIGHEST_PROTOCOL)
        self._in_step = False
        try:
            _send(self._requests.fileno(), request)
            answer = _receive(self._answers.fileno())
        except (BrokenPipeError, EOFError):
            raise WorkerDied(f"a worker process died ({_ending(self._process.wait())})") from None
        self._in_step = True
        good, value = pickle.loads(answer)  # noqa: S301 (our own child wrote it)
        if good:
            return value
        raise value

    def stop(self, *, kill: bool) -> None:
        """End the process and wait for it; without ``kill``, only when it is idle."""
        if kill:
            self._process.kill()
        else:
            self._requests.close()
        self._process.wait()

    def close(self) -> None:
        """Give back the pipes, once the process has ended and no call is under way."""
        self._requests.close()
        self._answers.close()


def serve(shared: int = -1) -> None:
    """The child's main loop. ``shared`` is the descriptor of an arena."""
    room.attach(shared)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a worker makes lives for one item, and is freed by its references alone.
    gc.disable()
    # In the middle of an item as well: the next run is not to find us still writing.
    parent = os.getppid()
    native.die_with_parent()
    if os.getppid() != parent:
        return
    # Above 2, even where the parent was started without a standard error.
    requests, answers = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
    # Whatever a function reads or prints must not touch these pipes: nothing to read, and what is
    # printed goes where the parent's complaints go.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # if 2 was closed, it is what has just been opened
    if null > 2:
        os.close(null)
    while True:
        try:
            _send(answers, _answer(_receive(requests)))
        except (EOFError, BrokenPipeError):
            gc.freeze()  # or Python would look for cycles once more while it ends
            return


def _answer(request: bytearray) -> bytes:
    try:
        function, item = pickle.loads(request)  # noqa: S301 (our own parent wrote it)
        return pickle.dumps((True, function(item)), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 (it is raised again, in the parent)
        where = "".join(traceback.format_exception(error))
        error.add_note(f"In a worker process:\n{where}")
        return _pickled_error(error)


def _pickled_error(error: BaseException) -> bytes:
    try:
        text = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(text)  # noqa: S301 (some exceptions can be written but not read)
    except Exception:  # noqa: BLE001 (a pickle can fail in any way)
        plain = TcfsError(f"{type(error).__name__} in a worker process: {error}")
        return pickle.dumps((False, plain), pickle.HIGHEST_PROTOCOL)
    return text


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _send(fd: int, data: bytes) -> None:
    if len(data) < 65536:
        rest = memoryview(len(data).to_bytes(8, "big") + data)
    else:  # joining would copy much
        _send_all(fd, memoryview(len(data).to_bytes(8, "big")))
        rest = memoryview(data)
    _send_all(fd, rest)


def _send_all(fd: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(fd, rest) :]


def _receive(fd: int) -> bytearray:
    return _receive_exactly(fd, int.from_bytes(_receive_exactly(fd, 8), "big"))


def _receive_exactly(fd: int, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = os.readv(fd, [view])
        if not count:
            raise EOFError
        view = view[count:]
    return data
