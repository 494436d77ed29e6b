"""The stored fold is the model's fold, whatever order versions are accepted in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.model.clock import VectorClock
from tcfs.model.event import ChainHead, ContentEvent, SegmentHeader, Version
from tcfs.model.ids import DeviceId, EpochId, NamespaceId, RelPath, SegmentHash, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import ROOT
from tcfs.model.tree import Fold
from tcfs.state.history import History
from tcfs.state.state import State
from tests.model.values import DEVICES, events, histories, version
from tests.values import replace

SPACE = NamespaceId("default")


def header(device: DeviceId, seq: int, first: int, last: int, lamport: int = 1) -> SegmentHeader:
    return SegmentHeader(
        repo="",
        namespace=SPACE,
        device=device,
        seq=seq,
        prev="",
        lamport=lamport,
        epoch=EpochId(""),
        salt=b"",
        cipher=0,
        seen={},
        control={},
        first=first,
        last=last,
        body_size=0,
        body_hash="",
        pack=None,
        written_at=0,
    )


def accept(history: History, one: Version) -> None:
    """A version as a segment of its own, as ``values.version`` numbers them."""
    counter = one.id.counter
    history.add_versions(
        SPACE,
        header(one.id.device, one.seq, counter, counter, one.lamport),
        [ContentEvent(one.op, counter, one.manifest, one.moved_from)],
    )


@contextmanager
def opened() -> Iterator[State]:
    # A fixture would be shared by all examples.
    with TemporaryDirectory() as top:
        state = State(Path(top) / "state.db")
        try:
            yield state
        finally:
            state.close()


def heads(history: History) -> dict[RelPath, Any]:
    """The tree, the same by one walk and path by path."""
    stored = {head.path: head for head in history.tree(SPACE, ROOT)}
    assert stored == {head.path: head for head in history.heads_of(SPACE, list(stored))}
    return stored


def folded(versions: Iterable[Version]) -> dict[RelPath, Any]:
    fold = Fold()
    for one in versions:
        fold.add(one)
    return {path: head for path, head in fold.heads().items() if head.ids}


@settings(max_examples=40)
@given(histories(), st.randoms(use_true_random=False))
def test_the_stored_fold_is_the_models_after_every_version_in_any_order(made, random):
    random.shuffle(made)
    with opened() as state:
        for count, one in enumerate(made, start=1):
            accept(state.history, one)
            if random.random() < 0.3:
                accept(state.history, random.choice(made[:count]))
        expected = folded(made)
        assert heads(state.history) == expected
        for path in (RelPath(b"p"), RelPath(b"q"), RelPath(b"nothing")):
            head = state.history.head(SPACE, path)
            assert head.ids == (expected[path].ids if path in expected else ())
            assert (path in state.history.conflicted(SPACE, ROOT)) == head.conflicted
            assert (path in state.history.present_paths(SPACE, ROOT)) == (not head.absent)
            assert (path in state.history.inhabited(SPACE, [path])) == bool(head.ids)


@settings(max_examples=30)
@given(histories(), st.data())
def test_a_segment_of_many_versions_folds_as_its_versions_do(made, data):
    """Segments in any order of chains: parents may be in the same one, or arrive later."""
    chains: dict[DeviceId, list[Version]] = {}
    for one in made:
        chains.setdefault(one.id.device, []).append(one)
    segments = []
    for device, versions in chains.items():
        at = 0
        while at < len(versions):
            size = data.draw(st.integers(1, 4))
            part = versions[at : at + size]
            at += size
            # One segment has one Lamport time and one number.
            part = [replace(one, lamport=part[0].lamport, seq=at) for one in part]
            segments.append((device, at, part))
    order = data.draw(st.permutations(segments))
    with opened() as state:
        for device, seq, part in order:
            state.history.add_versions(
                SPACE,
                header(device, seq, part[0].id.counter, part[-1].id.counter, part[0].lamport),
                [ContentEvent(one.op, one.id.counter, one.manifest) for one in part],
            )
        assert heads(state.history) == folded(one for _, _, part in segments for one in part)


@settings(max_examples=30)
@given(events())
def test_a_version_reads_back_with_every_field(event):
    with opened() as state:
        head = header(DEVICES[0], 3, event.counter, event.counter, lamport=9)
        state.history.add_versions(SPACE, head, [event])
        found = state.history.version(SPACE, VersionId(DEVICES[0], event.counter))
        assert found == Version(
            VersionId(DEVICES[0], event.counter), 9, 3, event.op, event.manifest, event.moved_from
        )
        assert found.manifest.extra == event.manifest.extra


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state.db")
    yield made
    made.close()


def test_a_child_that_arrives_first_supersedes_its_parent_when_that_comes(state: State) -> None:
    parent = version(DEVICES[0], 1, content=1)
    child = version(DEVICES[1], 1, parents=[parent], content=2)
    accept(state.history, child)
    accept(state.history, parent)
    assert state.history.head(SPACE, RelPath(b"p")).ids == (child.id,)
    assert not state.history.is_live(SPACE, parent.id)
    assert state.history.is_live(SPACE, child.id)


def test_another_namespaces_version_of_the_same_id_is_another_version(state: State) -> None:
    parent = version(DEVICES[0], 1, content=1)
    child = version(DEVICES[1], 1, parents=[parent], content=2)
    accept(state.history, parent)
    other = NamespaceId("other")
    state.history.add_versions(
        other,
        replace(header(DEVICES[1], 1, 1, 1), namespace=other),
        [ContentEvent("write", 1, child.manifest)],
    )
    assert state.history.is_live(SPACE, parent.id)


def test_prefixes_end_at_a_slash(state: State) -> None:
    names = (
        b"a",
        b"a/b",
        b"a/b/c",
        b"a0",
        b"a-b",
        b"a\xff",
        b"b",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    )
    for counter, name in enumerate(names, start=1):
        accept(state.history, version(DEVICES[0], counter, name, content=1))
    below_a = [RelPath(b"a"), RelPath(b"a/b"), RelPath(b"a/b/c")]
    assert [head.path for head in state.history.tree(SPACE, RelPath(b"a"))] == below_a
    assert state.history.present_paths(SPACE, RelPath(b"a")) == below_a
    for rows in ((0, 99), (0, 99_999)):
        assert state.history.touched(SPACE, RelPath(b"a"), rows) == below_a
    assert state.history.has_live_below(SPACE, RelPath(b"a"))
    assert not state.history.has_live_below(SPACE, RelPath(b"a0"))
    everything = sorted(map(RelPath, names))
    assert [head.path for head in state.history.tree(SPACE, ROOT)] == everything


def test_paths_that_were_touched_come_in_parts_in_their_order(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"a", b"a!", b"a/b", b"a/c", b"a0", b"b"]
    for counter, name in enumerate(reversed(names), start=1):
        accept(state.history, version(DEVICES[0], counter, name, content=1))
    for few in (0, 10):
        monkeypatch.setattr("tcfs.state.columns.FEW_ROWS", few)
        for prefix, found in ((ROOT, names), (RelPath(b"a"), [b"a", b"a/b", b"a/c"])):
            for limit in (1, 2, 5):
                seen, start = list[bytes](), b""
                while some := state.history.touched(
                    SPACE, prefix, (0, 6), start=start, limit=limit
                ):
                    assert len(some) <= limit
                    seen, start = [*seen, *some], some[-1] + b"\0"
                assert seen == found
        assert state.history.touched(SPACE, ROOT, (4, 6)) == [b"a", b"a!"]


def test_files_with_something_below_them_are_found_in_one_walk(state: State) -> None:
    kinds = dict.fromkeys(
        (b"d/f", b"d/f!", b"d/f/y", b"g", b"g-h", b"h", b"h/i", b"k"), "file"
    ) | dict.fromkeys((b"d", b"d/f.x", b"h/i/j", b"ka"), "dir")
    kinds[b"k/gone"] = "tombstone"
    for counter, (name, kind) in enumerate(kinds.items(), start=1):
        made = version(DEVICES[0], counter, name, content=1)
        manifest = replace(made.manifest, kind=kind)
        accept(state.history, replace(made, manifest=manifest))
    found = state.history.files_above_others(SPACE, ROOT)
    assert found == [b"d/f", b"h", b"h/i"]
    assert found == [
        name
        for name, kind in sorted(kinds.items())
        if kind == "file" and state.history.has_live_below(SPACE, RelPath(name))
    ]
    assert state.history.files_above_others(SPACE, RelPath(b"h")) == [b"h", b"h/i"]


def test_what_stands_somewhere_is_counted(state: State) -> None:
    accept(state.history, version(DEVICES[0], 1, b"a", content=1))
    accept(state.history, version(DEVICES[0], 2, b"a/b", content=2))
    accept(state.history, version(DEVICES[1], 1, b"a/b", content=3))
    gone = version(DEVICES[0], 3, b"c", content=1)
    accept(state.history, replace(gone, manifest=replace(gone.manifest, kind="tombstone")))
    size = version(DEVICES[0], 1, b"a", content=1).manifest.file_size
    assert state.history.amount(SPACE, ROOT) == (2, 3 * size, 1)
    assert state.history.amount(SPACE, RelPath(b"a/b")) == (1, 2 * size, 1)


def test_what_was_touched_since_a_row_is_told_once(state: State) -> None:
    accept(state.history, version(DEVICES[0], 1, b"a", content=1))
    newest = state.history.newest()
    assert state.history.touched(SPACE, ROOT, (0, newest)) == [b"a"]
    assert state.history.touched(SPACE, ROOT, (newest, newest)) == []
    accept(state.history, version(DEVICES[0], 2, b"b", content=1))
    assert state.history.touched(SPACE, ROOT, (newest, state.history.newest())) == [b"b"]
    assert state.history.touched(SPACE, ROOT, (0, newest)) == [b"a"]


def test_the_log_pages_through_all_versions_newest_first(state: State) -> None:
    for counter in range(1, 8):
        accept(state.history, replace(version(DEVICES[0], counter, content=1), lamport=counter))
    seen: list[int] = []
    before = None
    while page := state.history.log(SPACE, ROOT, before=before, limit=3):
        seen += [one.id.counter for _, one in page]
        before = page[-1][0]
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_chains_remember_their_heads_counters_and_what_is_in_quarantine(state: State) -> None:
    history = state.history
    one, two, other = (SegmentHash(c * 64) for c in "abc")
    history.add_head(header(DEVICES[0], 1, 1, 4, lamport=3), one)
    history.add_head(header(DEVICES[0], 2, 5, 4, lamport=7), two)  # A segment without events.
    history.add_quarantined(header(DEVICES[0], 3, 5, 6, lamport=8), other, 6)
    assert history.heads(SPACE) == {DEVICES[0]: ChainHead(2, two)}
    assert history.counter(SPACE, DEVICES[0]) == 4
    assert history.known(SPACE, DEVICES[0], ChainHead(1, one)) == (3, 4, True)
    assert history.known(SPACE, DEVICES[0], ChainHead(2, two)) == (7, 4, True)
    assert history.known(SPACE, DEVICES[0], ChainHead(3, other)) == (8, 6, False)
    assert history.known(SPACE, DEVICES[0], ChainHead(2, one)) is None
    assert history.segments(SPACE) == [(DEVICES[0], 1, one), (DEVICES[0], 2, two)]
    assert history.counter(SPACE, DEVICES[1]) == 0


def test_a_manifest_with_an_imported_key_and_later_fields_keeps_both(state: State) -> None:
    manifest = SyncManifest(
        RelPath(b"p"),
        "dir",
        VectorClock({DEVICES[0]: 1}),
        (),
        "ann",
        0,
        encrypted_file_key="a2V5",
        extra={"later": {"x": [1, None]}},
    )
    state.history.add_versions(
        SPACE, header(DEVICES[0], 1, 1, 1), [ContentEvent("write", 1, manifest)]
    )
    found = state.history.head(SPACE, RelPath(b"p")).version
    assert found is not None
    assert found.manifest == manifest
    assert found.manifest.extra == manifest.extra


def test_what_is_taken_back_is_not_remembered() -> None:
    with opened() as state:
        accept(state.history, version(DEVICES[0], 1, b"a", content=1))
        state.history.retract(SPACE, DEVICES[0], 0)
        again = version(DEVICES[0], 1, b"a", content=2)
        accept(state.history, again)
        assert heads(state.history)[RelPath(b"a")].version == again


def test_what_comes_after_versions_that_were_taken_back_is_still_to_be_pulled():
    """Their rows' numbers are given again."""
    with opened() as state:
        root = state.roots.add(b"/r", SPACE, ROOT, marker="m")
        first, second = version(DEVICES[0], 1), version(DEVICES[1], 1)
        for one in (first, second):
            accept(state.history, one)
        state.roots.take_up(root, state.history.newest())

        def touched() -> list[RelPath]:
            rows = (state.roots.pulled(root), state.history.newest())
            return state.history.touched(SPACE, ROOT, rows)

        state.history.retract(SPACE, DEVICES[1], 0)
        assert touched() == []
        later = version(DEVICES[2], 1)
        accept(state.history, later)
        assert touched() == [later.manifest.rel_path]


