"""A look at a tree that others list ahead finds what a look of one's own finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tcfs.errors import LocalFileError, TcfsError
from tcfs.host.base import Ahead, Host
from tcfs.host.system import system_host
from tcfs.sync import ahead
from tcfs.sync.results import SyncResult
from tcfs.sync.workbench import Workbench
from tests.sync.kit import Device, World, assert_same


class Told:
    """Passes on what others tell, and counts."""

    def __init__(self, inner: Ahead, counts: dict[str, int]) -> None:
        self._inner = inner
        self._counts = counts

    def entries(self, directory: bytes) -> list[tuple[object, ...]] | None:
        found = self._inner.entries(directory)
        self._counts["not told" if found is None else "told"] += 1
        return found  # type: ignore[return-value]

    def close(self) -> None:
        self._counts["closed"] += 1
        self._inner.close()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setattr(ahead, "PAYS", 1)
    return dict.fromkeys(("begun", "told", "not told", "closed"), 0)


def host_that_counts(counts: dict[str, int]) -> Host:
    host = system_host()

    def begin(top: bytes, avoided: Sequence[bytes]) -> Ahead | None:
        counts["begun"] += 1
        assert host.ahead is not None
        inner = host.ahead(top, avoided)
        assert inner is not None
        return Told(inner, counts)  # type: ignore[return-value]

    return replace(host, ahead=begin)


def device(world: World, counts: dict[str, int], **settings: str) -> Device:
    made = world.device("anna", host=host_that_counts(counts))
    made.settings |= {"TCFS_SYNC_JOBS": "2", **settings}
    return made


def counts_of(result: SyncResult) -> dict[str, int]:
    return {action: count for action, count in result.plan.counts.items() if count}


def test_a_push_finds_the_same_whoever_listed_the_tree(world: World, counts: dict[str, int]):
    anna = device(world, counts, TCFS_SYNC_EXCLUDE_PATTERNS='["*.tmp", "cache"]')
    ben = world.device("ben")
    anna.fill(
        {
            **{
                f"d{i}/e{j}/f{k}.txt": f"{i}{j}{k}"
                for i in range(3)
                for j in range(3)
                for k in "ab"
            },
            "d1/.tcfsignore": "secret\n",
            "d1/secret/s": "no",
            "d2/cache/c": "no",
            "d2/x.tmp": "no",
            ".dots/inner/f": "dotted",
            "a-b/f": "1",
            "a/f": "2",
            "a.b": "3",
        }
    )
    anna.push()
    assert counts["begun"] == 0  # nothing was tracked yet
    assert counts_of(anna.push()) == {}
    assert counts["begun"] == counts["closed"] == 1
    assert counts["told"] > 10
    assert counts["not told"] > 0
    ben.pull()
    assert "d1/secret/s" not in ben.contents()
    assert len(ben.contents()) == 18 + 1 + 4

    (anna.tree / "d0/e1/fa.txt").write_text("changed")
    (anna.tree / "d1/e1/fa.txt").unlink()
    shutil.rmtree(anna.tree / "d2/e0")
    anna.fill({"d1/new/f": "new", "d0/g.txt": "new", "d2/cache/more": "no"})
    assert counts_of(anna.push()) == {"add": 3, "change": 1, "delete": 4}
    assert counts["begun"] == counts["closed"] == 2
    ben.pull()
    for left_out in ("d1/secret", "d2/cache"):
        shutil.rmtree(anna.tree / left_out)
    (anna.tree / "d2/x.tmp").unlink()
    assert_same(anna.tree, ben.tree)


def test_what_others_wrote_meanwhile_is_taken_up_as_before(world: World, counts: dict[str, int]):
    anna, ben = device(world, counts), world.device("ben")
    anna.fill({"d/a": "1", "d/b": "1"})
    anna.push()
    ben.pull()
    ben.fill({"d/a": "ben's"})
    ben.push()
    anna.fill({"d/a": "anna's", "d/c": "1"})
    result = anna.push()
    assert counts["begun"] == 1
    assert len(result.conflicts) == 1


def test_nobody_looks_ahead_while_something_of_a_pull_is_left(world: World, counts: dict[str, int]):
    anna = device(world, counts)
    anna.fill({"d/a": "1"})
    anna.push()
    context = anna.fleet._context
    (root,) = context.state.roots.all()
    os.makedirs(Workbench(context, root).temp)
    anna.push()
    assert counts["begun"] == 0
    anna.push()  # it was cleaned up
    assert counts["begun"] == 1


def test_a_root_that_is_gone_or_another_is_not_looked_at(world: World, counts: dict[str, int]):
    anna = device(world, counts)
    anna.fill({"d/a": "1"})
    anna.push()
    os.rename(anna.tree, anna.tree.with_name("elsewhere"))
    anna.tree.mkdir()
    with pytest.raises(LocalFileError, match="not the directory that was synced"):
        anna.push()
    assert counts["begun"] == 0


@pytest.mark.parametrize("settings", [{"TCFS_SYNC_JOBS": "1"}, {"TCFS_SYNC_SYNC_GIT_DIRS": "true"}])
def test_nobody_looks_ahead_where_one_process_is_wanted_or_everything_is_kept(
    world: World, counts: dict[str, int], settings: dict[str, str]
):
    anna = device(world, counts, **settings)
    anna.fill({"d/a": "1"})
    anna.push()
    assert counts_of(anna.push()) == {}
    assert counts["begun"] == 0


def test_a_failure_ends_those_who_look_ahead(world: World, counts: dict[str, int]):
    anna = device(world, counts)
    anna.fill({"d/a": "1"})
    anna.push()
    shutil.rmtree(world.top / "store")
    with pytest.raises(TcfsError):
        anna.push()
    assert counts["begun"] == counts["closed"] == 1
