"""Hosts that ignore case or normalise Unicode, in a fleet with hosts that do neither."""

from __future__ import annotations

import os
import subprocess
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from tcfs.host.posix import PosixFileSystem
from tcfs.model.ids import RelPath
from tcfs.model.spelling import own_name
from tcfs.state.roots import Intent
from tcfs.sync import leftovers, places
from tcfs.sync.facade import Limits
from tests.deep import deep
from tests.host.folding import MAC, FoldingFiles
from tests.sim.disk import Naming
from tests.sync.crashing import Experiment, Point, every
from tests.sync.kit import Device, World, host_with
from tests.sync.powerless import LOSSES, Loss
from tests.sync.scenarios import NAMES_THAT_ARE_ONE
from tests.sync.test_crash import crash_and_go_on, lose_and_go_on

CONFIRMED = Limits(confirmed=True)
E_ACUTE = unicodedata.normalize("NFC", "é").encode()
E_APART = unicodedata.normalize("NFD", "é").encode()


def own(name: str) -> str:
    return own_name(name.encode()).decode()


def mac_of(world: World, name: str = "mac", naming: Naming = MAC, *, hfs: bool = False) -> Device:
    device = world.device(name, TCFS_SYNC_CONFLICT_MODE="auto")
    files = FoldingFiles(os.fsencode(device.tree), naming, hfs)
    device.reopen(host=host_with(files))
    return device


def live(device: Device) -> dict[str, bytes]:
    """What the fleet has, by another's look at it."""
    device.pull()
    return device.contents()


@pytest.fixture
def pair(world: World) -> tuple[Device, Device]:
    """A host that keeps names apart, and one that does not."""
    linux = world.device("linux")
    return linux, mac_of(world)


def test_both_of_two_names_that_are_one_here_are_on_disk(pair) -> None:
    linux, mac = pair
    linux.fill({"docs/notes.txt": "small", "docs/Notes.txt": "CAPITAL"})
    linux.push()
    result = mac.pull()
    assert result.problems == ()
    assert mac.contents() == {"docs/Notes.txt": b"CAPITAL", f"docs/{own('notes.txt')}": b"small"}
    assert len(result.notices) == 1
    assert own("notes.txt") in result.notices[0]
    # It is said once, and nothing is sent because of it.
    assert mac.pull().notices == ()
    assert mac.push().plan.total == 0
    assert mac.pull().plan.total == 0


