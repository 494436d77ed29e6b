"""A pull of more paths than are decided on together: what spans the borders of its slices."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tcfs.errors import PlanChangedError
from tcfs.sync import deciding
from tcfs.sync.facade import Limits
from tcfs.sync.pull import Pull
from tests.sync.kit import Device, World, assert_same, snapshot

# A slash sorts after some characters that names have: what is in `d` comes after `d-1` and `d.txt`.
TREE = {
    **{f"d/{n}": f"in d {n}" for n in range(5)},
    "d-1/a": "a",
    "d-1/b": "b",
    "d.txt": "beside",
    "d/sub/x": "x",
    "d/sub/deep/y": "y",
    "d/sub.txt": "beside sub",
    "d/empty/": None,
    "e/": None,
    "z": "last",
}


@pytest.fixture(params=[1, 2, 3, 7], autouse=True)
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Slices of so many paths, found by the index of paths."""
    monkeypatch.setattr(deciding, "SLICE", request.param)
    monkeypatch.setattr("tcfs.state.columns.FEW_ROWS", 0)
    return request.param


def set_times(device: Device) -> None:
    for number, name in enumerate(("d/sub/deep", "d/sub", "d/empty", "d-1", "d", "e")):
        os.utime(device.path(name), ns=(number, 1_000_000_000 + number))


def assert_same_with_times(one: Device, other: Device) -> None:
    trees = [snapshot(d.tree, directory_times=True) for d in (one, other)]
    for tree in trees:
        tree.pop(b"", None)
    assert_same(*trees)


def test_directories_get_rights_and_times_once_all_is_in_them(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    os.chmod(anna.path("d/sub"), 0o555)
    os.chmod(anna.path("d-1"), 0o511)
    set_times(anna)
    anna.push()
    result = ben.pull()
    assert result.problems == ()
    assert result.plan.total == result.plan.counts["fetch"] == 18
    assert_same_with_times(anna, ben)
    assert ben.pull().plan.total == ben.push().plan.total == 0


def test_directories_wait_for_large_files_which_come_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcfs.sync.staging.LARGE", 20)
    anna, ben = world.devices("anna", "ben")
    anna.fill(
        {f"top/{name}": data for name, data in TREE.items()}
        | {"top/d/sub/large": "l" * 30, "top/0": "at the top, and large as well", "top/~": "last"}
    )
    for number, name in enumerate(("top/d/sub", "top/d", "top/e", "top")):
        os.utime(anna.path(name), ns=(number, 1_000_000_000 + number))
    os.chmod(anna.path("top"), 0o555)
    anna.push()
    result = ben.pull()
    assert result.problems == ()
    assert_same_with_times(anna, ben)
    out = os.path.normpath(ben.path("../out"))
    assert ben.pull(remote="top", local=out).problems == ()
    ours, theirs = (snapshot(top, directory_times=True) for top in (anna.path("top"), out))
    assert_same(ours, theirs)


def test_a_plan_says_the_same_whether_or_not_it_was_looked_at_before(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    told = ben.pull(dry_run=True).plan
    assert ben.pull().plan == told


def test_files_become_directories_and_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    ben.pull()
    for name in ("d/sub/deep/y", "d/sub/x", "z", "d/0", "d.txt"):
        anna.remove(name)
    os.rmdir(anna.path("d/sub/deep"))
    os.rmdir(anna.path("d/sub"))
    anna.fill({"d/sub": "a file now", "z/in/it": "z", "d/0/in": "0", "a": "first", "z/b": "b"})
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_moves_are_told_of_whichever_path_comes_first(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    ben.pull()
    os.rename(anna.path("z"), anna.path("a"))
    os.rename(anna.path("d.txt"), anna.path("y.txt"))
    anna.remove("d/1")
    anna.push()
    plan = ben.pull(limits=Limits(max_delete=1)).plan
    assert plan.counts == {"move": 2, "remove": 1}
    assert [(c.action, c.path, c.moved_from) for c in plan.changes] == [
        ("move", "a", "z"),
        ("remove", "d/1", ""),
        ("move", "y.txt", "d.txt"),
    ]
    assert_same(anna.tree, ben.tree)


def test_conflicts_are_sent_and_settled_in_any_slice(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    ben.pull()
    names = ("d/0", "d/4", "d.txt", "z")
    anna.fill({name: f"{name} by anna" for name in names})
    ben.fill({name: f"{name} by ben, and longer" for name in names})
    anna.push()
    assert len(ben.pull(mode="interactive").conflicts) == len(names)
    assert len(ben.pull(mode="auto").resolved) == len(names)
    anna.pull()
    assert_same(anna.tree, ben.tree)
    kept = set(ben.contents().values())
    assert {
        f"{name} by {who}".encode() for name in names for who in ("anna", "ben, and longer")
    } <= kept


def test_a_file_in_the_way_of_what_another_slice_brings_makes_room(world: World) -> None:
    anna, ben, carl = world.devices("anna", "ben", "carl")
    anna.fill({"p": "a file", **TREE})
    ben.fill({"p/x": "below it", "p/y": "too", "q": "q"})
    anna.push()
    ben.push()
    assert carl.pull(mode="auto").problems == ()
    contents = carl.contents()
    assert {b"a file", b"below it", b"too"} <= set(contents.values())
    assert contents["p/x"] == b"below it"


def test_more_removals_than_were_decided_are_refused(
    world: World, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    ben.pull()
    edited = ("d/1", "d/2", "d/3", "d.txt", "d-1/a", "d-1/b", "d/sub/x", "d/sub.txt")
    for name in edited:
        anna.remove(name)
    anna.push()
    ben.fill(dict.fromkeys(edited, "edited here"))
    take_up = Pull.take_up

    def meanwhile(self: Pull) -> None:
        take_up(self)
        ben.fill({name: TREE[name] for name in edited})

    monkeypatch.setattr(Pull, "take_up", meanwhile)
    with pytest.raises(PlanChangedError, match="more is to be removed"):
        ben.pull()
    assert all(os.path.exists(ben.path(name)) for name in edited)
    monkeypatch.undo()
    monkeypatch.setattr(deciding, "SLICE", size)
    assert ben.pull(limits=Limits(confirmed=True)).plan.counts == {"remove": len(edited)}
    assert_same(anna.tree, ben.tree)


def test_a_directory_that_is_kept_for_what_is_not_synced_stays(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(TREE)
    anna.push()
    ben.pull()
    ben.fill({"d-1/only-here.swp": "excluded, and the only copy"})
    for path, entry in sorted(snapshot(anna.tree).items(), reverse=True):
        if path:
            (os.rmdir if entry.kind == "dir" else os.unlink)(anna.path(path))
    anna.push(limits=Limits(confirmed=True))
    assert ben.pull(limits=Limits(confirmed=True)).problems == ()
    assert ben.contents() == {"d-1/only-here.swp": b"excluded, and the only copy"}
    assert ben.push().plan.total == 0
