"""Push: what changed is sent, once, and nothing that only looks gone is deleted."""

from __future__ import annotations

import os
import secrets

import pytest

from tcfs.errors import LimitError, PlanChangedError, UsageError
from tcfs.store.open import open_store
from tcfs.store.wrappers.count import CountStore
from tcfs.sync.facade import Limits
from tests.sync.kit import World, assert_same, path_of, snapshot

# Excludes


def test_exclude_patterns_and_ignore_files_leave_paths_out(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill(
        {
            ".tcfsignore": "*.log\n/build/\n!keep.log\n",
            "a.txt": "a",
            "a.log": "no",
            "keep.log": "yes",
            "build/out.o": "no",
            "sub/build/in.o": "yes",
            "sub/.tcfsignore": "!*.log\nsecret\n",
            "sub/b.log": "yes",
            "sub/secret/s.txt": "no",
            "x.swp": "no",
        }
    )
    anna.push()
    ben.pull()
    assert sorted(ben.contents()) == [
        ".tcfsignore",
        "a.txt",
        "keep.log",
        "sub/.tcfsignore",
        "sub/b.log",
        "sub/build/in.o",
    ]


def test_hidden_directories_are_an_option_and_hidden_files_always_travel(world: World) -> None:
    anna = world.device("anna", TCFS_SYNC_SYNC_HIDDEN_DIRS="false")
    ben = world.device("ben")
    anna.fill({".hidden/a.txt": "a", ".file": "f", "b.txt": "b"})
    anna.push()
    ben.pull()
    assert ben.contents() == {".file": b"f", "b.txt": b"b"}
    anna.settings.clear()
    anna.close()
    anna.push()
    ben.pull()
    assert sorted(ben.contents()) == [".file", ".hidden/a.txt", "b.txt"]


def test_git_directories_travel_only_in_raw_mode(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"repo/.git/HEAD": "ref: refs/heads/main\n", "repo/a.py": "a", "b/.git": "gitdir: x"})
    anna.push()
    ben.pull()
    assert ben.contents() == {"repo/a.py": b"a"}
    for device in (anna, ben):
        device.settings["TCFS_SYNC_SYNC_GIT_DIRS"] = "true"
        device.settings["TCFS_SYNC_GIT_SYNC_MODE"] = "raw"
        device.close()
        anna.push()
        ben.pull()
        # Nobody gets a .git who does not want any: it can hold programs that git runs.
        both = ["b/.git", "repo/.git/HEAD", "repo/a.py"]
        assert sorted(ben.contents()) == (both if device is ben else ["repo/a.py"])


