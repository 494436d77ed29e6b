"""What of a local tree differs from its base, by stat alone.

The tree is walked in the order in which the base is stored, and both are read side by side, so that
what is held in memory is what differs, whatever the size of the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tcfs.host.base import Stat
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT
from tcfs.model.plan import LocalEntry
from tcfs.state.roots import Root, StoredStat, is_unchanged
from tcfs.sync.candidates import Candidates
from tcfs.sync.context import Context
from tcfs.sync.ignore import Exclusion
from tcfs.sync.scan import Scan, entry_of, walk


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

    def take(self, walked: Iterable[tuple[RelPath, Stat]], stored: Iterator[StoredStat]) -> None:
        """Compare entries with rows of the base; both in the order of their paths."""
        add, gone, alone = self.changed.add, self.gone, list[bytes]()
        tracked = seen = 0
        row = next(stored, None)
        for path, stat in walked:
            seen += 1
            while row is not None and row[0] < path:
                gone.append(RelPath(row[0]))
                tracked += 1
                row = next(stored, None)
            if row is not None and row[0] == path and row[1] == "dir" and not row[5]:
                alone.append(path + b"/")
            elif alone:
                self.in_use.update(RelPath(d[:-1]) for d in alone if path.startswith(d))
            if row is None or row[0] != path:
                add(path, stat, based=False)
                continue
            known, row = row, next(stored, None)
            tracked += 1
            # Nearly every file: its stat to the last nanosecond, and one that is trusted.
            if known[1:] == stat[:6] and known[5]:
                continue
            if is_unchanged(known, entry_of(stat)):
                continue
            add(path, stat, based=True)
        while row is not None:
            gone.append(RelPath(row[0]))
            tracked += 1
            row = next(stored, None)
        self.tracked += tracked
        self.seen += seen
        self.alone.update(RelPath(d[:-1]) for d in alone)


def unseen(context: Context, root: Root, scanned: Scan) -> Look:
    """A look that met nothing."""
    roots = context.state.roots
    return Look(Candidates(lambda paths: roots.base_at(root, paths)), scanned)


def look(context: Context, root: Root, exclude: Exclusion, prefix: RelPath = ROOT) -> Look:
    """Look at a root, or at the part of it at and below ``prefix``.

    Raises:
        LocalFileError: the root itself cannot be looked at.
    """
    found = unseen(context, root, Scan())
    walked = walk(context.host.files, root.local, exclude, prefix, found.scan)
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
    found.take(((path, _stat(met[path])) for path in sorted(met)), stored)


def _stat(entry: LocalEntry) -> Stat:
    return Stat(
        *(entry.kind, entry.size, entry.mode, entry.mtime_ns, entry.ctime_ns, entry.inode), 0
    )
