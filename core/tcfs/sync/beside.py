"""Conflict copies come before what they are copies of gives way.

Who settles a conflict against the bytes of its own disk writes that they stand beside the path from
now on. But the fleet may have let this device go meanwhile: then nothing counts that it wrote
since, nobody keeps the packs, and the bytes on its disk are the only ones. So they never leave it:
whoever settled, a copy is on disk, durably, before the file is replaced that it is a copy of.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tcfs.model.conflict import CONFLICT_MARK, may_be_copy
from tcfs.model.ids import RelPath
from tcfs.model.paths import join
from tcfs.model.plan import BaseEntry, Content, PullAction
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.deciding import SLICE, Decider, Decision

_Bytes = tuple[str, bytes, bytes]
"""What a file or link holds: its kind, the hash of its content, its target."""

_COMES = frozenset(
    (PullAction.MATERIALISE, PullAction.ADOPT, PullAction.ATTRIBUTES, PullAction.SEND_FIRST)
)
"""What a pull does where it puts, or would put, what the fleet says."""


def _bytes(content: Content) -> _Bytes:
    kind, file_hash, _, target = content
    return kind, file_hash, target


class Beside:
    """The conflict copies that are yet to be put on disk, and what waits for them."""

    def __init__(self, context: Context, root: Root, decider: Decider) -> None:
        self._context = context
        self._root = root
        self._decider = decider
        self._tried: set[RelPath] = set()
        copies = self._copies()
        # What the disk holds of it, and where that is to be first.
        self._waiting = dict(self._origins(copies)) if copies else {}

    def _touched(self, mark: bytes = b"") -> Iterator[list[RelPath]]:
        """What there is to do, some paths at a time."""
        paths = (path for path in self._decider.touched() if path.find(mark) >= 0)
        while some := list(islice(paths, SLICE)):
            yield some

    def _copies(self) -> dict[_Bytes, list[RelPath]]:
        history, root = self._context.state.history, self._root
        found = dict[_Bytes, list[RelPath]]()
        for some in self._touched(CONFLICT_MARK):
            remotes = [join(root.remote, path) for path in some]
            for path, head in zip(some, history.heads_of(root.namespace, remotes), strict=True):
                for version in head.siblings:
                    if version.manifest.kind != "dir":
                        found.setdefault(_bytes(version.manifest.content), []).append(path)
        return found

    def _origins(self, copies: dict[_Bytes, list[RelPath]]) -> Iterator[tuple[RelPath, RelPath]]:
        for some in self._touched():
            for path, base in self._base_at(some).items():
                # By the name as well: other copies of the same bytes may need this path's place.
                for copy in copies.get(_bytes(base.content), ()):
                    if may_be_copy(copy, path):
                        yield path, copy
                        break

    def _base_at(self, paths: list[RelPath]) -> dict[RelPath, BaseEntry]:
        return self._context.state.roots.base_at(self._root, paths)

    def turn(self) -> list[Decision]:
        """Decisions on the copies whose turn it is; none when no other can be put on disk."""
        there = {path: _bytes(base.content) for path, base in self._known().items()}
        waiting = {
            path: copy for path, copy in self._waiting.items() if there.get(copy) != there.get(path)
        }
        turn = set(waiting.values()) - waiting.keys() - self._tried
        decisions = [d for d in self._decider.at(turn) if d.action in _COMES]
        known = {d.path for d in decisions} | (turn & self._decider.problems.keys())
        self._tried |= known
        # Where none comes - a conflict stands there, say - there is nothing to wait for.
        none = turn - known
        self._waiting = {path: copy for path, copy in waiting.items() if copy not in none}
        return decisions

    def _known(self) -> dict[RelPath, BaseEntry]:
        return self._base_at(sorted({*self._waiting, *self._waiting.values()}))

    def held(self) -> dict[RelPath, RelPath]:
        """Paths that must not give way, each with that of its copy, which is not there.

        Those that wait for each other in a circle wait for nothing.
        """
        found = {}
        for path, copy in self._waiting.items():
            last, passed = copy, {path}
            while last in self._waiting and last not in passed:
                passed.add(last)
                last = self._waiting[last]
            if last not in passed:
                found[path] = copy
        return found
