"""Refs that moved on two devices: fast-forwards need nobody, everything else is a conflict."""

from __future__ import annotations

import pytest

from tcfs.errors import ConflictError, UsageError
from tests.sync.git.repos import BUNDLE, Repo, assert_alike, clean, repo
from tests.sync.kit import Device, World

MAIN = "repo/.git/tcfs/refs/heads/main"


@pytest.fixture
def pair(world: World) -> tuple[Device, Device, Repo, Repo]:
    """Two devices with one repository, equal and clean."""
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    source = repo(anna).init()
    source.commit("a.txt", "one\n")
    source.commit("b.txt", "one\n")
    source("branch", "side")
    clean(anna.push())
    clean(ben.pull())
    clean(ben.push())
    clean(anna.pull())
    return anna, ben, source, repo(ben)


def paths(device: Device) -> list[str]:
    return [conflict.path for conflict in device.fleet.conflicts().conflicts]


def diverge(anna: Device, ben: Device, one: Repo, other: Repo) -> tuple[str, str]:
    """A commit on each side, of different files; ben has pulled anna's."""
    theirs = one.commit("a.txt", "anna\n")
    mine = other.commit("b.txt", "ben\n")
    clean(anna.push())
    ben.pull()
    clean(ben.push())
    return mine, theirs


def test_commits_on_both_sides_are_a_conflict_and_neither_branch_moves(pair) -> None:
    anna, ben, one, other = pair
    mine, theirs = diverge(anna, ben, one, other)
    assert paths(ben) == [MAIN]
    assert (one.oid("main"), other.oid("main")) == (theirs, mine)
    assert other.oid("refs/tcfs/anna/heads/main") == theirs
    anna.pull()
    assert paths(anna) == [MAIN]
    assert one.oid("main") == theirs
    shown = ben.fleet.show_conflict(MAIN)
    assert mine in shown.ours.text
    assert theirs in shown.theirs.text
    assert "write b.txt" in shown.ours.text
    assert shown.merge_possible


@pytest.mark.parametrize("who", ["ben", "anna"])
@pytest.mark.parametrize("resolution", ["keep_local", "keep_remote"])
def test_keeping_one_side_moves_the_other_device(pair, who: str, resolution: str) -> None:
    anna, ben, one, other = pair
    mine, theirs = diverge(anna, ben, one, other)
    anna.pull()
    (ben if who == "ben" else anna).fleet.resolve(MAIN, resolution)
    for device in (anna, ben):
        device.pull()
    kept = mine if (who == "ben") == (resolution == "keep_local") else theirs
    assert (one.oid("main"), other.oid("main")) == (kept, kept)
    assert paths(ben) == paths(anna) == []
    # The files are both sides' work; what the branch does not have shows as uncommitted.
    assert (anna.read("repo/a.txt"), anna.read("repo/b.txt")) == (b"anna\n", b"ben\n")
    assert_alike(one, other)
    for git in (one, other):
        assert git("cat-file", "-t", mine) == git("cat-file", "-t", theirs) == "commit"


def test_keeping_both_makes_a_branch_of_the_other_side(pair) -> None:
    anna, ben, one, other = pair
    mine, theirs = diverge(anna, ben, one, other)
    done = ben.fleet.resolve(MAIN, "keep_both")
    assert done.conflict_copies == ("repo/.git/tcfs/refs/heads/main.conflict-ben",)
    clean(anna.pull())
    for git in (one, other):
        assert git.oid("main") == theirs
        assert git.oid("main.conflict-ben") == mine
    assert_alike(one, other)


def test_merging_is_a_real_merge_and_leaves_both_trees_clean(pair) -> None:
    anna, ben, one, other = pair
    mine, theirs = diverge(anna, ben, one, other)
    ben.fleet.resolve(MAIN, "merge")
    clean(anna.pull())
    assert other("log", "-1", "--format=%P") == f"{mine} {theirs}"
    assert_alike(one, other)
    assert one("status", "--porcelain") == other("status", "--porcelain") == ""
    assert paths(anna) == paths(ben) == []