def test_an_edit_of_the_one_with_a_name_of_its_own_goes_to_its_true_name(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    mac.pull()
    mac.fill({own("a.txt"): "edited"})
    mac.push()
    assert live(linux) == {"a.txt": b"edited", "A.txt": b"2"}
    linux.fill({"a.txt": "and back"})
    linux.push()
    mac.pull()
    assert mac.contents() == {own("a.txt"): b"and back", "A.txt": b"2"}


def test_deleting_one_of_the_two_deletes_that_one_alone(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2", "b.txt": "3", "B.txt": "4"})
    linux.push()
    mac.pull()
    mac.remove(own("a.txt"))
    mac.remove("B.txt")
    assert mac.push().plan.counts == {"delete": 2}
    assert live(linux) == {"A.txt": b"2", "b.txt": b"3"}


def test_when_the_collision_ends_the_next_pull_gives_the_true_name_back(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    mac.pull()
    linux.remove("A.txt")
    linux.push()
    mac.pull()
    assert mac.contents() == {"a.txt": b"1"}
    assert mac.push().plan.total == 0
    assert live(linux) == {"a.txt": b"1"}


def test_it_ends_by_a_deletion_here_too(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    mac.pull()
    mac.remove("A.txt")
    mac.push()
    mac.pull()
    assert mac.contents() == {"a.txt": b"1"}
    assert mac.push().plan.total == 0
    assert live(linux) == {"a.txt": b"1"}


def test_directories_that_collide_are_both_there_with_all_that_is_in_them(pair) -> None:
    linux, mac = pair
    linux.fill({"dir/x": "1", "dir/sub/z": "2", "Dir/x": "3", "Dir/y": "4", "DIR": "5"})
    linux.push()
    mac.pull()
    assert len(mac.contents()) == 5
    assert mac.push().plan.total == 0
    smaller, larger = own("dir"), own("Dir")
    first = next(name for name in ("dir", "Dir", "DIR") if os.path.exists(mac.path(name)))
    assert first in os.listdir(mac.tree)
    mac.fill({f"{'dir' if first == 'dir' else smaller}/x": "edited"})
    mac.fill({f"{'Dir' if first == 'Dir' else larger}/new": "made here"})
    mac.push()
    assert live(linux) == {
        "dir/x": b"edited", "dir/sub/z": b"2", "Dir/x": b"3", "Dir/y": b"4", "DIR": b"5",
        "Dir/new": b"made here",
    }  # fmt: skip
    os.unlink(linux.path("DIR"))
    for name in ("dir/x", "dir/sub/z"):
        linux.remove(name)
    os.rmdir(linux.path("dir/sub"))
    os.rmdir(linux.path("dir"))
    linux.push(limits=CONFIRMED)
    mac.pull(limits=CONFIRMED)
    mac.pull()
    assert mac.contents() == {"Dir/x": b"3", "Dir/y": b"4", "Dir/new": b"made here"}
    assert mac.push().plan.total == 0


def test_a_change_of_case_in_the_fleet_is_one_move(pair) -> None:
    linux, mac = pair
    linux.fill({"readme.md": "1", "docs/a": "2"})
    linux.push()
    mac.pull()
    os.rename(linux.path("readme.md"), linux.path("README.md"))
    os.rename(linux.path("docs"), linux.path("Docs"))
    assert linux.push().plan.counts["move"] == 2
    assert mac.pull(dry_run=True).plan.counts["move"] == 2
    result = mac.pull()
    assert (result.problems, result.notices) == ((), ())
    assert mac.contents() == {"README.md": b"1", "Docs/a": b"2"}
    assert mac.push().plan.total == 0


def test_a_change_of_case_here_is_one_move(pair) -> None:
    linux, mac = pair
    mac.fill({"readme.md": "1", "docs/a": "2"})
    mac.push()
    os.rename(mac.path("readme.md"), mac.path("README.md"))
    os.rename(mac.path("docs"), mac.path("Docs"))
    plan = mac.push().plan
    assert plan.counts == {"move": 2, "add": 1, "delete": 1}, "two files, and the directory"
    assert live(linux) == {"README.md": b"1", "Docs/a": b"2"}
    assert mac.pull().plan.total == 0


@pytest.mark.parametrize("hfs", [False, True])
def test_another_normalisation_in_a_listing_is_no_change(world: World, hfs: bool) -> None:
    linux = world.device("linux")
    mac = mac_of(world, hfs=hfs)
    linux.fill({b"d" + E_ACUTE + b"/" + E_ACUTE: "composed", b"e" + E_APART + b"/f": "apart"})
    linux.push()
    result = mac.pull()
    assert (result.problems, result.notices) == ((), ())
    assert mac.push().plan.total == 0
    mac.close()
    assert mac.push().plan.total == 0
    mac.fill({b"e" + E_APART + b"/f": "edited"})
    mac.push()
    linux.pull()
    assert linux.contents() == {
        os.fsdecode(b"d" + E_ACUTE + b"/" + E_ACUTE): b"composed",
        os.fsdecode(b"e" + E_APART + b"/f"): b"edited",
    }


@pytest.mark.parametrize("hfs", [False, True])
def test_a_new_file_is_sent_with_its_name_composed(world: World, hfs: bool) -> None:
    linux = world.device("linux")
    mac = mac_of(world, hfs=hfs)
    mac.fill({b"n" + E_APART: "new", b"d" + E_APART + b"/" + E_APART: "deep"})
    mac.push()
    linux.pull()
    assert sorted(linux.contents()) == sorted(
        os.fsdecode(n) for n in (b"n" + E_ACUTE, b"d" + E_ACUTE + b"/" + E_ACUTE)
    )
    assert mac.pull().plan.total == 0


@pytest.mark.parametrize("hfs", [False, True])
def test_two_normalisations_of_a_name_are_both_on_disk(world: World, hfs: bool) -> None:
    linux = world.device("linux")
    mac = mac_of(world, hfs=hfs)
    linux.fill({E_ACUTE: "composed", E_APART: "apart"})
    linux.push()
    mac.pull()
    assert sorted(mac.contents().values()) == [b"apart", b"composed"]
    assert mac.push().plan.total == 0
    linux.remove(E_ACUTE)
    linux.push()
    mac.pull()
    assert list(mac.contents().values()) == [b"apart"]
    assert mac.push().plan.total == 0
    linux.fill({E_ACUTE: "composed again"})
    linux.push()
    mac.pull()
    assert sorted(mac.contents().values()) == [b"apart", b"composed again"]
    assert mac.push().plan.total == 0
    linux.pull()
    assert linux.contents() == {
        os.fsdecode(E_ACUTE): b"composed again",
        os.fsdecode(E_APART): b"apart",
    }


def test_the_mapping_survives_a_restart_a_rebuilt_index_and_the_loss_of_the_state(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2", b"x" + E_APART: "3"})
    linux.push()
    mac.pull()
    there = mac.contents()
    mac.close()
    assert mac.push().plan.total == 0
    mac.fleet.rebuild_index()
    assert mac.push().segment == "", "stats are not trusted; the files are read, and are the same"
    assert mac.pull().plan.total == 0
    assert mac.contents() == there
    run = mac.fleet._context.state.database.connection.execute
    run("DELETE FROM spelling WHERE name LIKE '%case-%'")
    mac.close()
    assert mac.push().plan.total == 0
    mac.close()
    linux.remove("A.txt")
    linux.push()
    mac.pull()
    assert set(mac.contents().values()) == {b"1", b"3"}
    assert "a.txt" in os.listdir(mac.tree), "seen by the push, it is renamed though unrecorded"


def test_whoever_takes_the_plain_name_of_another_has_it(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    mac.pull()
    # A.txt is the plain one. Its user renames it to what the other is called in the fleet.
    os.rename(mac.path("A.txt"), mac.path("a.txt"))
    mac.push()
    tree = live(linux)
    assert set(tree.values()) == {b"1", b"2"}
    assert tree["a.txt"] == b"2", "as it is on that disk"
    assert tree[own("a.txt")] == b"1"
    # It is what it is, with or without the other.
    mac.close()
    mac.remove("a.txt")
    assert mac.push().plan.counts == {"delete": 1}
    assert live(linux) == {own("a.txt"): b"1"}
    mac.pull()
    assert mac.contents() == {own(own("a.txt")): b"1"}
    assert mac.push().plan.total == 0


def test_names_that_look_like_own_names_are_kept_apart_too(pair) -> None:
    linux, mac = pair
    trap = own("a.txt")
    linux.fill({"a.txt": "1", "A.txt": "2", trap: "3", own("z"): "4"})
    linux.push()
    mac.pull()
    assert mac.contents() == {
        "A.txt": b"2", trap: b"1", own(trap): b"3", own(own("z")): b"4"
    }  # fmt: skip
    assert mac.push().plan.total == 0
    assert mac.pull().plan.total == 0


def test_a_path_is_found_as_its_user_writes_it(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2", "Docs/Read.me": "3"})
    linux.push()
    mac.pull()
    mac.fill({own("a.txt"): "edited", "Docs/Read.me": "edited, too"})
    assert [c.path for c in mac.push(own("a.txt")).plan.changes] == ["a.txt"]
    assert [c.path for c in mac.push("docs/read.ME").plan.changes] == ["Docs/Read.me"]
    status = mac.fleet.path_status(mac.path(own("a.txt")))
    assert status.state == "up_to_date"
    assert status.remote.endswith("/a.txt")
    assert any(own("a.txt") in warning for warning in status.warnings)


def test_a_local_edit_and_a_change_in_the_fleet_conflict_under_the_true_name(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    mac.pull()
    mac.fill({own("a.txt"): "mine"})
    linux.fill({"a.txt": "theirs"})
    linux.push()
    mac.pull()
    linux.pull()
    tree = linux.contents()
    assert tree.pop("A.txt") == b"2"
    assert set(tree.values()) == {b"mine", b"theirs"}
    assert "a.txt" in tree
    mac.pull()
    assert set(mac.contents().values()) == {b"mine", b"theirs", b"2"}
    assert mac.push().plan.total == 0


def test_verify_reads_and_mends_the_files_where_they_are(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "one", "A.txt": "two"})
    linux.push()
    mac.pull()
    path = mac.path(own("a.txt"))
    before = os.stat(path)
    mac.fill({own("a.txt"): "ONE"})
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    run = mac.fleet._context.state.database.connection.execute
    run("UPDATE base SET ctime_ns = ? WHERE path = ?", (os.stat(path).st_ctime_ns, b"a.txt"))
    report = mac.fleet.verify(local=True, repair=True)
    assert [p.path for p in report.problems] == ["a.txt"]
    assert mac.read(own("a.txt")) == b"one"
    assert mac.read("A.txt") == b"two"


def test_undo_and_restore_reach_the_one_with_a_name_of_its_own(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2"})
    linux.push()
    first = linux.fleet.log("a.txt", limit=1).versions[0].id
    linux.fill({"a.txt": "later"})
    linux.push()
    mac.pull()
    mac.fleet.restore("a.txt", version=first)
    assert mac.contents() == {own("a.txt"): b"1", "A.txt": b"2"}


def test_patterns_are_matched_with_true_names(pair) -> None:
    linux, mac = pair
    linux.fill({"a.log": "1", "A.log": "2", "b.txt": "3"})
    linux.push()
    mac.pull()
    mac.fill({".tcfsignore": "a.log\n", own("a.log"): "not sent", "A.log": "sent"})
    mac.push()
    assert live(linux) == {
        "a.log": b"1", "A.log": b"sent", "b.txt": b"3", ".tcfsignore": b"a.log\n"
    }  # fmt: skip


def test_a_name_that_only_differs_from_our_own_directory_in_case_does_not_reach_it(pair) -> None:
    linux, mac = pair
    mac.fill({"x": "1"})
    mac.push()
    marker = mac.read(".tcfs/root")
    linux.fill({".TCFS/root": "forged", ".TCFS/new": "1"})
    linux.push()
    mac.pull()
    assert mac.read(".tcfs/root") == marker
    assert mac.contents()[f"{own('.TCFS')}/root"] == b"forged"
    assert mac.push().plan.total == 0


@pytest.mark.parametrize("name", [".GIT", ".Git", ".g\u200cit"])
def test_what_git_takes_for_its_directory_on_such_a_disk_is_never_put_there(pair, name) -> None:
    linux, mac = pair
    linux.fill({f"code/{name}/hooks/post-checkout": "#!/bin/sh", "code/a": "1"})
    linux.push()
    mac.pull()
    assert mac.contents() == {f"code/{own(name)}/hooks/post-checkout": b"#!/bin/sh", "code/a": b"1"}
    assert mac.pull().plan.total == 0
    assert mac.push().plan.total == 0


def test_a_host_that_keeps_names_apart_is_asked_nothing(world: World) -> None:
    linux = world.device("linux")
    assert isinstance(linux.fleet._context.host.files, PosixFileSystem)


def test_a_directory_that_holds_what_is_not_synced_follows_a_change_of_case(pair) -> None:
    linux, mac = pair
    linux.fill({"docs/a": "1", ".tcfsignore": ".DS_Store\n"})
    linux.push()
    mac.pull()
    mac.fill({"docs/.DS_Store": "made by the system"})
    os.rename(linux.path("docs"), linux.path("Docs"))
    linux.push()
    result = mac.pull()
    assert (result.problems, result.notices) == ((), ())
    assert os.listdir(mac.tree).count("Docs") == 1
    assert sorted(os.listdir(mac.path("Docs"))) == [b".DS_Store", b"a"]
    assert mac.push().plan.total == 0


def test_a_file_called_as_another_could_be_is_itself_when_that_one_is_deleted(pair) -> None:
    linux, mac = pair
    linux.fill({"a": "1", "b": "2"})
    linux.push()
    mac.pull()
    mac.fill({own("a"): "the user's"})
    linux.remove("a")
    linux.push(limits=CONFIRMED)
    mac.pull(limits=CONFIRMED)
    mac.push()
    assert live(linux) == {"b": b"2", own("a"): b"the user's"}


def test_what_a_crash_left_beside_who_took_its_name_is_removed_unless_it_was_edited(pair) -> None:
    """It was put at a name of its own, and stands for itself: a path that nobody wrote."""
    linux, mac = pair
    linux.fill({"p/x": "1", "p/y": "2", "p/z": "3"})
    linux.push()
    # The files of another directory, under a name that p could have: as a pull puts them there.
    mac.pull()
    os.rename(mac.path("p"), mac.path(own("p")))
    mac.fill({"p/mine": "the user's", f"{own('p')}/y": "edited", f"{own('p')}/new": "and new"})
    context = mac.fleet._context
    (root,) = context.state.roots.all()
    paths = [RelPath(b"p/" + name) for name in (b"x", b"y", b"z")]
    context.state.roots.drop_base(root, paths)
    heads = [context.state.history.head(root.namespace, path) for path in paths]
    context.state.roots.intend(
        root, [Intent(path, "file", head.ids[0]) for path, head in zip(paths, heads, strict=True)]
    )
    assert leftovers.recover(context, root) == []
    assert mac.contents() == {
        "p/mine": b"the user's",
        f"{own('p')}/y": b"edited",
        f"{own('p')}/new": b"and new",
    }


def test_what_a_name_stood_for_in_a_directory_that_is_gone_means_nothing_in_a_new_one(pair) -> None:
    linux, mac = pair
    linux.fill({b"d/" + E_APART: "apart", "other": "1"})
    linux.push()
    mac.pull()
    linux.remove(b"d/" + E_APART)
    os.rmdir(linux.path("d"))
    linux.push(limits=CONFIRMED)
    mac.pull(limits=CONFIRMED)
    linux.fill({b"d/" + E_ACUTE: "composed"})
    linux.push()
    mac.pull()
    assert mac.push().plan.total == 0
    linux.pull()
    assert linux.contents() == {os.fsdecode(b"d/" + E_ACUTE): b"composed", "other": b"1"}


def test_many_names_come_with_their_directory_in_one_pull(pair) -> None:
    linux, mac = pair
    names = {f"many/{kind}{i}": str(i) for i in range(50) for kind in ("f", "F")}
    names |= {os.fsdecode(b"many/" + E_APART + b"%d" % i): "apart" for i in range(5)}
    linux.fill(names)
    linux.push()
    result = mac.pull()
    assert result.problems == ()
    assert len(result.notices) == 6
    assert len(mac.contents()) == 105
    assert mac.push().plan.total == 0


def test_nothing_is_lost_where_a_pull_of_a_part_comes_before_the_rest(pair) -> None:
    linux, mac = pair
    linux.fill({"docs/a": "1"})
    linux.push()
    mac.pull()
    os.rename(linux.path("docs"), linux.path("Docs"))
    linux.fill({"Docs/b": "2"})
    linux.push()
    mac.pull(remote="Docs")
    mac.pull()
    mac.pull()
    assert mac.contents() == {"Docs/a": b"1", "Docs/b": b"2"}
    assert mac.push().plan.total == 0


# Crashes


@pytest.fixture(scope="module")
def experiment():
    made = Experiment(NAMES_THAT_ARE_ONE)
    yield made
    made.close()


def test_a_pull_that_is_cut_off_while_names_change_is_completed_by_the_next_run(experiment) -> None:
    tree = experiment.expected.trees["b"]
    assert own("stand.txt").encode() in tree
    assert b"end.txt" in tree
    assert b"Low/x" in tree
    # The steps that only this has are at the end, where files get their names back.
    points = experiment.few_points()
    every(experiment, points[:-7:9] + points[-7:], lambda p: crash_and_go_on(experiment, p))


def test_a_power_loss_while_names_change_loses_nothing(experiment) -> None:
    points = experiment.losses("names")
    every(experiment, points[-4:], lambda p: lose_and_go_on(experiment, p, "names"))


def _lose(experiment: Experiment, loss: Loss, point: Point) -> None:
    lose_and_go_on(experiment, point, loss)


@deep
def test_a_pull_cut_off_at_any_step_while_names_change_is_completed(experiment) -> None:
    every(experiment, experiment.points(), lambda p: crash_and_go_on(experiment, p))
    for loss in LOSSES:
        points = experiment.losses(loss)
        every(experiment, points, partial(_lose, experiment, loss))


# What watches, and what looks by itself


def test_a_daemon_sends_what_changed_whatever_the_system_calls_it(pair) -> None:
    linux, mac = pair
    linux.fill({"a.txt": "1", "A.txt": "2", "c.txt": "3", b"d" + E_APART + b"/x": "4"})
    linux.push()
    mac.pull()
    keeper = mac.fleet.keeper
    (kept,) = keeper.roots()
    mac.fill({own("a.txt"): "edited"})
    changed = [RelPath(os.fsencode(own("a.txt")))]
    assert keeper.differs(kept, changed)
    assert [c.path for c in keeper.push(kept, changed).plan.changes] == ["a.txt"]
    assert not keeper.differs(kept, changed)
    os.rename(mac.path("c.txt"), mac.path("C.txt"))
    told = [RelPath(b"c.txt"), RelPath(b"C.txt")]
    assert keeper.push(kept, told).plan.counts == {"move": 1}
    mac.remove(own("a.txt"))
    assert keeper.push(kept, changed).plan.counts == {"delete": 1}
    mac.fill({b"d" + E_APART + b"/x": "edited"})
    told = [RelPath(b"d" + E_ACUTE + b"/x")]
    assert keeper.push(kept, told).plan.counts == {"change": 1}
    linux.pull()
    assert linux.contents() == {
        "A.txt": b"2", "C.txt": b"3", os.fsdecode(b"d" + E_APART + b"/x"): b"edited"
    }  # fmt: skip


def test_repositories_whose_directories_collide_do_not_mix(world: World) -> None:
    linux = world.device("linux", TCFS_SYNC_SYNC_GIT_DIRS="true")
    mac = world.device("mac", TCFS_SYNC_SYNC_GIT_DIRS="true")
    mac.reopen(host=host_with(FoldingFiles(os.fsencode(mac.tree))))
    for name in ("code", "Code"):
        linux.fill({f"{name}/file": f"of {name}"})
        _git(linux, name, "init", "-q", "-b", "main")
        _git(linux, name, "add", ".")
        _git(linux, name, "commit", "-q", "-m", f"of {name}")
    linux.push()
    assert mac.pull().problems == ()
    first, other = ("Code", own("code")) if (mac.tree / "Code").exists() else ("code", own("Code"))
    for name in (first, other):
        line = _git(mac, name, "log", "--format=%s").strip()
        assert line.lower() == "of code"
        assert (mac.tree / name / "file").read_text() == line
        assert _git(mac, name, "status", "--porcelain") == ""
    assert mac.push().plan.total == 0
    mac.fill({f"{other}/file": "changed here"})
    _git(mac, other, "commit", "-q", "-a", "-m", "changed here")
    mac.push()
    linux.pull()
    renamed = {own("code"): "code", own("Code"): "Code"}[other]
    assert _git(linux, renamed, "log", "-1", "--format=%s").strip() == "changed here"
    assert _git(linux, first, "log", "-1", "--format=%s").strip() == f"of {first}"


def _git(device: Device, name: str, *arguments: str) -> str:
    who = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    done = subprocess.run(
        ["git", "-C", str(device.tree / name), *who, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_a_root_is_found_however_its_path_is_written(world: World, tmp_path: Path) -> None:
    mac = world.device("mac")
    mac.reopen(host=host_with(FoldingFiles(os.fsencode(tmp_path))))
    mac.fill({"Docs/a": "1"})
    mac.push()
    # The system resolves nothing here, as macOS does not.
    written = os.fsencode(str(mac.tree).replace("tree", "TREE") + "/docs/A")
    place = places.locate(mac.fleet._context, written)
    assert (place.root.local, place.prefix) == (os.fsencode(mac.tree), b"Docs/a")
    # A root whose directory has another case by now is that root still.
    root = place.root
    mac.tree.rename(mac.tree.with_name("Tree"))
    place = places.locate(mac.fleet._context, written)
    assert (place.root, place.prefix) == (root, b"Docs/a")
    assert mac.pull().plan.total == 0
