"""Large files, written in pieces by whichever worker has time, and verified as they become whole.

A piece is a window of a file: a few ranges of packs, which a worker decompresses and writes at its
place. Pieces of one file, and of several, are under way at once. What is complete from the start on
is read back, from the system's cache, and hashed: the hash of the whole is what its author signed.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final, NamedTuple, TypeVar

from blake3 import blake3

from tcfs.content.restore import DISK_FULL, Part, PieceOrder, RestoreBatch, restore
from tcfs.errors import IntegrityError, StoreError, TcfsError
from tcfs.host.base import Executor, FileSystem, Reader, Stat
from tcfs.host.room import Room
from tcfs.sync.download import SEALED_WINDOW, WINDOW, Download, FetchedFrames, Located
from tcfs.sync.wanted import Wanted

T = TypeVar("T")

AHEAD: Final = 2
"""Pieces for each worker in flight."""
READ_AHEAD: Final = 3
"""Pieces whose packs are read before a worker can take them."""
SMALLEST_WINDOW: Final = 1 << 20
_READ_BACK: Final = 1 << 20

Result = Stat | OSError | TcfsError


class Step(NamedTuple):
    """Bytes of a file that were written, or, at its end, what became of it."""

    file: LargeFile
    size: int
    result: Result | None = None


@dataclass(slots=True, eq=False)
class LargeFile:
    """A file that is put together under a temporary name.

    ``flying`` counts the pieces that were begun and are not written. ``error`` is what went wrong
    first: nothing more of it is begun then.
    """

    wanted: Wanted
    temp: bytes
    flying: int = 0
    all_begun: bool = False
    error: OSError | TcfsError | None = None
    hashed: int = 0
    hasher: blake3 = field(default_factory=blake3)
    reader: Reader | None = None
    waiting: dict[int, int] = field(default_factory=dict)
    """Where pieces end that were written before the one in front of them, by their start."""

    @property
    def over(self) -> bool:
        """Whether nothing of it will be written any more."""
        return not self.flying and (self.all_begun or self.error is not None)

    def written(self, files: FileSystem, start: int, end: int) -> None:
        """These bytes are there: hash what is complete by now. Raises OSError."""
        self.waiting[start] = end
        while (end_ := self.waiting.pop(self.hashed, None)) is not None:
            self._hash(files, end_)

    def _hash(self, files: FileSystem, end: int) -> None:
        if self.reader is None:
            self.reader = files.open(self.temp)
        buffer = memoryview(bytearray(min(_READ_BACK, end - self.hashed)))
        while self.hashed < end:
            self.reader.seek(self.hashed)
            size = self.reader.readinto(buffer[: end - self.hashed])
            if not size:
                raise _not_as_written()
            self.hasher.update(buffer[:size])
            self.hashed += size

    def close(self) -> None:
        """Nothing is read back any more."""
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()


class _Piece(NamedTuple):
    """A window of a file, and where its bytes begin and end in the file."""

    file: LargeFile
    chunks: list[Located]
    start: int
    end: int


class PieceWriter:
    """Writes large files. For one thread.

    Args:
        memory: bytes that may be in flight.
    """

    def __init__(
        self, files: FileSystem, download: Download, executor: Executor, memory: int
    ) -> None:
        self._files = files
        self._download = download
        self._executor = executor
        room = memory // (4 * AHEAD * executor.workers)
        self._window = min(max(room, SMALLEST_WINDOW), SEALED_WINDOW)
        self._serials = count(1)
        self._flying: dict[int, tuple[_Piece, Room]] = {}
        self._over: list[LargeFile] = []

    def write(self, large: Iterable[LargeFile]) -> Iterator[Step]:
        """Write these files; one step with a result for each, in any order.

        They are made when it is their turn, and a file that fails is removed.

        Raises:
            StoreError: the store failed in a way that trying again may mend.
            CancelledError: the caller asked to stop.
        """
        for done in self._executor.map(restore, self._batches(large), ahead=AHEAD):
            piece, room = self._flying.pop(done.serial)
            room.release()
            file = piece.file
            try:
                for wrong in done.outcomes:
                    assert isinstance(wrong, OSError | IntegrityError)
                    raise wrong
                if file.error is None:
                    file.written(self._files, piece.start, piece.end)
            except (OSError, IntegrityError) as error:
                file.error = file.error or error
            self._landed(file)
            yield Step(file, piece.end - piece.start)
            yield from self._results()
        yield from self._results()

    def _batches(self, large: Iterable[LargeFile]) -> Iterator[RestoreBatch]:
        """What workers need, the packs of a few pieces read ahead."""
        several = self._executor.workers > 1
        pieces = _in_turn(map(self._cut, large), self._executor.workers)
        alone = ([(piece, piece.chunks)] for piece in pieces)
        for piece, begun in self._download.read_ahead(alone, READ_AHEAD * several):
            file = piece.file
            if file.error is not None:
                self._landed(file)
                continue
            held = self._download.finish(begun, self._executor.room)
            try:
                order = PieceOrder(file.temp, piece.start, _parts(piece, held))
            except TcfsError as error:
                file.error = error
                held.room.release()
                self._landed(file)
                continue
            serial = next(self._serials)
            self._flying[serial] = piece, held.room
            hasher = self._download.hasher
            yield RestoreBatch(serial, self._files, hasher, held.room, held.frames, [], order)

    def _cut(self, file: LargeFile) -> Iterator[_Piece]:
        """A file's pieces in order, each counted as flying, until it fails."""
        version, start = file.wanted.wanted_version, 0
        try:
            self._files.write_new(file.temp, (), 0o600, 0)
            for window in self._download.windows(version, self._window, WINDOW):
                end = start + sum([address.length for _, address in window])
                if end > version.manifest.file_size:
                    break  # what its chunks are is found out at the end
                file.flying += 1
                yield _Piece(file, window, start, end)
                if file.error is not None:
                    return
                start = end
            file.all_begun = True
        except (OSError, IntegrityError) as error:
            file.error = file.error or error
        self._note(file)

    def _landed(self, file: LargeFile) -> None:
        file.flying -= 1
        self._note(file)

    def _note(self, file: LargeFile) -> None:
        full = isinstance(file.error, OSError) and file.error.errno in DISK_FULL
        if (file.over or full) and file not in self._over:
            self._over.append(file)

    def _results(self) -> Iterator[Step]:
        over, self._over = self._over, []
        for file in over:
            result: Result
            try:
                result = file.error or self._finished(file)
            except (OSError, IntegrityError, StoreError) as error:
                if isinstance(error, TcfsError) and error.retryable:
                    raise
                result = error
            file.close()
            if not isinstance(result, Stat):
                with suppress(OSError):
                    self._files.unlink(file.temp)
            yield Step(file, 0, result)

    def _finished(self, file: LargeFile) -> Stat:
        """Verify the whole and give it its attributes.

        Raises:
            IntegrityError: it is not what was signed; says which chunk is wrong, if one is.
            StoreError: that could not be found out.
            OSError: it is not what was written, or cannot be changed.
        """
        version = file.wanted.wanted_version
        manifest = version.manifest
        if file.hashed != manifest.file_size or file.hasher.digest() != manifest.file_hash:
            for _ in self._download.stream(version):
                pass  # verifies every chunk, then the whole
            raise _not_as_written()
        self._files.set_attributes(file.temp, mode=manifest.mode, mtime_ns=manifest.mtime_ns)
        return self._files.lstat(file.temp)


def _in_turn(sources: Iterator[Iterator[T]], together: int) -> Iterator[T]:
    """What these yield, from ``together`` of them in turn: two writers of one file wait."""
    turn = deque(islice(sources, together))
    while turn:
        source = turn.popleft()
        for item in source:
            yield item
            turn.append(source)
            break
        else:
            turn.extend(islice(sources, 1))


def _parts(piece: _Piece, held: FetchedFrames) -> list[Part]:
    """Where the piece's chunks are in its frames. Raises what kept one from being had."""
    parts = []
    for chunk, _ in piece.chunks:
        part = held.parts.get(chunk)
        if part is None:
            raise held.failed[chunk]
        parts.append(part)
    return parts


def _not_as_written() -> OSError:
    return OSError(errno.EIO, "what was read back is not what was written")