def test_a_merge_that_conflicts_changes_nothing(pair) -> None:
    anna, ben, one, other = pair
    one.commit("a.txt", "anna\n")
    other.commit("a.txt", "ben\n")
    clean(anna.push())
    ben.pull()
    before = other.told()
    with pytest.raises(ConflictError, match=r"does not merge cleanly: a\.txt"):
        ben.fleet.resolve(MAIN, "merge")
    assert other.told() == before
    assert paths(ben) == [MAIN]
    assert "does not merge cleanly" in ben.fleet.show_conflict(MAIN).merge_reason


def test_a_merge_does_not_overwrite_an_edit(pair) -> None:
    anna, ben, one, other = pair
    diverge(anna, ben, one, other)
    other.write("a.txt", "not committed\n")
    with pytest.raises(ConflictError, match=r"a\.txt has edits"):
        ben.fleet.resolve(MAIN, "merge")
    assert ben.read("repo/a.txt") == b"not committed\n"


def test_a_branch_that_only_went_on_is_followed_even_if_the_other_side_moved_too(pair) -> None:
    anna, ben, one, other = pair
    # Both had the first commit from somewhere else; one went further.
    one.commit("a.txt", "two\n")
    (other.path / "a.txt").write_bytes(b"two\n")
    other("fetch", "-q", str(one.path), "main")
    other("reset", "-q", "--hard", "FETCH_HEAD")
    newest = other.commit("b.txt", "two\n")
    clean(anna.push())
    clean(ben.pull())
    clean(ben.push())
    clean(anna.pull())
    assert (one.oid("main"), other.oid("main")) == (newest, newest)
    assert_alike(one, other)


def test_a_dirty_checked_out_branch_is_not_touched_and_shown_as_a_conflict(pair) -> None:
    anna, ben, one, other = pair
    before = other.head
    theirs = one.commit("a.txt", "two\n")
    one("branch", "-f", "side", "main")
    clean(anna.push())
    other.write("b.txt", "an edit of ben's\n")
    result = ben.pull()
    assert other.head == before
    assert paths(ben) == [MAIN] == [c.path for c in result.conflicts]
    assert ben.read("repo/b.txt") == b"an edit of ben's\n"
    assert other.oid("side") == theirs  # not checked out: it follows
    # Anna sees it too, and is left alone.
    anna.pull()
    assert paths(anna) == [MAIN]
    assert one.head == theirs


def test_keeping_the_remote_side_under_a_dirty_tree_keeps_the_edit(pair) -> None:
    anna, ben, one, other = pair
    theirs = one.commit("a.txt", "two\n")
    clean(anna.push())
    other.write("b.txt", "an edit of ben's\n")
    ben.pull()
    ben.fleet.resolve(MAIN, "keep_remote")
    assert other.head == theirs
    assert other("status", "--porcelain") == " M b.txt"
    assert ben.read("repo/b.txt") == b"an edit of ben's\n"
    assert paths(ben) == []
    clean(ben.push())
    clean(anna.pull())
    assert_alike(one, other)


def test_once_the_edit_is_in_the_fleet_the_branch_follows_by_itself(pair) -> None:
    anna, ben, one, other = pair
    theirs = one.commit("a.txt", "two\n")
    clean(anna.push())
    other.write("b.txt", "an edit of ben's\n")
    ben.pull()
    clean(ben.push())
    ben.pull()
    assert other.head == theirs
    assert paths(ben) == []
    clean(anna.pull())
    assert_alike(one, other)


def test_staged_work_keeps_a_branch_from_moving(pair) -> None:
    anna, ben, one, other = pair
    before = other.head
    one.commit("a.txt", "two\n")
    clean(anna.push())
    other.write("b.txt", "staged by ben\n")
    other("add", "b.txt")
    ben.pull()
    assert other.head == before
    assert other("diff", "--cached", "--name-only") == "b.txt"
    assert paths(ben) == [MAIN]


def test_amending_on_one_side_rewrites_the_other_without_a_conflict(pair) -> None:
    anna, ben, one, other = pair
    one("commit", "-q", "--amend", "-m", "said better")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)


