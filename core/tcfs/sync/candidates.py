"""What a push may have to send: paths whose stat differs from the base.

A first push of a million files has a million of them, so that they are kept compressed, some
thousand together, and come out one after the other, each with its base as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from struct import Struct as Layout
from typing import TYPE_CHECKING, Final

from msgspec import Struct, msgpack
from zstandard import ZstdCompressor, ZstdDecompressor

from tcfs.model.ids import RelPath
from tcfs.model.plan import BaseEntry, LocalChange, LocalEntry, LocalKind

if TYPE_CHECKING:
    from tcfs.host.listing import Seen

SLICE: Final = 500
"""Paths whose base is asked for at a time."""

_BLOCK: Final = 4096
"""Of them that are compressed together: a path looks much like the one before it."""
_ENCODE: Final = msgpack.Encoder().encode
_DECODE: Final = msgpack.Decoder(list[bytes]).decode
_LAYOUT: Final = Layout("<BBBHQqqQ")
_PACK, _UNPACK, _SIZE = _LAYOUT.pack, _LAYOUT.unpack_from, _LAYOUT.size
_CHANGES: Final = (LocalChange.NEW, LocalChange.MAYBE, LocalChange.MODE, LocalChange.DELETED)
_CODE: Final = {change: code for code, change in enumerate(_CHANGES)}
_KINDS: Final[tuple[LocalKind, ...]] = ("file", "dir", "symlink")
_KIND: Final[Mapping[str, int]] = {kind: code for code, kind in enumerate(_KINDS)}
_NO_ENTRY: Final = 255
_GONE: Final = _CODE[LocalChange.DELETED]
_FILE: Final = _KIND["file"]
_DIR: Final = _KIND["dir"]


class Candidate(Struct, frozen=True, gc=False):
    """A path whose stat says that it may have changed."""

    path: RelPath
    change: LocalChange
    entry: LocalEntry | None
    base: BaseEntry | None


BaseAt = Callable[[Sequence[RelPath]], Mapping[RelPath, BaseEntry]]


class Candidates:
    """Candidates in the order of their paths.

    Args:
        base_at: the base of some paths. It may change as they are sent: a path's own base when it
            was, and no other's.
    """

    def __init__(self, base_at: BaseAt) -> None:
        self._base_at = base_at
        self._blocks: list[bytes] = []
        self._open: list[bytes] = []
        self._count = self._based = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Candidate]:
        return self._out(self._records())

    def gone(self) -> Iterator[Candidate]:
        """Those that are not on disk any more."""
        return self._out(r for r in self._records() if r[0] == _GONE)

    def files(self) -> Iterator[Candidate]:
        """Those that are files on disk."""
        return self._out(r for r in self._records() if r[2] == _FILE)

    def others(self) -> Iterator[Candidate]:
        """Those that are directories and symlinks on disk."""
        return self._out(r for r in self._records() if r[2] != _FILE and r[0] != _GONE)

    def stats(self) -> Iterator[tuple[int, int]]:
        """Size and ``ctime_ns`` of each that is a file on disk."""
        for record in self._records():
            if record[2] == _FILE:
                found = _UNPACK(record)
                yield found[4], found[6]

    def paths(self) -> Iterator[RelPath]:
        """Their paths alone."""
        return (RelPath(record[_SIZE:]) for record in self._records())

    def add(self, seen: Seen, *, based: bool) -> None:
        """One that is new, or whose stat differs; to be called in the order of paths."""
        path, kind, size, mode, mtime_ns, ctime_ns, inode = seen
        code = 1 if based else 0
        self._append(_PACK(code, based, _KIND[kind], mode, size, mtime_ns, ctime_ns, inode) + path)

    def narrow(self, decide: Callable[[Candidate], LocalChange]) -> None:
        """Keep those that are a change after all, as what they are decided to be.

        Only those that have a base are asked about: the others are new.
        """
        if self._based:
            self._replace(self._decided(decide))

    def _decided(self, decide: Callable[[Candidate], LocalChange]) -> Iterator[bytes]:
        based = self._out(record for record in self._records() if record[1])
        for record in self._records():
            if not record[1]:
                yield record
                continue
            change = decide(next(based))
            if change is not LocalChange.NONE:
                code = _CODE[change]
                yield record if record[0] == code else bytes((code,)) + record[1:]

    def drop(self, unwanted: Callable[[RelPath], bool]) -> None:
        """Leave out what is at these paths."""
        self._replace(r for r in self._records() if not unwanted(RelPath(r[_SIZE:])))

    def divided(self, later: Collection[RelPath]) -> tuple[Candidates, Candidates]:
        """These without, and only, the files and symlinks that are at some paths."""
        last = Candidates(self._base_at)
        if not later:
            return self, last
        first = Candidates(self._base_at)
        for record in self._records():
            leaf = record[2] not in (_DIR, _NO_ENTRY)
            (last if leaf and record[_SIZE:] in later else first)._append(record)
        return first, last

    def add_gone(self, paths: Iterable[RelPath]) -> None:
        """Paths of the base that are not on disk any more."""
        head = _PACK(_GONE, True, _NO_ENTRY, 0, 0, 0, 0, 0)
        gone = sorted(head + path for path in paths)
        if gone:
            self._replace(merge(self._records(), gone, key=_path_of))

    def extend(self, other: Candidates) -> None:
        """Those of another part of the tree."""
        if other._count:
            self._replace(merge(self._records(), other._records(), key=_path_of))

    def _append(self, record: bytes) -> None:
        self._count += 1
        self._based += record[1]
        self._open.append(record)
        if len(self._open) == _BLOCK:
            self._blocks.append(ZstdCompressor(level=1).compress(_ENCODE(self._open)))
            self._open = []

    def _records(self) -> Iterator[bytes]:
        """As they are now; what is put in their place meanwhile does not matter."""
        blocks, last = self._blocks, self._open
        for block in blocks:
            yield from _DECODE(ZstdDecompressor().decompress(block))
        yield from last

    def _replace(self, records: Iterable[bytes]) -> None:
        made = Candidates(self._base_at)
        for record in records:
            made._append(record)
        self._blocks, self._open = made._blocks, made._open
        self._count, self._based = made._count, made._based

    def _out(self, records: Iterator[bytes]) -> Iterator[Candidate]:
        while some := [_unpacked(record) for record in islice(records, SLICE)]:
            asked = [path for path, _, _, based in some if based]
            base = self._base_at(asked) if asked else {}
            for path, change, entry, _ in some:
                # One that was moved away meanwhile has none any more.
                yield Candidate(path, change, entry, base.get(path))


def _path_of(record: bytes) -> bytes:
    return record[_SIZE:]


def _unpacked(record: bytes) -> tuple[RelPath, LocalChange, LocalEntry | None, int]:
    code, based, kind, mode, size, mtime_ns, ctime_ns, inode = _UNPACK(record)
    entry = None
    if kind != _NO_ENTRY:
        entry = LocalEntry(_KINDS[kind], size, mode, mtime_ns, ctime_ns, inode)
    return RelPath(record[_SIZE:]), _CHANGES[code], entry, based
