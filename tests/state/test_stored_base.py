"""The quick look at stored rows says what the planner says of entries."""

from __future__ import annotations

import itertools
from pathlib import Path

from tcfs.model.clock import VectorClock
from tcfs.model.ids import DEFAULT_NAMESPACE, DeviceId, RelPath, VersionId
from tcfs.model.paths import ROOT
from tcfs.model.plan import BaseEntry, LocalChange, LocalEntry, LocalKind, local_change
from tcfs.state.roots import is_unchanged
from tcfs.state.state import State

DEVICE = DeviceId("00000000-0000-4000-8000-000000000001")
PATH = RelPath(b"a")
KINDS: tuple[LocalKind, ...] = ("file", "dir", "symlink")


def test_a_stored_row_is_unchanged_exactly_where_the_planner_sees_no_change(tmp_path: Path):
    state = State(tmp_path / "state.db")
    root = state.roots.add(b"/tree", DEFAULT_NAMESPACE, ROOT)
    values = itertools.product(KINDS, (0, 7), (0o600, 0o755), (1, 2), (0, 1, 2), (1, 2**64 - 1))
    shapes = list(values)
    compared = 0
    for kind, size, mode, mtime, ctime, inode in shapes[::5]:
        version = (VersionId(DEVICE, 1),)
        clock = VectorClock({DEVICE: 1})
        base = BaseEntry(version, clock, kind, size, mode, mtime, ctime, inode, b"h" * 32, b"", 0)
        state.roots.set_base(root, [(PATH, base)])
        (row,) = state.roots.stats(root)
        assert state.roots.stats_of(root, [PATH]) == [row]
        assert state.roots.base_at(root, [PATH]) == {PATH: base}
        for shape in shapes[::3]:
            entry = LocalEntry(shape[0], shape[1], shape[2], shape[3], shape[4], shape[5])
            same = local_change(base, entry) is LocalChange.NONE
            if base.on_this_disk_alone:
                assert not is_unchanged(row, entry)
            else:
                assert is_unchanged(row, entry) == same
            compared += same
    assert compared
    state.close()
