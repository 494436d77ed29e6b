"""Conflicts: how versions compare, which one a strategy prefers, what a loser is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from tcfs.errors import ConflictError
from tcfs.model.access import Strategy
from tcfs.model.clock import Ordering, VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import RelPath
from tcfs.model.paths import MAX_NAME, MAX_PATH, shortened

CONFLICT_MARK: Final = b".conflict-"
"""In the name of every conflict copy."""


class SyncOutcome(Enum):
    """How a local file stands to a remote one, in upstream's words."""

    UP_TO_DATE = "up_to_date"
    LOCAL_NEWER = "local_newer"
    REMOTE_NEWER = "remote_newer"
    CONFLICT = "conflict"


def compare(
    local_hash: bytes, local_clock: VectorClock, remote_hash: bytes, remote_clock: VectorClock
) -> SyncOutcome:
    """Compare content and clocks: equal content is up to date whatever the clocks say."""
    if local_hash == remote_hash:
        return SyncOutcome.UP_TO_DATE
    return {
        Ordering.AFTER: SyncOutcome.LOCAL_NEWER,
        Ordering.BEFORE: SyncOutcome.REMOTE_NEWER,
        Ordering.EQUAL: SyncOutcome.CONFLICT,
        Ordering.CONCURRENT: SyncOutcome.CONFLICT,
    }[local_clock.compare(remote_clock)]


def preferred(siblings: Iterable[Version], strategy: Strategy) -> Version:
    """The version that a strategy prefers, from the siblings alone, so that all devices agree.

    A directory always stays in its place, because other paths live below it. ``merge`` falls back
    to ``device-name`` where a merge is not clean.

    Raises:
        ConflictError: there are no siblings.
    """
    versions = list(siblings)
    if not versions:
        raise ConflictError("there is nothing to choose from")
    directories = [v for v in versions if v.manifest.kind == "dir"]
    candidates = directories or versions
    if strategy == "first-write":
        return min(candidates, key=lambda v: v.order)
    if strategy == "last-write":
        return max(candidates, key=lambda v: v.order)
    return min(candidates, key=lambda v: (v.manifest.written_by, v.id.device, v.id.counter))


def conflict_path(path: RelPath, device_name: str, taken: Callable[[RelPath], bool]) -> RelPath:
    """Where a loser goes: ``stem.conflict-<device>.ext``, then ``stem.conflict-<device>-2.ext`` ...

    ``taken`` says whether a name already holds something else. A stem that would make the name or
    the path too long is shortened, by whole characters; a path with no room at all for such a name
    gets it in a directory further up.
    """
    directory, slash, name = path.rpartition(b"/")
    stem, dot, extension = name.rpartition(b".")
    if not stem:
        stem, dot, extension = name, b"", b""
    count = 1
    while True:
        number = b"" if count == 1 else b"-%d" % count
        mark = CONFLICT_MARK + device_name.encode() + number
        while len(directory) + 1 + len(mark) >= MAX_PATH:
            directory, slash, _ = directory.rpartition(b"/")
        most = min(MAX_NAME, MAX_PATH - len(directory + slash))
        if len(mark + dot + extension) < most:
            mark += dot + extension
        candidate = RelPath(directory + slash + shortened(stem, most - len(mark)) + mark)
        if not taken(candidate):
            return candidate
        count += 1


def may_be_copy(path: RelPath, origin: RelPath) -> bool:
    """Whether ``conflict_path`` may have made one path from another, for any device and number."""
    directory, _, name = path.rpartition(b"/")
    above, _, original = origin.rpartition(b"/")
    stem, mark, _ = name.partition(CONFLICT_MARK)
    beside = not directory or above == directory or above.startswith(directory + b"/")
    return bool(mark) and beside and original.startswith(stem) and path != origin