def test_what_is_excluded_after_it_was_tracked_is_not_deleted(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.log": "a", "d/b.log": "b", "c.txt": "c", "cache/x": "x"})
    anna.push()
    ben.pull()
    anna.fill({".tcfsignore": "*.log\ncache/\n"})

    assert anna.push().plan.counts == {"add": 1}

    ben.pull()
    assert sorted(ben.contents()) == [".tcfsignore", "a.log", "c.txt", "cache/x", "d/b.log"]
    # Not even when they are gone from the disk.
    anna.remove("a.log")
    assert anna.push().plan.total == 0


def test_a_pattern_in_the_configuration_hides_what_was_tracked_too(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.log": "a", "b.txt": "b"})
    anna.push()
    anna.settings["TCFS_SYNC_EXCLUDE_PATTERNS"] = "*.log"
    anna.close()
    anna.remove("a.log")
    assert anna.push().plan.total == 0
    ben.pull()
    assert sorted(ben.contents()) == ["a.log", "b.txt"]


# Plans and limits


def test_a_plan_is_applied_exactly_or_refused(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    plan = anna.push(dry_run=True).plan
    assert plan.counts == {"add": 2 - 1}
    anna.fill({"b.txt": "b"})

    with pytest.raises(PlanChangedError) as caught:
        anna.push(plan=plan.hash)
    assert caught.value.exit_code == 18

    again = anna.push(dry_run=True).plan
    assert anna.push(plan=again.hash).plan.hash == again.hash
    pull = ben.pull(dry_run=True).plan
    assert pull.counts == {"fetch": 2}
    anna.fill({"b.txt": "changed"})
    anna.push()
    with pytest.raises(PlanChangedError):
        ben.pull(plan=pull.hash)
    assert ben.contents() == {}
    assert ben.pull(plan=ben.pull(dry_run=True).plan.hash).transfer.files == 2


def test_a_dry_run_changes_nothing_anywhere(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "d/b.txt": "b"})
    anna.push()
    ben.fill({"a.txt": "mine", "c.txt": "c"})
    counting = CountStore(open_store(world.endpoint))
    ben.reopen(store=counting)
    disk = snapshot(ben.tree, directory_times=True)

    assert ben.push(dry_run=True).plan.counts == {"add": 2}
    assert ben.pull(dry_run=True).plan.counts == {"conflict": 1, "fetch": 2}
    ben.sync(dry_run=True)

    assert counting.count("put").requests == 0
    assert snapshot(ben.tree, directory_times=True) == disk
    assert not os.path.exists(ben.path(".tcfs"))
    assert ben.fleet.status().roots == ()


def test_more_deletions_than_allowed_need_a_yes(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n:02}.txt": str(n) for n in range(40)})
    anna.push()
    ben.pull()
    for n in range(30):
        anna.remove(f"f{n:02}.txt")

    with pytest.raises(LimitError) as caught:
        anna.push()
    assert caught.value.exit_code == 19
    assert caught.value.details["deletions"] == 30
    for limits in (Limits(max_delete=29, confirmed=True), Limits(max_delete=30)):
        with pytest.raises(LimitError):
            anna.push(limits=limits)
    assert len(anna.fleet.log(limit=1000).versions) == 40

    said_yes = Limits(max_delete=30, confirmed=True)
    assert anna.push(limits=said_yes).plan.counts == {"delete": 30}
    with pytest.raises(LimitError):
        ben.pull()
    assert len(ben.contents()) == 40
    ben.pull(limits=Limits(confirmed=True))
    assert len(ben.contents()) == 10


def test_a_few_deletions_need_no_yes_whatever_their_share(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"f{n}.txt": str(n) for n in range(8)})
    anna.push()
    ben.pull()
    for n in range(8):
        anna.remove(f"f{n}.txt")
    anna.push()
    ben.pull()
    assert ben.contents() == {}


def test_renaming_a_directory_with_everything_in_it_is_no_mass_deletion(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"old/f{n:02}.txt": f"content {n}" for n in range(40)})
    anna.push()
    ben.pull()
    os.rename(anna.path("old"), anna.path("new"))

    assert anna.push().plan.counts == {"add": 1, "delete": 1, "move": 40}
    pulled = ben.pull()

    assert pulled.plan.counts == {"fetch": 1, "move": 40, "remove": 1}
    assert_same(anna.tree, ben.tree)


def test_more_bytes_than_allowed_are_refused(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.bin": bytes(1001)})
    with pytest.raises(LimitError):
        anna.push(limits=Limits(max_bytes=1000))
    anna.push(limits=Limits(max_bytes=1001))
    with pytest.raises(LimitError):
        ben.pull(limits=Limits(max_bytes=1000))
    assert ben.contents() == {}
    ben.pull(limits=Limits(max_bytes=1001))
    assert ben.contents() == {"a.bin": bytes(1001)}


def test_several_paths_are_pushed_as_one_plan(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "d/b.txt": "b", "c.txt": "c"})
    plan = anna.push("a.txt", "d", dry_run=True).plan
    assert plan.counts == {"add": 3}
    anna.push("a.txt", "d", plan=plan.hash)
    ben.pull()
    assert ben.contents() == {"a.txt": b"a", "d/b.txt": b"b"}
    with pytest.raises(UsageError):
        anna.push("a.txt", "d", as_remote="x")


def test_a_path_pushed_twice_in_one_go_is_sent_once(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/b.txt": "b"})
    result = anna.push("d", "d/b.txt")
    assert result.conflicts == ()
    assert len(anna.fleet.log().versions) == 2
    ben.pull()
    assert ben.contents() == {"d/b.txt": b"b"}


# Attributes


def test_touching_a_file_travels_and_never_conflicts(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    os.utime(anna.path("a.txt"), ns=(5, 1_000_000_007))
    os.utime(ben.path("a.txt"), ns=(5, 2_000_000_011))

    first = anna.push()
    assert first.transfer.packs == 0
    second = ben.push()
    assert first.conflicts == second.conflicts == ()
    anna.pull()
    ben.pull()

    assert_same(anna.tree, ben.tree)
    assert anna.fleet.conflicts().total == 0
    assert anna.push().plan.total == ben.push().plan.total == 0


def test_a_touch_against_an_edit_is_no_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "edited"})
    anna.push()
    os.utime(ben.path("a.txt"), ns=(5, 2_000_000_011))

    ben.sync()
    anna.sync()

    assert anna.read("a.txt") == ben.read("a.txt") == b"edited"
    assert sorted(ben.contents()) == ["a.txt"]


