"""The planner's decisions, each combination held against a table written on its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.model.clock import VectorClock
from tcfs.model.ids import RelPath, VersionId
from tcfs.model.plan import (
    BaseEntry,
    Content,
    LocalChange,
    LocalEntry,
    MoveMatcher,
    PullAction,
    local_change,
    pull_action,
)
from tcfs.model.tree import Head, settle
from tests.model.values import DEVICES, HASHES, rel_paths, version
from tests.values import replace

BASE = BaseEntry(
    ids=(VersionId(DEVICES[0], 1),),
    clock=VectorClock({DEVICES[0]: 1}),
    kind="file",
    size=5,
    mode=0o644,
    mtime_ns=100,
    ctime_ns=200,
    inode=7,
    file_hash=HASHES[0],
    target=b"",
    size_class=0,
)
SAME = LocalEntry("file", 5, 0o644, 100, 200, 7)
LINK = replace(BASE, kind="symlink", file_hash=b"", target=b"to", mode=0)
DIRECTORY = replace(BASE, kind="dir", file_hash=b"", mode=0o755)


@pytest.mark.parametrize(
    ("base", "local", "change"),
    [
        (None, None, LocalChange.NONE),
        (None, SAME, LocalChange.NEW),
        (BASE, None, LocalChange.DELETED),
        (BASE, SAME, LocalChange.NONE),
        (BASE, replace(SAME, size=6), LocalChange.MAYBE),
        (BASE, replace(SAME, mode=0o600), LocalChange.MAYBE),
        (BASE, replace(SAME, mtime_ns=101), LocalChange.MAYBE),
        (BASE, replace(SAME, mtime_ns=99), LocalChange.MAYBE),
        (BASE, replace(SAME, ctime_ns=201), LocalChange.MAYBE),
        (BASE, replace(SAME, inode=8), LocalChange.MAYBE),
        (BASE, replace(SAME, kind="dir"), LocalChange.MAYBE),
        (BASE, replace(SAME, kind="symlink"), LocalChange.MAYBE),
        (replace(BASE, ctime_ns=0), SAME, LocalChange.MAYBE),
        (replace(BASE, ctime_ns=0), replace(SAME, ctime_ns=0), LocalChange.MAYBE),
        (LINK, replace(SAME, kind="symlink", mode=0o777), LocalChange.NONE),
        (LINK, replace(SAME, kind="symlink", mtime_ns=1), LocalChange.MAYBE),
        (DIRECTORY, replace(SAME, kind="dir", mode=0o755, mtime_ns=1, size=9), LocalChange.NONE),
        (DIRECTORY, replace(SAME, kind="dir", mode=0o700), LocalChange.MODE),
        (DIRECTORY, SAME, LocalChange.MAYBE),
    ],
)
def test_a_stat_says_what_may_have_changed(base, local, change):
    assert local_change(base, local) is change


# What a pull does. One row for what the fleet holds and what this disk had of it, one column for
# what is on disk now: nothing, the fleet's (first) content, its bytes with another mode, others.
# "clean": as the base says; "dirty": changed since.
#
#   . nothing  A adopt  M materialise  T attributes  R remove  S send first  C conflict
TABLE = """
    fleet       base        clean       dirty
    absent      none        A R R R     A . . .
    absent      seen        . . . .     A . . .
    absent      older       A R R R     A . . .
    settled     none        M A T M     M A S S
    settled     seen        . . . .     . A . .
    settled     older       M A T M     M A S S
    conflict    none        C C C C     C C S S
    conflict    seen        . . . .     C C . .
    conflict    older       C C C C     C C S S
