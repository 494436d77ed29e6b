"""RFC 0001, phase 5: a repository is pushed, a bundle is made, another machine has the same log."""

from __future__ import annotations

import pytest

from tests.sync.git.repos import BUNDLE, Repo, assert_alike, clean, repo
from tests.sync.kit import Device, World


@pytest.fixture
def pair(world: World) -> tuple[Device, Device]:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    return anna, ben


def exchange(source: Device, target: Device) -> None:
    """What one pushes, the other pulls."""
    clean(source.push())
    clean(target.pull())


def test_a_pushed_repository_is_cloned_elsewhere_with_equal_log_status_and_fsck(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    source = repo(anna).init()
    source.commit("a.txt", "one\n")
    source.commit("src/b.txt", "two\n")
    source("tag", "-a", "v1", "-m", "first")
    source("tag", "light")
    source("branch", "side", "HEAD~1")
    source("notes", "add", "-m", "a note")
    source.write("a.txt", "stashed\n")
    source("stash", "push", "-q", "-m", "kept for later")
    source.write("a.txt", "uncommitted\n")
    source.write("new.txt", "untracked\n")
    source.write("src/b.txt", "staged\n")
    source("add", "src/b.txt")
    exchange(anna, ben)
    target = repo(ben)
    assert_alike(source, target)
    assert target("status", "--porcelain") == " M a.txt\nM  src/b.txt\n?? new.txt"


def test_a_commit_is_followed_and_the_tree_is_clean(pair: tuple[Device, Device]) -> None:
    anna, ben = pair
    source, target = repo(anna).init(), repo(ben)
    source.commit("a.txt", "one\n")
    exchange(anna, ben)
    source.commit("a.txt", "two\n")
    exchange(anna, ben)
    assert_alike(source, target)
    assert target("status", "--porcelain") == ""
    target.commit("b.txt", "three\n")
    exchange(ben, anna)
    assert_alike(source, target)
    assert source("status", "--porcelain") == ""


def test_pushing_or_pulling_again_does_nothing(pair: tuple[Device, Device]) -> None:
    anna, ben = pair
    repo(anna).init().commit("a.txt", "one\n")
    exchange(anna, ben)
    for device in (anna, ben):
        clean(device.push())
        again = clean(device.push())
        assert (again.plan.total, again.transfer.segments) == (0, 0)
        again = clean(device.pull())
        assert (again.plan.total, again.transfer.segments) == (0, 0)


def test_a_root_that_is_itself_a_repository_travels_by_name(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    source = Repo(world.top / "test-repo").init()
    source.commit("a.txt", "one\n")
    clean(anna.fleet.push([bytes(source.path)]))
    target = Repo(world.top / "elsewhere" / "test-repo")
    clean(ben.fleet.pull("tcfs/default/test-repo", bytes(target.path)))
    assert target("log", "--format=%H") == source("log", "--format=%H")
    assert_alike(source, target)


def test_a_repository_in_which_nothing_happened_costs_no_run_of_git(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tcfs.sync.git.program import Program

    anna, ben = pair
    source = repo(anna).init()
    source.commit("a.txt", "one\n")
    exchange(anna, ben)
    runs: list[object] = []
    call = Program.call

    def counted(self: Program, *arguments: object, **options: object) -> object:
        runs.append(arguments)
        return call(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Program, "call", counted)
    clean(anna.push())
    anna.fill({"beside.txt": "not in a repository"})
    clean(anna.push())
    assert runs == []
    # What is uncommitted is told anew when files change, and commits when refs do.
    source.write("a.txt", "edited\n")
    clean(anna.push())
    assert runs
    ben.pull()
    (status,) = ben.fleet.git.status().repositories
    assert [d.uncommitted for d in status.devices if d.device == "anna"] == [1]
    for step in (
        ("branch", "b"),
        ("branch", "-D", "b"),
        ("stash",),
        ("stash", "drop"),
        ("tag", "v"),
        ("pack-refs", "--all"),
        ("switch", "-q", "-c", "c"),
    ):
        source(*step)
        exchange(anna, ben)
        assert_alike(source, repo(ben))