def test_a_mode_alone_travels_without_content(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"run.sh": secrets.token_bytes(300_000), "d/x": "x"})
    anna.push()
    ben.pull()
    os.chmod(anna.path("run.sh"), 0o750)
    os.chmod(anna.path("d"), 0o700)

    sent = anna.push()
    assert sent.transfer.bytes_sent < 4096
    received = ben.pull()

    assert received.transfer.bytes_received == 0
    assert_same(anna.tree, ben.tree)
    assert ben.push().plan.total == 0


def test_modes_changed_differently_on_two_devices_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    anna.fill({"run.sh": "x"})
    anna.push()
    ben.pull()
    os.chmod(anna.path("run.sh"), 0o700)
    os.chmod(ben.path("run.sh"), 0o755)
    anna.push()
    assert [c.path for c in ben.push().conflicts] == ["run.sh"]
    ben.pull(mode="auto")
    anna.pull()
    assert_same(anna.tree, ben.tree)
    assert anna.snapshot()[b"run.sh"].mode == 0o700
    # The bytes are the same, so there is nothing to keep beside it.
    assert sorted(anna.contents()) == ["run.sh"]


# Kinds


def test_a_file_replaced_by_a_directory_and_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x": "a file", "keep": "k"})
    anna.push()
    ben.pull()
    anna.remove("x")
    anna.fill({"x/in.txt": "inside", "x/d/e.txt": "deep"})
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    for name in ("x/in.txt", "x/d/e.txt"):
        ben.remove(name)
    os.rmdir(ben.path("x/d"))
    os.rmdir(ben.path("x"))
    ben.fill({"x": "a file again"})
    ben.push()
    assert anna.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert anna.contents() == {"x": b"a file again", "keep": b"k"}


def test_a_file_replaced_by_a_link_and_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"x": "a file", "d/y": "y"})
    anna.push()
    ben.pull()
    anna.remove("x")
    os.symlink("d", anna.path("x"))
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    ben.remove("x")
    ben.fill({"x": "file again"})
    ben.push()
    anna.pull()
    assert_same(anna.tree, ben.tree)


def test_a_directory_replaced_by_a_link_to_one_is_followed_nowhere(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "a", "other/a.txt": "o"})
    anna.push()
    ben.pull()
    os.unlink(anna.path("d/a.txt"))
    os.rmdir(anna.path("d"))
    os.symlink("other", anna.path("d"))
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert ben.read("other/a.txt") == b"o"


# Amounts


def test_an_edit_of_a_big_file_sends_little_again(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    data = bytearray(secrets.token_bytes(12 << 20))
    anna.fill({"big.bin": bytes(data)})
    anna.push()
    ben.pull()
    data[5_000_000:5_001_000] = secrets.token_bytes(1000)
    anna.fill({"big.bin": bytes(data)})

    sent = anna.push().transfer

    assert sent.bytes_sent < 300_000
    ben.pull()
    assert ben.read("big.bin") == bytes(data)


def test_equal_content_is_stored_once(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    data = secrets.token_bytes(400_000)
    anna.fill({"one.bin": data, "two.bin": data})
    first = anna.push().transfer
    assert first.bytes_sent < 500_000
    ben.pull()
    ben.fill({"three.bin": data})
    assert ben.push().transfer.bytes_sent < 4096
    anna.pull()
    assert_same(anna.tree, ben.tree)


def test_a_push_of_many_files_commits_in_parts_that_all_arrive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcfs.sync.commit.PART_BYTES", 20_000)
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"d{n % 5}/f{n:03}.txt": f"content {n}" for n in range(200)})
    result = anna.push()
    assert result.transfer.segments > 3
    ben.pull()
    assert_same(anna.tree, ben.tree)
    for n in range(0, 200, 2):
        os.rename(anna.path(f"d{n % 5}/f{n:03}.txt"), anna.path(f"moved{n}.txt"))
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_pushing_an_unchanged_path_that_the_fleet_changed_sends_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "1"})
    anna.push()
    ben.pull()
    ben.fill({"a.txt": "2"})
    ben.push()
    assert anna.push().segment == ""
    assert path_of(anna.tree) == os.fsencode(anna.push().local)