"""
ACTIONS = {
    ".": PullAction.NOTHING,
    "A": PullAction.ADOPT,
    "M": PullAction.MATERIALISE,
    "T": PullAction.ATTRIBUTES,
    "R": PullAction.REMOVE,
    "S": PullAction.SEND_FIRST,
    "C": PullAction.CONFLICT,
}
CASES = [
    (fleet, base, local, state, ACTIONS[letters[4 * later + column]])
    for fleet, base, *letters in (line.split() for line in TABLE.strip().splitlines()[1:])
    for later, state in enumerate(("clean", "dirty"))
    for column, local in enumerate(("nothing", "same", "mode", "other"))
]


def head_of(fleet: str) -> Head:
    # The newest comes first, so that the conflict's first group has the settled path's content.
    first = version(DEVICES[0], 4, content=1)
    second = version(DEVICES[1], 2, content=2)
    older = replace(second, lamport=0)
    live = {"absent": [version(DEVICES[0], 4)], "settled": [first], "conflict": [first, older]}
    return settle(RelPath(b"p"), live[fleet])


@pytest.mark.parametrize(("fleet", "base", "local", "state", "action"), CASES)
def test_a_pull_does_what_the_table_says(fleet, base, local, state, action):
    head = head_of(fleet)
    known = {
        "none": None,
        "seen": replace(BASE, ids=head.ids),
        "older": replace(BASE, ids=(VersionId(DEVICES[0], 3),)),
    }[base]
    contents: dict[str, Content | None] = {
        "nothing": None,
        "same": ("file", HASHES[0], 0o644, b""),
        "mode": ("file", HASHES[0], 0o600, b""),
        "other": ("file", HASHES[2], 0o644, b""),
    }
    assert pull_action(head, known, contents[local], state == "dirty") is action


def test_the_table_has_every_combination():
    assert len(CASES) == len({case[:4] for case in CASES}) == 3 * 3 * 4 * 2


def test_a_clean_symlink_to_elsewhere_is_replaced_not_touched():
    link: dict[str, Any] = {
        "kind": "symlink",
        "file_hash": b"",
        "chunks": (),
        "file_size": 0,
        "mode": 0,
    }
    head = settle(RelPath(b"p"), [version(DEVICES[1], 1, content=1, target=b"new", **link)])
    old: Content = ("symlink", b"", 0, b"old")
    assert pull_action(head, LINK, old, False) is PullAction.MATERIALISE
    assert pull_action(head, LINK, ("symlink", b"", 0, b"new"), False) is PullAction.ADOPT


def test_part_of_a_settled_paths_versions_is_not_all_of_them():
    one = version(DEVICES[0], 1, content=1)
    other = version(DEVICES[1], 1, content=1)
    head = settle(RelPath(b"p"), [one, other])
    content = one.manifest.content
    assert pull_action(head, replace(BASE, ids=(one.id,)), content, False) is PullAction.ADOPT
    both = replace(BASE, ids=(one.id, other.id, VersionId(DEVICES[2], 1)))
    assert pull_action(head, both, content, False) is PullAction.NOTHING


gone_files = st.dictionaries(
    rel_paths,
    st.builds(
        lambda content, inode, size: replace(
            BASE, file_hash=HASHES[content], inode=inode, size=size
        ),
        *(st.integers(0, 2), st.integers(1, 4), st.integers(0, 2)),
    ),
    max_size=6,
)


@given(gone_files, st.lists(st.tuples(rel_paths, st.integers(0, 2), st.integers(1, 4)), max_size=8))
def test_a_move_pairs_equal_bytes_and_uses_each_file_once(gone, new):
    matcher, again = MoveMatcher(gone), MoveMatcher(dict(reversed(gone.items())))
    left = {path: entry for path, entry in gone.items() if entry.size}
    for path, content, inode in new:
        found = matcher.match(path, HASHES[content], inode)
        assert found == again.match(path, HASHES[content], inode)
        candidates = {p: e for p, e in left.items() if e.file_hash == HASHES[content]}
        if found is None:
            assert not candidates
            continue
        entry = left.pop(found)
        assert entry.file_hash == HASHES[content]
        if any(e.inode == inode for e in candidates.values()):
            assert entry.inode == inode
        elif any(p.rpartition(b"/")[2] == path.rpartition(b"/")[2] for p in candidates):
            assert found.rpartition(b"/")[2] == path.rpartition(b"/")[2]


def test_only_files_with_content_are_moved():
    gone = {
        RelPath(b"empty"): replace(BASE, size=0),
        RelPath(b"link"): LINK,
        RelPath(b"dir"): DIRECTORY,
    }
    matcher = MoveMatcher(gone)
    assert matcher.match(RelPath(b"new"), HASHES[0], 7) is None
    assert matcher.match(RelPath(b"new"), b"", 7) is None


def test_many_equal_files_are_paired_without_looking_at_all_of_them_each_time():
    count = 20_000
    gone = {RelPath(b"old/%d" % n): replace(BASE, inode=n) for n in range(count)}
    matcher = MoveMatcher(gone)
    for n in range(count):
        assert matcher.match(RelPath(b"new/%d" % n), HASHES[0], n) == b"old/%d" % n


def test_a_tombstone_beside_a_version_changes_nothing_for_who_has_that_version():
    live = version(DEVICES[0], 1, content=1)
    head = settle(RelPath(b"p"), [live, version(DEVICES[1], 1)])
    base = replace(BASE, ids=(live.id,))
    assert pull_action(head, base, None, True) is PullAction.NOTHING
    assert pull_action(head, base, ("file", HASHES[2], 0o644, b""), True) is PullAction.NOTHING
    assert pull_action(head, base, live.manifest.content, False) is PullAction.ADOPT
    assert pull_action(head, None, None, False) is PullAction.MATERIALISE


def test_a_file_is_removed_when_a_deletion_that_was_concurrent_turns_out_to_answer_it():
    """What joins the two came after both: its chain had been stopped."""
    held = version(DEVICES[0], 1, content=1)
    between = version(DEVICES[1], 1, content=2, parents=[held])
    deletion = version(DEVICES[2], 1, parents=[between])
    path = RelPath(b"p")
    before, after = settle(path, [held, deletion]), settle(path, [deletion])
    base = replace(BASE, ids=before.ids)
    content = held.manifest.content
    assert pull_action(before, base, content, False) is PullAction.NOTHING
    assert pull_action(after, base, content, False) is PullAction.REMOVE
    assert pull_action(after, base, content, True) is PullAction.NOTHING
    kept = replace(base, kind="dir", ctime_ns=0)
    assert pull_action(after, kept, ("dir", b"", 0o755, b""), False) is PullAction.NOTHING
