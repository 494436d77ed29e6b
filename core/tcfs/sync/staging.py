"""Finished files under temporary names: what a pull places later.

The work is cut into units, each with a directory of its own among the temporary names, and done by
``content.restore``, in worker processes where there is much of it. A large file is a unit of its
own, done in pieces. Nothing in a unit's directory is anybody's only copy, at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

from msgspec import Struct

from tcfs.content.restore import (
    DISK_FULL,
    FileOrder,
    OtherContent,
    RestoreBatch,
    restore,
)
from tcfs.errors import LocalFileError, TcfsError
from tcfs.host.base import Executor, Stat
from tcfs.host.executor import SerialExecutor
from tcfs.host.room import Room
from tcfs.host.spelt import SpeltFiles
from tcfs.model.ids import RelPath
from tcfs.model.paths import show
from tcfs.model.spelling import folded
from tcfs.store.open import MIB
from tcfs.sync.download import Begun, Download, Located, not_as_signed, nowhere, together
from tcfs.sync.pieces import LargeFile, PieceWriter, Result
from tcfs.sync.wanted import Wanted
from tcfs.sync.workbench import Workbench

UNIT_FILES: Final = 1000
UNIT_BYTES: Final = 8 << 20
"""Plaintext of a unit; a few of them are in memory at a time."""
SHARED_READ: Final = 16 << 20
"""Bytes of packs up to which units share reads: to many servers a request costs more than a
mebibyte."""
SHARING: Final = 16
"""Units that share reads at most. All of them are in memory, however little of packs they need."""
READ_AHEAD: Final = 2
"""Units whose packs are read before a worker can take them, and those that share their reads."""
AHEAD: Final = 4
"""Units for each worker in flight: nearly enough for the time in which a batch is placed. With six,
files that do not compress take more than 300 MB."""
LARGE: Final = 8 << 20
"""Bytes from which a file is written in pieces."""
POOL_FILES: Final = 2000
POOL_BYTES: Final = 24 << 20
"""Work from which worker processes pay for their start."""


class Expected(NamedTuple):
    """About how many files are to be written, and their bytes."""

    files: int
    size: int

    @property
    def pays(self) -> bool:
        """Whether it is worth starting worker processes for."""
        return self.files >= POOL_FILES or self.size >= POOL_BYTES


def expected_of(wanted: Iterable[Wanted]) -> Expected:
    """The sums."""
    files = size = 0
    for w in wanted:
        files += 1
        size += w.size
    return Expected(files, size)


def comes_last(w: Wanted) -> bool:
    """Whether a file is written when all others of its pull are: in pieces."""
    return w.size >= LARGE


class Written(Struct, frozen=True, gc=False):
    """A finished file under its temporary name; ``stat`` holds once placed without a rename."""

    wanted: Wanted
    temp: bytes
    stat: Stat | None


@dataclass(slots=True)
class Staged:
    """A new directory under a temporary name, with files that are to appear with it."""

    path: RelPath
    temp: bytes
    files: list[Written] = field(default_factory=list)


@dataclass(slots=True)
class Unit:
    """Files that are written together. ``names`` are all temporary names, directories first.

    ``part`` is the number of the slice that they are from; 0 for one that came last.
    """

    wanted: list[Wanted]
    size: int
    part: int = 0
    serial: int = 0
    names: list[bytes] = field(default_factory=list)
    stages: dict[RelPath, Staged] = field(default_factory=dict)
    ordered: list[tuple[Wanted, bytes]] = field(default_factory=list)
    single: list[Written] = field(default_factory=list)
    spelt: set[bytes] = field(default_factory=set)

    @property
    def staged(self) -> list[Staged]:
        """New directories of this unit."""
        return list(self.stages.values())


class Stager:
    """Writes files under temporary names. ``new_directories`` are wanted and not on disk yet."""

    def __init__(self, bench: Workbench, new_directories: set[RelPath]) -> None:
        self._bench = bench
        self._files = bench.files
        self._new = new_directories
        self._download = Download(bench.context, bench.root.namespace)
        self._flying: dict[int, Unit] = {}
        # Handed out, and not placed yet.
        self._finished: dict[int, Unit] = {}
        self._rooms: dict[int, Room] = {}
        self._executor: Executor = SerialExecutor()
        # Units of each slice that are not placed, the one that is being cut counted as one.
        self._unplaced: dict[int, int] = {}
        self._parts = self._settled = 0

    @property
    def bytes_received(self) -> int:
        """Bytes read from the store."""
        return self._download.bytes_received

    def close(self) -> None:
        """End the workers; what was not placed is rubbish from now on."""
        self._executor.close()
        self._download.close()
        for unit in (*self._flying.values(), *self._finished.values()):
            self._dispose(unit)
        self._flying.clear()
        self._finished.clear()

    def placing(self, unit: Unit) -> None:
        """A unit is about to be placed: what then keeps its temporary name is rubbish."""
        self._finished.pop(unit.serial, None)  # a piece of a file is no unit of its own
        self._dispose(unit)

    def placed(self, unit: Unit) -> None:
        """A unit is placed, as far as it can be."""
        self._leave(unit.part)

    def _leave(self, part: int) -> None:
        left = self._unplaced.get(part, 0) - 1
        if left > 0:
            self._unplaced[part] = left
        else:
            self._unplaced.pop(part, None)

    def settled_slices(self) -> int:
        """How many first slices are placed, large files left out, and were not told of."""
        settled = min(self._unplaced, default=self._parts + 1) - 1
        told, self._settled = self._settled, settled
        return settled - told

    def write(
        self, slices: Iterable[list[Wanted]], expected: Expected, files: int, size: int
    ) -> Iterator[Unit]:
        """Units of these, in any order, none larger than ``files`` and ``size`` bytes if it can be.

        What cannot be had or written is a problem of the workbench, and the rest goes on.

        Args:
            slices: drawn as workers need them. All of one come before all of the next.
            expected: about how many there are: whether worker processes pay.

        Raises:
            LocalFileError: the disk is full.
            StoreError: the store failed.
        """
        if expected.pays:
            self._executor = self._bench.context.executor
        large: list[Wanted] = []
        units = self._cut(slices, large, min(files, UNIT_FILES), min(size, UNIT_BYTES))
        for done in self._executor.map(restore, self._orders(units), ahead=AHEAD):
            self._rooms.pop(done.serial).release()
            unit = self._finished[done.serial] = self._flying.pop(done.serial)
            self._take(unit, done.outcomes)
            yield unit
        yield from self._write_large(large)

    def _cut(
        self, slices: Iterable[list[Wanted]], large: list[Wanted], files: int, size: int
    ) -> Iterator[Unit]:
        """Units of the small files of slices, and the large ones aside."""
        for wanted in slices:
            self._parts += 1
            self._unplaced[self._parts] = 1
            large += [w for w in wanted if comes_last(w)]
            for unit in _units([w for w in wanted if not comes_last(w)], files, size):
                unit.part = self._parts
                self._unplaced[unit.part] += 1
                yield unit
            self._leave(self._parts)

    def _orders(self, units: Iterator[Unit]) -> Iterator[RestoreBatch]:
        """What workers need for these units, which share reads of packs, some of them ahead."""

        def located(unit: Unit) -> list[Located]:
            files = [w.wanted_version.manifest for w in unit.wanted if w.kind == "file"]
            return self._download.locate(chain.from_iterable(m.chunks for m in files))

        groups = together(((unit, located(unit)) for unit in units), SHARED_READ, SHARING)
        ahead = READ_AHEAD if self._executor.workers > 1 else 0
        for unit, begun in self._download.read_ahead(groups, ahead):
            yield self._order(unit, begun)

    def _order(self, unit: Unit, begun: Begun) -> RestoreBatch:
        """What a worker needs for a unit. The directories for it are made here."""
        place = self._begin(unit)
        held = self._download.finish(begun, self._executor.room)
        self._rooms[unit.serial] = held.room
        orders = []
        for number, w in enumerate(unit.wanted):
            manifest = w.wanted_version.manifest
            try:
                parts = [held.parts[chunk] for chunk in manifest.chunks]
            except KeyError as missing:
                chunk = missing.args[0]
                self._bench.failure(w.path, held.failed.get(chunk) or nowhere(chunk))
                continue
            temp = self._temp(unit, place, number, w.path)
            orders.append(
                FileOrder(
                    temp,
                    manifest.mode,
                    manifest.mtime_ns,
                    manifest.file_size,
                    manifest.file_hash,
                    parts,
                    manifest.target,
                )
            )
            unit.ordered.append((w, temp))
        hasher = self._download.hasher
        return RestoreBatch(unit.serial, self._files, hasher, held.room, held.frames, orders)

    def _begin(self, unit: Unit) -> bytes:
        """Make a unit's directory among the temporary names."""
        unit.serial, place = self._bench.unit_place()
        self._flying[unit.serial] = unit
        self._files.mkdir(place, 0o700)
        unit.names.append(place)
        return place

    def _temp(self, unit: Unit, place: bytes, number: int, path: RelPath) -> bytes:
        """A temporary name: inside the directory if that is new, else the unit's own."""
        directory, _, name = path.rpartition(b"/")
        if directory not in self._new or not self._stays_plain(unit, path):
            temp = b"%s/%d" % (place, number)
        else:
            stage = unit.stages.get(RelPath(directory))
            if stage is None:
                stage = Staged(RelPath(directory), b"%s/%dd" % (place, number))
                self._files.mkdir(stage.temp, 0o700)
                unit.names.append(stage.temp)
                unit.stages[stage.path] = stage
            temp = stage.temp + b"/" + name
        unit.names.append(temp)
        return temp

    def _stays_plain(self, unit: Unit, path: RelPath) -> bool:
        """Whether this name can be written beside the others of its unit, and placed with them."""
        if not isinstance(self._files, SpeltFiles):
            return True
        directory, slash, name = path.rpartition(b"/")
        key = directory + slash + folded(name)
        if not self._files.is_plain(self._bench.local(path)) or key in unit.spelt:
            return False
        unit.spelt.add(key)
        return True

    def _dispose(self, unit: Unit) -> None:
        for name in unit.names:
            self._bench.dispose_later(name)

    def _take(self, unit: Unit, outcomes: Sequence[Result]) -> None:
        """Sort what a worker answered. Raises LocalFileError if the disk is full."""
        for (w, temp), outcome in zip(unit.ordered, outcomes, strict=False):
            if isinstance(outcome, Stat):
                written = Written(w, temp, outcome)
                directory = RelPath(w.path.rpartition(b"/")[0])
                stage = unit.stages.get(directory)
                if stage is not None and temp.startswith(stage.temp + b"/"):
                    stage.files.append(written)
                else:
                    unit.single.append(written)
            elif isinstance(outcome, OtherContent):
                self._bench.failure(w.path, not_as_signed(w.wanted_version))
            elif isinstance(outcome, TcfsError):
                self._bench.failure(w.path, outcome)
            else:
                self._unwritten(w, outcome)

    def _unwritten(self, w: Wanted, error: OSError) -> None:
        self._bench.problem(w.path, f"cannot be written: {error.strerror or error}")
        if error.errno in DISK_FULL:
            raise LocalFileError(
                f"no space left for {show(self._bench.root.local)}",
                remedy="Make room, then run the command again: it goes on from here.",
            ) from error

    # Large files

    def _write_large(self, wanted: list[Wanted]) -> Iterator[Unit]:
        """A unit for each of these files, and one without files for what was written of them."""
        context, units = self._bench.context, dict[LargeFile, Unit]()

        def begun() -> Iterator[LargeFile]:
            for w in wanted:
                unit = Unit([w], 0)
                temp = self._temp(unit, self._begin(unit), 0, w.path)
                unit.ordered.append((w, temp))
                file = LargeFile(w, temp)
                units[file] = unit
                yield file

        memory = context.config.sync.memory_mb * MIB
        writer = PieceWriter(self._files, self._download, self._executor, memory)
        for step in writer.write(begun()):
            if step.result is None:
                yield Unit([], step.size)
                continue
            unit = units.pop(step.file)
            self._finished[unit.serial] = self._flying.pop(unit.serial)
            self._take(unit, [step.result])
            yield unit


def _units(wanted: list[Wanted], files: int, size: int) -> Iterator[Unit]:
    """Units bounded in files and bytes, each directory's files one after the other.

    From half of either bound on a unit ends with its directory, which one rename can then place.
    """
    unit = Unit([], 0)
    last: bytes | None = None
    for w in sorted(wanted, key=_by_directory):
        directory = w.path.rpartition(b"/")[0]
        full = len(unit.wanted) >= files or unit.size + w.size > size
        half = 2 * len(unit.wanted) >= files or 2 * unit.size >= size
        if unit.wanted and (full or (half and directory != last)):
            yield unit
            unit = Unit([], 0)
        unit.wanted.append(w)
        unit.size += w.size
        last = directory
    if unit.wanted:
        yield unit


def _by_directory(w: Wanted) -> tuple[bytes, bytes, bytes]:
    return w.path.rpartition(b"/")