def test_a_reset_is_not_undone_because_the_other_side_went_on(pair) -> None:
    anna, ben, one, other = pair
    one("reset", "-q", "--hard", "HEAD~1")
    other.commit("c.txt", "ben\n")
    clean(anna.push())
    ben.pull()
    assert paths(ben) == [MAIN]


def test_stashes_of_both_sides_are_all_kept(pair) -> None:
    anna, ben, one, other = pair
    for git, word in ((one, "anna"), (other, "ben")):
        git.write("a.txt", f"{word}\n")
        git("stash", "push", "-q", "-m", word)
    clean(anna.push())
    clean(ben.pull())
    clean(anna.pull())
    assert one("stash", "list", "--format=%s") == other("stash", "list", "--format=%s")
    assert {line.split(": ")[1] for line in one("stash", "list", "--format=%s").splitlines()} == {
        "anna",
        "ben",
    }


def test_tags_that_differ_are_a_conflict_that_can_be_kept_twice(pair) -> None:
    anna, ben, one, other = pair
    one("tag", "v1", "HEAD")
    other("tag", "v1", "HEAD~1")
    clean(anna.push())
    ben.pull()
    path = "repo/.git/tcfs/refs/tags/v1"
    assert paths(ben) == [path]
    with pytest.raises(UsageError, match="only branches are merged"):
        ben.fleet.resolve(path, "merge")
    ben.fleet.resolve(path, "keep_both")
    clean(anna.pull())
    assert_alike(one, other)
    assert one.oid("v1.conflict-ben") == one.oid("HEAD~1")


def test_different_branches_checked_out_on_two_sides_are_a_conflict_of_head(pair) -> None:
    anna, ben, one, other = pair
    one("switch", "-q", "-c", "work")
    other("switch", "-q", "side")
    clean(anna.push())
    ben.pull()
    head = "repo/.git/tcfs/HEAD"
    assert paths(ben) == [head]
    with pytest.raises(UsageError, match="one thing only"):
        ben.fleet.resolve(head, "keep_both")
    ben.fleet.resolve(head, "keep_remote")
    assert other("symbolic-ref", "HEAD") == "refs/heads/work"
    clean(anna.pull())
    assert_alike(one, other)


def test_repositories_that_drifted_before_they_were_synced_meet(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "one\n")
    other.path.parent.mkdir(parents=True, exist_ok=True)
    one("clone", "-q", str(one.path), str(other.path))
    other("remote", "remove", "origin")
    newest = one.commit("b.txt", "two\n")
    mine = other.oid("main")
    clean(anna.push())
    ben.pull()
    assert other.oid("main") == newest != mine
    ben.push()
    anna.pull()
    assert paths(anna) == paths(ben) == []
    assert one("status", "--porcelain") == other("status", "--porcelain") == ""


def test_of_a_long_stash_the_newest_travel_and_none_is_lost(pair, monkeypatch) -> None:
    anna, ben, one, other = pair
    monkeypatch.setattr("tcfs.sync.git.snapshot.MAX_STASHES", 2)
    for n in range(4):
        one.write("a.txt", f"stash {n}\n")
        one("stash", "push", "-q", "-m", f"stash {n}")
        clean(anna.push())
        clean(ben.pull())
    assert_alike(one, other)
    assert len(other("stash", "list").splitlines()) == 4
    assert "newest 2 travel" in anna.push().plan.warnings[0]


def test_a_device_that_may_only_read_follows_and_keeps_its_own_commits(world: World) -> None:
    (anna,) = world.devices("anna", **BUNDLE)
    (ben,) = world.devices("ben", role="reader", **BUNDLE)
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    one.commit("a.txt", "two\n")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)
    mine = other.commit("b.txt", "ben\n")
    one.commit("a.txt", "three\n")
    clean(anna.push())
    (problem,) = ben.pull().problems
    assert problem.code == "access"
    assert "refs/heads/main differs from the fleet's" in problem.message
    assert other.head == mine
    assert other.oid("refs/tcfs/anna/heads/main") == one.head