def test_a_version_of_another_branch_is_replaced_by_what_names_its_id_as_a_parent():
    """As in the model, where the order of acceptance means nothing."""
    with opened() as state:
        taken_back = [version(DEVICES[0], n, b"p%d" % n, content=1) for n in (1, 2)]
        answer = version(DEVICES[1], 1, b"p1", parents=taken_back[:1], content=2)
        for one in (*taken_back, answer):
            accept(state.history, one)
        state.history.retract(SPACE, DEVICES[0], 0)
        branch = [version(DEVICES[0], n, b"q", content=3) for n in (1, 2)]
        for one in branch:
            accept(state.history, one)
        assert heads(state.history) == folded([answer, *branch])


def test_a_version_ends_those_of_its_own_path_alone() -> None:
    """Two branches of a cloned identity give one number to versions of different paths."""
    here = version(DEVICES[0], 1, b"p", content=1)
    there = version(DEVICES[0], 1, b"q", content=2)
    answer = version(DEVICES[1], 1, b"q", [there], content=3)
    for order in ((here, answer), (answer, here)):
        with opened() as state:
            for one in order:
                accept(state.history, one)
            found = heads(state.history)
            assert found == folded(order)
            assert found[RelPath(b"p")].ids == (here.id,)
            assert found[RelPath(b"q")].ids == (answer.id,)
