"""A device's state file: all or nothing, of one version, and every field comes back."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcfs.content.address import ChunkAddress
from tcfs.errors import LocalFileError
from tcfs.model.clock import VectorClock
from tcfs.model.ids import ChunkId, NamespaceId, PackId, RelPath, StoreKey, VersionId
from tcfs.model.paths import ROOT
from tcfs.model.plan import BaseEntry
from tcfs.state.database import SCHEMA_VERSION
from tcfs.state.index import OutboxEntry, PackLocation, StoredChunks
from tcfs.state.roots import Intended, Intent, Root
from tcfs.state.state import State
from tests.model.values import DEVICES, HASHES, clocks, rel_paths, version, version_ids
from tests.state.test_history import accept, opened
from tests.values import replace

SPACE = NamespaceId("default")
PACK = PackId("ab" * 32)
ENTRY = BaseEntry(
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
base_entries = st.builds(
    BaseEntry,
    ids=st.lists(version_ids, max_size=3, unique=True).map(tuple),
    clock=clocks,
    kind=st.sampled_from(("file", "dir", "symlink")),
    size=st.integers(0, 2**63 - 1),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.integers(-(2**62), 2**62),
    ctime_ns=st.integers(0, 2**62),
    inode=st.integers(0, 2**64 - 1),
    file_hash=st.sampled_from((b"", *HASHES)),
    target=st.binary(max_size=9),
    size_class=st.integers(-63, 63),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    made = State(path)
    yield made
    made.close()


@pytest.fixture
def root(state: State) -> Root:
    return state.roots.add(b"/home/\xff", SPACE, RelPath(b"docs"), marker="m")


# The file


def test_a_state_file_of_a_later_version_is_refused_and_left_alone(path: Path) -> None:
    State(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(LocalFileError, match="version"):
        State(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    connection.close()


def test_a_file_that_is_no_state_is_refused_with_a_remedy(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(LocalFileError) as refused:
        State(path)
    assert "rebuild-index" in refused.value.remedy


class _FullDisk(sqlite3.Connection):
    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, parameters)


def test_a_state_that_could_not_be_made_holds_no_lock(path: Path) -> None:
    with pytest.raises(LocalFileError, match="full") as failed:
        State(path, _FullDisk)
    assert "Make room" in failed.value.remedy
    State(path).close()


def _die_in_a_transaction(path: Path) -> None:
    state = State(path)
    with state.transaction():
        root = state.roots.add(b"/other", SPACE, ROOT)
        state.roots.set_base(root, [(RelPath(b"a"), ENTRY)])
        state.outbox.add(OutboxEntry(SPACE, 1, StoreKey("k"), b"data", None))
        os._exit(9)


def test_a_crash_within_a_transaction_leaves_the_old_state(state: State, path: Path) -> None:
    state.outbox.add(OutboxEntry(SPACE, 7, StoreKey("old"), b"kept", None))
    child = multiprocessing.get_context("spawn").Process(target=_die_in_a_transaction, args=(path,))
    child.start()
    child.join()
    assert child.exitcode == 9
    again = State(path)
    assert again.roots.all() == []
    assert [entry.key for entry in again.outbox.all()] == ["old"]
    again.close()


def test_a_failure_within_a_transaction_takes_back_all_of_it(state: State) -> None:
    with pytest.raises(RuntimeError), state.transaction():  # noqa: PT012
        root = state.roots.add(b"/r", SPACE, ROOT)
        with state.transaction():
            state.roots.set_base(root, [(RelPath(b"a"), ENTRY)])
        state.database.device_no(DEVICES[3])
        raise RuntimeError
    assert state.roots.all() == []
    # A number that was given and taken back is not remembered.
    number = state.database.device_no(DEVICES[2])
    assert state.database.device_id(number) == DEVICES[2]
    assert state.database.device_no(DEVICES[3]) != number


# Roots


def test_a_root_is_recorded_once_and_read_back(state: State, root: Root) -> None:
    assert state.roots.all() == [root]
    assert state.roots.add(b"/home/\xff", SPACE, RelPath(b"docs"), marker="other") == root
    other = state.roots.add(b"/x", SPACE, ROOT, device=2**64 - 1, inode=2**63)
    assert (other.device, other.inode) == (2**64 - 1, 2**63)
    state.roots.remove(root)
    assert state.roots.all() == [other]


@settings(max_examples=30)
@given(st.dictionaries(rel_paths, base_entries, max_size=4))
def test_a_base_reads_back_with_inodes_of_64_bits(entries):
    with opened() as state:
        root = state.roots.add(b"/r", SPACE, ROOT)
        state.roots.set_base(root, entries.items())
        found = state.roots.base(root)
        assert found == entries
        for path, entry in entries.items():
            one = state.roots.base_of(root, path)
            assert one is not None
            assert one == entry
            assert dict(one.clock.clocks) == dict(entry.clock.clocks)
        assert state.roots.base_count(root) == len(entries)


def test_bases_are_read_below_a_prefix_and_of_one_root_only(state: State, root: Root) -> None:
    names = [RelPath(n) for n in (b"", b"a", b"a/b", b"a0", b"b")]
    state.roots.set_base(root, [(name, ENTRY) for name in names])
    other = state.roots.add(b"/x", SPACE, ROOT)
    assert set(state.roots.base(root, RelPath(b"a"))) == {b"a", b"a/b"}
    assert set(state.roots.base(root)) == set(names)
    assert state.roots.base(other) == {}
    assert state.roots.base_of(other, names[1]) is None


def test_what_a_pull_did_is_no_longer_to_do_and_what_a_push_saw_still_is(
    state: State, root: Root
) -> None:
    a, b, c = (RelPath(n) for n in (b"a", b"a/b", b"c"))
    state.roots.wait(root, [c, a, b])
    state.roots.refresh_base(root, [(a, ENTRY)])
    state.roots.forget_base(root, [b])
    assert state.roots.todo(root) == [a, b, c]
    assert state.roots.todo(root, a) == [a, b]
    assert state.roots.todo(root, start=b"a\0", limit=1) == [b]
    state.roots.refresh_base(root, [(b, ENTRY), (c, ENTRY)])
    assert state.roots.todo_on_disk(root, RelPath(b"")) == [c, b, a]
    assert state.roots.todo_on_disk(root, RelPath(b""), end=c, limit=1) == [b]
    assert state.roots.todo_on_disk(root, a) == [b, a]
    state.roots.forget_base(root, [b, c])
    assert state.roots.todo_on_disk(root, a) == [a]
    state.roots.set_base(root, [(a, ENTRY)])
    state.roots.drop_base(root, [b])
    assert state.roots.todo(root) == [c]
    state.roots.wait(root, [a, c])
    assert state.roots.waiting(root) == 2
    state.roots.done(root, [a, c])
    assert state.roots.waiting(root) == 0
    assert set(state.roots.base(root)) == {a}


def test_an_intent_reads_back_as_the_base_of_its_version(state: State, root: Root) -> None:
    one = version(DEVICES[0], 3, b"docs/a", content=1, mode=0o640)
    accept(state.history, one)
    path, m = RelPath(b"a"), one.manifest
    plain = BaseEntry(
        (one.id,), m.vclock, "file", m.file_size, 0o640, m.mtime_ns, 0, 0, m.file_hash, b"", 0
    )
    removal = Intent(RelPath(b"b"), "tombstone")
    intended = state.roots.intend(root, [removal, Intent(path, "file", one.id)])
    assert state.roots.intents(root) == [
        Intended(path, "file", plain, intended),
        Intended(removal.path, "tombstone", None, intended),
    ]
    state.roots.settle_intents(intended, [removal])
    assert [i.path for i in state.roots.intents(root)] == [removal.path]
    state.roots.settle_intents(intended)
    assert state.roots.intents(root) == []

    both = (one.id, VersionId(DEVICES[1], 4))
    clock = {DEVICES[0]: 3, DEVICES[1]: 4}
    state.roots.intend(root, [Intent(path, "file", one.id)])
    later = state.roots.intend(root, [Intent(path, "file", one.id, both, clock, 0o700)])
    (found,) = state.roots.intents(root)
    assert found.entry == replace(plain, ids=both, clock=VectorClock(clock), mode=0o700)
    state.roots.settle_intents(later)
    assert [i.entry for i in state.roots.intents(root)] == [plain]
    state.roots.clear_intents(root)
    assert state.roots.intents(root) == []


def test_intents_of_an_older_state_are_taken_over(path: Path, root: Root, state: State) -> None:
    one = version(DEVICES[0], 3, b"docs/a", content=1)
    accept(state.history, one)
    run = state.database.connection.execute
    run("DROP TABLE intent_list")
    run(
        "CREATE TABLE intent (root INTEGER, path BLOB, kind TEXT, device INTEGER, counter INTEGER,"
        " ids TEXT, clock TEXT, mode INTEGER)"
    )
    number = state.database.device_no(DEVICES[0])
    both, clock = [[DEVICES[0], 3], [DEVICES[1], 4]], {DEVICES[0]: 3, DEVICES[1]: 4}
    for row in (
        (root.id, b"a", "file", number, 3, json.dumps(both), json.dumps(clock), 0o700),
        (root.id, b"b", "tombstone", None, None, None, None, None),
    ):
        run("INSERT INTO intent VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    run("PRAGMA user_version = 3")
    state.close()
    again = State(path)
    first, second = again.roots.intents(root)
    assert second == Intended(RelPath(b"b"), "tombstone", None, 1)
    assert first.entry is not None
    assert first.entry.ids == (one.id, VersionId(DEVICES[1], 4))
    assert (first.entry.clock, first.entry.mode) == (VectorClock(clock), 0o700)
    again.close()


def test_an_intent_whose_version_was_taken_back_says_nothing_of_a_base(
    state: State, root: Root
) -> None:
    number = state.roots.intend(root, [Intent(RelPath(b"a"), "file", VersionId(DEVICES[0], 9))])
    assert state.roots.intents(root) == [Intended(RelPath(b"a"), "file", None, number)]


def test_the_number_of_a_list_of_intents_is_never_given_twice(state: State, root: Root) -> None:
    numbers = []
    for _ in range(3):
        numbers.append(state.roots.intend(root, [Intent(RelPath(b"a"), "tombstone")]))
        state.roots.settle_intents(numbers[-1])
    state.roots.clear_intents(root)
    numbers.append(state.roots.intend(root, [Intent(RelPath(b"a"), "tombstone")]))
    assert numbers == sorted(set(numbers))


def test_intents_of_a_state_of_before_keep_their_numbers(
    state: State, root: Root, tmp_path: Path
) -> None:
    run = state.database.connection.execute
    run("DROP TABLE intent_list")
    run("CREATE TABLE intent_list (id INTEGER PRIMARY KEY, root INTEGER, listed BLOB)")
    numbers = [state.roots.intend(root, [Intent(RelPath(p), "tombstone")]) for p in (b"a", b"b")]
    state.roots.settle_intents(numbers[0])
    run("PRAGMA user_version = 5")
    state.close()
    again = State(state.database.path)
    assert again.roots.intents(root) == [Intended(RelPath(b"b"), "tombstone", None, numbers[1])]
    later = again.roots.intend(root, [Intent(RelPath(b"c"), "tombstone")])
    assert later > numbers[1]
    again.close()


def test_removing_a_root_takes_everything_of_it_along(state: State, root: Root) -> None:
    state.roots.set_base(root, [(RelPath(b"a"), ENTRY)])
    state.roots.wait(root, [RelPath(b"b")])
    state.roots.intend(root, [Intent(RelPath(b"c"), "tombstone")])
    state.roots.remove(root)
    for table in ("base", "todo", "intent_list"):
        (count,) = state.database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert count == 0


# Outbox and index


def test_the_outbox_keeps_segments_until_each_is_removed(state: State, root: Root) -> None:
    entries = [
        OutboxEntry(SPACE, seq, StoreKey(f"k{seq}"), bytes([seq]), root.id if seq % 2 else None)
        for seq in (2, 1, 10)
    ]
    for entry in entries:
        state.outbox.add(entry)
    state.outbox.add(entries[0])
    assert [entry.seq for entry in state.outbox.all()] == [1, 2, 10]
    assert state.outbox.all()[0] == entries[1]
    state.outbox.remove(entries[1])
    assert [entry.seq for entry in state.outbox.all()] == [2, 10]
    assert state.outbox.count() == 2


def test_a_chunk_keeps_its_first_address_and_is_announced_once_told(
    state: State, path: Path
) -> None:
    chunk, other = ChunkId(b"c" * 32), ChunkId(b"d" * 32)
    first, later = ChunkAddress(PACK, 1, 2, 3, 4), ChunkAddress(PACK, 9, 9, 9, 9)
    index = state.index
    assert index.is_empty(SPACE)
    index.add_pack(SPACE, PackLocation(PACK, StoreKey("packs/x")), pending=True)
    assert index.packs(SPACE) == []
    assert [location.id for location in index.pending_packs(SPACE)] == [PACK]
    index.add_chunks(SPACE, [(chunk, first)], announced=False)
    assert index.unannounced(SPACE, [chunk, other]) == {chunk: first}
    index.add_chunks(SPACE, [(chunk, later)])
    assert index.address(SPACE, chunk) == first
    assert index.unannounced(SPACE, [chunk]) == {}
    index.add_chunks(SPACE, [(chunk, later)], announced=False)
    assert index.unannounced(SPACE, [chunk]) == {}
    index.add_pack(SPACE, PackLocation(PACK, StoreKey("elsewhere")))
    assert [(p.id, p.key) for p in index.packs(SPACE)] == [(PACK, "packs/x")]
    stored = StoredChunks(path, SPACE)
    assert stored.contains_many([chunk, other]) == {chunk}
    assert stored._connection is not None
    stored._connection.close()
    index.forget_pack(PACK)
    assert index.address(SPACE, chunk) is None
    assert index.location(PACK) is None


def test_parents_that_a_state_of_before_waits_for_are_found_anew(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    first = version(DEVICES[0], 1, b"p", content=1)
    answer = version(DEVICES[1], 1, b"p", [first], content=2)
    accept(state.history, answer)
    run = state.database.connection.execute
    run("DROP TABLE superseded")
    run("CREATE TABLE superseded (ns TEXT, device INTEGER, counter INTEGER)")
    run("PRAGMA user_version = 7")
    state.close()
    again = State(state.database.path)
    accept(again.history, first)
    assert again.history.head(SPACE, RelPath(b"p")).ids == (answer.id,)
    again.close()


def test_a_state_of_before_keeps_what_waits_and_learns_of_unread_packs(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    first = version(DEVICES[0], 1, b"p", content=1)
    accept(state.history, version(DEVICES[1], 1, b"p", [first], content=2))
    run = state.database.connection.execute
    waiting = run("SELECT * FROM superseded").fetchall()
    assert waiting
    run("DROP TABLE unread_pack")
    run("PRAGMA user_version = 8")
    state.close()
    again = State(state.database.path)
    assert again.database.connection.execute("SELECT * FROM superseded").fetchall() == waiting
    again.garbage.note_unread(SPACE, [PACK])
    assert again.garbage.unread(SPACE) == [PACK]
    again.close()
