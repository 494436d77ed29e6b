"""Looking ahead: other processes list the directories of a tree before they are asked for.

Listing and stat are most of a look at a tree in which little changed, and hold the interpreter's
lock. What such a process tells is what stood there some time before, as if the walk had been
quicker. What none tells of, or cannot because it died, is listed when it is asked for.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tcfs.host.child import has_interpreter, pipes_of, start_python
from tcfs.host.listing import LENGTH_BYTES

if TYPE_CHECKING:
    from tcfs.host.base import Ahead
    from tcfs.host.listing import Listed, Seen

PARTS: Final = 2
"""Processes. One needs two to three times as long as comparing what it tells takes."""
_START: Final = "from tcfs.host.listing import serve; serve()"


def look_ahead(top: bytes, avoided: Sequence[bytes]) -> Ahead | None:
    """Begin to look at the tree below ``top``; None if no process can be started.

    Args:
        avoided: a directory whose path holds any of these is not looked into.
    """
    if not has_interpreter():
        return None
    started = list[AheadProcess]()
    try:
        for part in range(PARTS):
            started.append(AheadProcess(top, avoided, part))
    except OSError:  # no process or pipe more: the rest is listed when it is asked for
        pass
    return AheadProcesses(started) if started else None


class AheadProcesses:
    """``Ahead`` by several processes, each of which looks at a part of the tree."""

    def __init__(self, processes: Sequence[AheadProcess]) -> None:
        self._processes = processes

    def entries(self, directory: bytes) -> list[Seen] | None:
        for process in self._processes:
            found = process.entries(directory)
            if found is not None:
                return found
        return None

    @property
    def pids(self) -> list[int]:
        """Their ids."""
        return [process.pid for process in self._processes]

    def close(self) -> None:
        for process in self._processes:
            process.close()


class AheadProcess:
    """``Ahead`` of one part, by a process that ends when this one does, at its next answer."""

    def __init__(self, top: bytes, avoided: Sequence[bytes], part: int) -> None:
        self._top = top
        self._process = start_python(_START, site=False)
        requests, self._answers = pipes_of(self._process)
        self._listed: list[Listed] = []
        self._more = True
        try:
            with requests:
                requests.write(marshal.dumps((top, list(avoided), part, PARTS)))
        except BrokenPipeError:
            self._more = False

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def entries(self, directory: bytes) -> list[Seen] | None:
        wanted = _place(directory)
        while self._listed or self._receive():
            path, code, entries = self._listed[-1]
            if _place(path) > wanted:
                return None
            self._listed.pop()
            if path == directory:
                if code:
                    raise OSError(code, os.strerror(code), self._top + b"/" + directory)
                return entries
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()

    def _receive(self) -> bool:
        """Take what comes next; False if nothing does."""
        while self._more and not self._listed:
            head = self._read(LENGTH_BYTES)
            data = self._read(int.from_bytes(head, "big"))
            if self._more:
                self._listed = marshal.loads(data)
                self._listed.reverse()
        return bool(self._listed)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view and self._more:
            count = self._answers.readinto(view)
            self._more = bool(count)
            view = view[count or 0 :]
        return data


def _place(directory: bytes) -> bytes:
    """Where what is in a directory comes, in the order of paths."""
    return directory and directory + b"/"
