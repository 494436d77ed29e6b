"""Walking a tree beside its base finds what comparing them whole would find."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tcfs.host.base import FileKind, Stat
from tcfs.host.system import system_host
from tcfs.model.clock import VectorClock
from tcfs.model.ids import DEFAULT_NAMESPACE, DeviceId, RelPath, VersionId
from tcfs.model.paths import ROOT
from tcfs.model.plan import BaseEntry, LocalChange, LocalEntry
from tcfs.state.roots import Root
from tcfs.state.state import State
from tcfs.sync import candidates
from tcfs.sync.candidates import Candidates
from tcfs.sync.compare import Look
from tcfs.sync.ignore import exclusion
from tcfs.sync.scan import Scan, entry_of, scan, walk

DEVICE = DeviceId("00000000-0000-4000-8000-000000000001")
NAMES = ("a", "a-b", "a.b", "a0", "a b", "A", "b", "ä", "a!")
PLAIN = exclusion((), hidden_dirs=True, git_dirs=True)


def grow(top: Path, source: random.Random, depth: int = 3) -> None:
    """Files and directories whose names sort before and after the slash."""
    for name in NAMES:
        if source.random() < 0.4:
            continue
        if depth and source.random() < 0.5:
            (top / name).mkdir()
            grow(top / name, source, depth - 1)
        else:
            (top / name).write_text(name)


def based_on(entry: LocalEntry) -> BaseEntry:
    version, clock = (VersionId(DEVICE, 1),), VectorClock({DEVICE: 1})
    stat = (entry.size, entry.mode, entry.mtime_ns, entry.ctime_ns, entry.inode)
    return BaseEntry(version, clock, entry.kind, *stat, b"h" * 32, b"", 0)


def look_at(state: State, root: Root, prefix: RelPath = ROOT) -> Look:
    found = Look(Candidates(lambda paths: state.roots.base_at(root, paths)))
    walked = walk(system_host().files, root.local, PLAIN, prefix, found.scan)
    found.take(walked, state.roots.stats(root, prefix))
    return found


def test_a_walk_tells_of_paths_in_the_order_of_their_bytes(tmp_path: Path):
    for seed in range(5):
        top = tmp_path / str(seed)
        top.mkdir()
        grow(top, random.Random(seed))
        walked = walk(system_host().files, os.fsencode(top), PLAIN, ROOT, Scan())
        paths = [path for path, _ in walked]
        assert paths == sorted(paths)
        assert len(paths) == 1 + sum(1 for _ in top.rglob("*"))


def test_a_look_finds_what_is_new_changed_and_gone_and_nothing_else(tmp_path: Path):
    top = tmp_path / "tree"
    top.mkdir()
    source = random.Random(7)
    grow(top, source)
    state = State(tmp_path / "state.db")
    root = state.roots.add(os.fsencode(top), DEFAULT_NAMESPACE, ROOT)
    before = scan(system_host().files, root.local, PLAIN).entries
    state.roots.set_base(root, [(path, based_on(entry)) for path, entry in before.items()])
    assert not look_at(state, root).changed

    files = sorted(path for path, entry in before.items() if entry.kind == "file")
    changed = set(source.sample(files, 5))
    removed = set(source.sample(sorted(set(files) - changed), 5))
    for path in changed:
        with open(root.local + b"/" + path, "ab") as out:
            out.write(b"more")
    for path in removed:
        os.unlink(root.local + b"/" + path)
    added = RelPath(b"a-b.new")
    (top / os.fsdecode(added)).write_text("new")

    found = look_at(state, root)
    assert list(found.changed.paths()) == sorted(changed | {added})
    for c in found.changed:
        assert (c.base is None) == (c.path == added)
        assert c.base is None or c.base == based_on(before[c.path])
        assert c.entry == entry_of(system_host().files.lstat(root.local + b"/" + c.path))
    assert set(found.gone) == removed
    assert found.tracked == len(before)
    assert found.seen == len(before) - len(removed) + 1
    for prefix in (path for path, entry in before.items() if entry.kind == "dir" and path):
        part = look_at(state, root, prefix)
        inside = {p for p in before if p == prefix or p.startswith(prefix + b"/")}
        assert set(part.changed.paths()) == changed & inside
        assert set(part.gone) == removed & inside
        assert part.tracked == len(inside)
    state.close()


def test_a_directory_of_this_disk_alone_is_in_use_if_something_synced_is_below_it(tmp_path: Path):
    state = State(tmp_path / "state.db")
    top = tmp_path / "tree"
    for name in ("empty", "outer/empty", "used", "used-not"):
        (top / name).mkdir(parents=True)
    (top / "used" / "file").write_text("x")
    root = state.roots.add(os.fsencode(top), DEFAULT_NAMESPACE, ROOT)
    entries = scan(system_host().files, root.local, PLAIN).entries
    rows = []
    for path, entry in entries.items():
        alone = entry.kind == "dir" and path
        stat = (entry.kind, entry.size, entry.mode, entry.mtime_ns)
        known = LocalEntry(*stat, 0 if alone else entry.ctime_ns, entry.inode)
        rows.append((path, based_on(known)))
    state.roots.set_base(root, rows)
    found = look_at(state, root)
    assert found.in_use == {b"used"}, "not for another of its kind"
    assert found.alone == {b"empty", b"outer", b"outer/empty", b"used", b"used-not"}
    assert set(found.changed.paths()) == found.alone
    state.close()


def test_candidates_are_the_same_however_many_are_kept_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(candidates, "_BLOCK", 3)
    base = {
        RelPath(b"b%02d" % n): based_on(LocalEntry("file", n, 0o644, 1, 2, n)) for n in range(20)
    }

    def base_at(paths: Sequence[RelPath]) -> dict[RelPath, BaseEntry]:
        return {path: base[path] for path in paths if path in base}

    def some(paths: Iterable[bytes], *, based: bool) -> Candidates:
        made = Candidates(base_at)
        for number, path in enumerate(paths):
            kind: FileKind = "dir" if number % 5 == 4 else "file"
            made.add(RelPath(path), Stat(kind, number, 0o600, 3, 4, 5, 6), based=based)
        return made

    found = some((b"a%02d" % n for n in range(10)), based=False)
    found.extend(some((b"b%02d" % n for n in range(0, 20, 2)), based=True))
    found.narrow(lambda c: LocalChange.NONE if c.path == b"b04" else LocalChange.MAYBE)
    found.add_gone(RelPath(b"b%02d" % n) for n in range(1, 20, 2))
    found.drop(lambda path: path == b"a03")
    paths = [c.path for c in found]
    assert paths == sorted(paths) == list(found.paths())
    assert len(found) == len(paths) == 9 + 9 + 10
    assert {c.path for c in found if c.change is LocalChange.NEW} == {
        b"a%02d" % n for n in range(10) if n != 3
    }
    assert [c.path for c in found.gone()] == [b"b%02d" % n for n in range(1, 20, 2)]
    assert all(c.base == base.get(c.path) for c in found)
    assert len(list(found.files())) + len(list(found.others())) == 18
    assert [size for size, _ in found.stats()] == [c.entry.size for c in found.files() if c.entry]
    first, last = found.divided({RelPath(b"b02"), RelPath(b"a09"), RelPath(b"b05")})
    assert list(last.paths()) == [b"b02"]  # a09 is a directory, b05 is gone
    assert sorted([*first.paths(), *last.paths()]) == paths
