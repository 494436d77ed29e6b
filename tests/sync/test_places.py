"""What goes where: paths inside the sync root, others, and what a user names."""

from __future__ import annotations

import os

import pytest

from tcfs.errors import LocalFileError, NotFoundError, UsageError
from tests.sync.kit import Link, World, assert_same, contents, fill, path_of


def test_a_path_inside_the_sync_root_keeps_its_relative_path(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"docs/deep/a.txt": "a", "docs/b.txt": "b", "c.txt": "c"})

    result = anna.push("docs/deep")

    assert result.remote == "tcfs/default/docs/deep"
    ben.pull()
    assert ben.contents() == {"docs/deep/a.txt": b"a"}


def test_a_path_elsewhere_goes_under_its_base_name(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    other = world.top / "far" / "away"
    fill(other, {"a.txt": "a", "d/b.txt": "b"})
    assert anna.fleet.push([path_of(other)]).remote == "tcfs/default/away"
    ben.pull()
    assert ben.contents() == {"away/a.txt": b"a", "away/d/b.txt": b"b"}


def test_without_a_sync_root_everything_goes_under_its_base_name(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_SYNC_ROOT="")
    anna.fill({"a.txt": "a"})
    assert anna.push("a.txt").remote == "tcfs/default/a.txt"
    with pytest.raises(UsageError, match="no sync root"):
        ben.pull()
    with pytest.raises(UsageError, match="no sync root"):
        anna.push()


def test_a_given_remote_path_overrides_both(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    other = world.top / "far"
    fill(other, {"x.txt": "x"})
    assert anna.push("a.txt", as_remote="renamed/b.txt").remote == "tcfs/default/renamed/b.txt"
    anna.fleet.push([path_of(other)], as_remote="tcfs/default/near")
    ben.pull()
    assert ben.contents() == {"renamed/b.txt": b"a", "near/x.txt": b"x"}


def test_the_remotes_name_counts_only_as_the_first_component(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push("a.txt", as_remote="tcfs/default/one.txt")
    anna.push("a.txt", as_remote="two/default/three.txt")
    anna.push("a.txt", as_remote="x/tcfs/y.txt")
    ben.pull()
    assert sorted(ben.contents()) == ["one.txt", "two/default/three.txt", "x/tcfs/y.txt"]


def test_one_file_is_pulled_to_an_explicit_path_as_in_the_fleet_plan(world: World) -> None:
    """RFC 0001, phases 3 and 4: push a file, enroll, pull it to a path on the other machine."""
    anna = world.device("anna", TCFS_SYNC_SYNC_ROOT="")
    file = world.top / "fleet-test.txt"
    file.write_bytes(b"Hello from yoga\n")
    assert anna.fleet.push([path_of(file)]).remote == "tcfs/default/fleet-test.txt"
    ben = world.device("ben", TCFS_SYNC_SYNC_ROOT="")
    out = world.top / "out" / "fleet-test-pulled.txt"

    result = ben.fleet.pull("tcfs/default/fleet-test.txt", path_of(out))

    assert out.read_bytes() == b"Hello from yoga\n"
    assert result.transfer.files == 1
    # Phase 4: both machines edit, and neither edit is lost.
    file.write_bytes(b"edit from yoga\n")
    assert anna.fleet.push([path_of(file)]).conflicts == ()
    out.write_bytes(b"edit from honey\n")
    pushed = ben.fleet.push([path_of(out)])
    assert [c.path for c in pushed.conflicts] == ["fleet-test.txt"]
    settled = ben.fleet.pull("tcfs/default/fleet-test.txt", path_of(out))
    assert settled.resolved == ("fleet-test.txt",)
    # The lexicographically smaller name wins: anna's. The other stays beside it.
    assert out.read_bytes() == b"edit from yoga\n"
    assert settled.conflict_copies == ("fleet-test.conflict-ben.txt",)
    copy = world.top / "out" / "copy.txt"
    ben.fleet.pull("fleet-test.conflict-ben.txt", path_of(copy))
    assert copy.read_bytes() == b"edit from honey\n"


def test_a_file_pulled_to_a_directory_lands_in_it(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_SYNC_ROOT="")
    anna.fill({"a.txt": "a"})
    anna.push("a.txt")
    out = world.top / "out"
    out.mkdir()
    ben.fleet.pull("a.txt", path_of(out))
    assert contents(out) == {"a.txt": b"a"}


def test_a_file_pulled_without_a_place_lands_under_its_name_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_SYNC_ROOT="")
    anna.fill({"d/a.txt": "a"})
    anna.fleet.push([anna.path("d")])
    here = world.top / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    ben.fleet.pull("d/a.txt")
    assert contents(here) == {"a.txt": b"a"}


def test_a_directory_pulled_to_an_explicit_path_is_a_root_of_its_own(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"docs/a.txt": "a", "docs/d/b.txt": "b", "other.txt": "o"})
    anna.push()
    out = world.top / "mydocs"

    ben.fleet.pull("docs", path_of(out))
    assert contents(out) == {"a.txt": b"a", "d/b.txt": b"b"}
    fill(out, {"a.txt": "edited", "new.txt": "n"})
    ben.fleet.push([path_of(out)])
    anna.pull()

    assert anna.contents() == {
        "docs/a.txt": b"edited",
        "docs/d/b.txt": b"b",
        "docs/new.txt": b"n",
        "other.txt": b"o",
    }


def test_a_path_inside_an_earlier_root_keeps_its_place_there(world: World) -> None:
    anna = world.device("anna", TCFS_SYNC_SYNC_ROOT="")
    project = world.top / "project"
    fill(project, {"src/a.py": "a"})
    anna.fleet.push([path_of(project)])
    fill(project, {"src/b.py": "b"})
    assert anna.fleet.push([path_of(project / "src/b.py")]).remote == (
        "tcfs/default/project/src/b.py"
    )


def test_pulling_into_a_directory_that_has_equal_files_adopts_them(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    tree: dict[str, bytes | str | Link | None] = {
        "a.txt": "a",
        "d/b.txt": "b" * 1000,
        "l": Link("a.txt"),
        "e/": None,
    }
    anna.fill(tree)
    ben.fill(tree)
    anna.push()

    result = ben.pull()

    assert (len(result.conflicts), len(result.resolved), len(result.problems)) == (0, 0, 0)
    assert result.transfer.bytes_received == 0
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_pulling_what_is_not_there_says_so(world: World) -> None:
    (anna,) = world.devices("anna")
    with pytest.raises(NotFoundError) as caught:
        anna.fleet.pull("no/such/path", path_of(world.top / "x"))
    assert caught.value.exit_code == 20
    assert not (world.top / "x").exists()


def test_pushing_what_is_not_there_says_so(world: World) -> None:
    (anna,) = world.devices("anna")
    with pytest.raises(LocalFileError, match="does not exist"):
        anna.push("typo.txt")


def test_a_single_file_is_pushed_and_its_deletion_too(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "b.txt": "b"})
    anna.push("a.txt")
    anna.push("b.txt")
    ben.pull()
    anna.remove("a.txt")

    assert anna.push("a.txt").plan.counts == {"delete": 1}

    ben.pull()
    assert ben.contents() == {"b.txt": b"b"}


def test_a_single_file_elsewhere_is_pushed_and_its_deletion_too(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    file = world.top / "far" / "a.txt"
    fill(file.parent, {"a.txt": "a"})
    anna.fleet.push([path_of(file)])
    ben.pull()
    assert ben.contents() == {"a.txt": b"a"}
    file.unlink()
    assert anna.fleet.push([path_of(file)]).plan.counts == {"delete": 1}
    ben.pull()
    assert ben.contents() == {}


def test_a_pushed_symlink_is_a_symlink_and_with_a_slash_its_directory(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_SYNC_ROOT="")
    target = world.top / "real"
    fill(target, {"a.txt": "a"})
    link = world.top / "link"
    os.symlink(target, link)
    anna.fleet.push([path_of(link)])
    out = world.top / "out"
    ben.fleet.pull("link", path_of(out))
    assert os.readlink(out) == str(target)
    anna.fleet.push([path_of(link) + b"/"])
    ben.fleet.pull("real", path_of(world.top / "out2"))
    assert contents(world.top / "out2") == {"a.txt": b"a"}


def test_one_directory_as_two_roots_stays_apart(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    anna.push("", as_remote="copy")
    ben.pull()
    assert ben.contents() == {"a.txt": b"a", "copy/a.txt": b"a"}
    anna.fill({"a.txt": "a2"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"a.txt": b"a2", "copy/a.txt": b"a"}
    anna.push("", as_remote="copy")
    ben.pull()
    assert ben.contents() == {"a.txt": b"a2", "copy/a.txt": b"a2"}


def test_a_root_inside_another_root_and_below_it_in_the_fleet_agree(world: World) -> None:
    """The same remote paths by way of two local places on one device."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"docs/a.txt": "a"})
    anna.push()
    out = world.top / "second"
    anna.fleet.pull("docs", path_of(out))
    fill(out, {"a.txt": "from the second place"})
    anna.fleet.push([path_of(out)])
    assert anna.read("docs/a.txt") == b"a"
    anna.pull()
    assert anna.read("docs/a.txt") == b"from the second place"
    ben.pull()
    assert ben.read("docs/a.txt") == b"from the second place"
