"""What of a local tree differs from its base, by stat alone.

The tree is walked in the order in which the base is stored, and both are read side by side, so that
what is held in memory is what differs, whatever the size of the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT
from tcfs.model.plan import LocalEntry
from tcfs.state.roots import Root, StoredStat, is_unchanged
from tcfs.sync.candidates import Candidates
from tcfs.sync.context import Context
from tcfs.sync.ignore import Exclusion
from tcfs.sync.scan import Scan, entry_of, walk

if TYPE_CHECKING:
    from tcfs.host.base import Ahead
    from tcfs.host.listing import Seen

_CTIME: Final = itemgetter(5)
_AT_ONCE: Final = 500
"""Rows that are read at a time, where no entry is left."""


@dataclass(slots=True)
class Look:
    """A look at parts of a root.

    Attributes:
        changed: what differs from the base, or has none.
        scan: what else was seen; it has no entries.
        gone: paths of the base that were not seen, whether or not they could have been.
        tracked: paths of the base, all of them.
        seen: entries that were met.
        alone: directories that stand on this disk alone.
        in_use: those of them below which something is that is synced and not one of them.
    """

    changed: Candidates
    scan: Scan = field(default_factory=Scan)
    gone: list[RelPath] = field(default_factory=list)
    tracked: int = 0
    seen: int = 0
    alone: set[RelPath] = field(default_factory=set)
    in_use: set[RelPath] = field(default_factory=set)

    def add(self, other: Look) -> None:
        """A look at another part of the same root, too."""
        self.changed.extend(other.changed)
        self.scan.add(other.scan)
        self.gone += other.gone
        self.tracked += other.tracked
        self.seen += other.seen
        self.alone |= other.alone
        self.in_use |= other.in_use

    def take(self, walked: Iterable[list[Seen]], stored: Iterator[StoredStat]) -> None:
        """Compare entries with rows of the base; both in the order of their paths."""
        rows: list[StoredStat] = []
        for some in walked:
            self.seen += len(some)
            count = len(some)
            if len(rows) < count:
                rows += islice(stored, count - len(rows))
            # Nearly always: all stats to the last nanosecond, and ones that are trusted.
            known = rows if len(rows) == count else rows[:count]
            if known == some and _trusted(some) and not self.alone:
                self.tracked += count
                del rows[:count]
                continue
            rows = self._merge(some, rows, stored)
        self._miss(rows)
        while more := list(islice(stored, _AT_ONCE)):
            self._miss(more)

    def _merge(
        self, some: list[Seen], rows: list[StoredStat], stored: Iterator[StoredStat]
    ) -> list[StoredStat]:
        """The same one by one; the rows that are left."""
        left = iter(rows)
        waiting = chain(left, stored)
        add = self.changed.add
        row = next(waiting, None)
        for seen in some:
            path = RelPath(seen[0])
            while row is not None and row[0] < path:
                self._miss([row])
                row = next(waiting, None)
            if row is not None and row[0] == path and row[1] == "dir" and not row[5]:
                self.alone.add(path)
            elif self.alone:
                self.in_use.update(d for d in self.alone if path.startswith(d + b"/"))
            if row is None or row[0] != path:
                add(seen, based=False)
                continue
            known, row = row, next(waiting, None)
            self.tracked += 1
            if (known == seen and known[5]) or is_unchanged(known, entry_of(seen)):
                continue
            add(seen, based=True)
        return [] if row is None else [row, *left]

    def _miss(self, rows: list[StoredStat]) -> None:
        """Rows of the base whose paths were not met."""
        self.tracked += len(rows)
        self.gone += [RelPath(row[0]) for row in rows]


def _trusted(some: list[Seen]) -> bool:
    """Whether these stats tell a change: a base row without ``ctime_ns`` is never equal."""
    return 0 not in map(_CTIME, some)


def unseen(context: Context, root: Root, scanned: Scan) -> Look:
    """A look that met nothing."""
    roots = context.state.roots
    return Look(Candidates(lambda paths: roots.base_at(root, paths)), scanned)


def look(
    context: Context,
    root: Root,
    exclude: Exclusion,
    prefix: RelPath = ROOT,
    ahead: Ahead | None = None,
) -> Look:
    """Look at a root, or at the part of it at and below ``prefix``.

    Args:
        ahead: who began to list what is below the root; see ``sync.ahead``.

    Raises:
        LocalFileError: the root itself cannot be looked at.
    """
    found = unseen(context, root, Scan())
    walked = walk(context.host.files, root.local, exclude, prefix, found.scan, ahead)
    found.take(walked, context.state.roots.stats(root, prefix))
    return found


def compare(context: Context, root: Root, prefix: RelPath, scanned: Scan) -> Look:
    """The same of a scan that was made, whose entries are taken out."""
    found = unseen(context, root, scanned)
    _take(found, context.state.roots.stats(root, prefix))
    return found


def compare_some(context: Context, root: Root, paths: Sequence[RelPath], scanned: Scan) -> Look:
    """The same of some paths of a scan alone."""
    wanted = frozenset(paths)
    scanned.entries = {path: e for path, e in scanned.entries.items() if path in wanted}
    found = unseen(context, root, scanned)
    _take(found, iter(context.state.roots.stats_of(root, sorted(scanned.entries))))
    return found


def _take(found: Look, stored: Iterator[StoredStat]) -> None:
    met, found.scan.entries = found.scan.entries, {}
    found.take(([_seen(path, met[path])] for path in sorted(met)), stored)


def _seen(path: RelPath, entry: LocalEntry) -> Seen:
    e = entry
    return path, e.kind, e.size, e.mode, e.mtime_ns, e.ctime_ns, e.inode
