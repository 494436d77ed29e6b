"""Conflicts: found on every device alike, settled as asked, and no side ever lost."""

from __future__ import annotations

import itertools
import os

import pytest

from tcfs.errors import AccessError, ConflictError, NotFoundError, UsageError
from tcfs.model.ids import RelPath
from tcfs.sync.resolve import Resolver
from tests.sync.kit import Device, World, assert_same


def fork(world: World, *devices: Device, path: str = "a.txt", base: str = "base\n") -> None:
    """All devices have ``path`` and then edit it, each in its own way."""
    devices[0].fill({path: base})
    devices[0].push()
    for device in devices[1:]:
        device.pull()
    for device in devices:
        device.fill({path: f"{device.name}\n"})


def settle(*devices: Device) -> None:
    """Everybody syncs until nothing changes any more, and all trees are the same."""
    for _ in range(6):
        changed = False
        for device in devices:
            pulled, pushed = device.sync()
            changed |= bool(pulled.plan.total or pushed.plan.total or pulled.segment)
        if not changed:
            break
    else:
        raise AssertionError("the devices never come to rest")
    for device in devices[1:]:
        assert_same(devices[0].tree, device.tree)


# Finding


@pytest.mark.parametrize("mode", ["interactive", "defer"])
def test_other_modes_than_auto_leave_both_sides_standing(world: World, mode: str) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE=mode)
    fork(world, anna, ben)
    anna.push()
    pulled = ben.pull()

    assert [c.path for c in pulled.conflicts] == ["a.txt"]
    assert pulled.resolved == ()
    assert ben.read("a.txt") == b"ben\n"
    anna.pull()
    assert anna.read("a.txt") == b"anna\n"
    assert anna.fleet.conflicts().total == ben.fleet.conflicts().total == 1
    info = anna.fleet.conflicts().conflicts[0]
    assert {v.device for v in info.versions} == {"anna", "ben"}
    assert [v.device for v in info.versions if v.id == info.local_version] == ["anna"]
    assert [v.device for v in info.versions if v.id == info.would_win] == ["anna"]


def test_a_local_edit_is_in_the_store_before_a_pull_touches_it(world: World) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo")
    fork(world, anna, ben)
    anna.push()

    pulled = ben.pull()  # ben never pushed his edit himself

    assert pulled.resolved == ("a.txt",)
    assert ben.contents() == {"a.txt": b"anna\n", "a.conflict-ben.txt": b"ben\n"}
    cleo.pull()
    assert cleo.contents() == ben.contents()


@pytest.mark.parametrize("size", [5000, 1])
@pytest.mark.parametrize("there", ["a file", "a directory"])
def test_nothing_gives_way_before_its_conflict_copy_is_beside_it(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int, there: str
) -> None:
    """The fleet may have gone on without this device, and then has its bytes from nobody."""
    monkeypatch.setattr("tcfs.sync.deciding.SLICE", size)
    monkeypatch.setattr("tcfs.sync.upload.MAX_INLINE_PACK", 40)
    anna, ben = world.devices("anna", "ben")
    bens = os.urandom(500)
    ben.fill({"a": bens})
    ben.push()
    (pack,) = world.objects("packs")
    anna.fill({"a/in": "anna's"} if there == "a directory" else {"a": "anna's", "b": "b"})
    anna.push()
    whole = pack.read_bytes()
    pack.write_bytes(bytes(len(whole)))

    pulled = ben.pull()

    assert {problem.path for problem in pulled.problems} >= {"a", "a.conflict-ben"}
    assert ben.read("a") == bens
    assert ben.push().plan.total == 0
    pack.write_bytes(whole)
    assert ben.pull().problems == ()
    assert ben.read("a.conflict-ben") == bens
    settle(anna, ben)
    assert ben.push().plan.total == 0


def test_a_copy_whose_name_is_taken_on_this_disk_comes_once_that_is_settled(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    fork(world, anna, ben)
    anna.push()
    ben.fill({"a.conflict-ben.txt": "ben's own"})

    ben.pull()

    assert ben.read("a.txt") == b"ben\n"
    settle(anna, ben)
    assert ben.read("a.txt") == b"anna\n"
    assert sorted(ben.contents().values()) == [b"anna\n", b"ben\n", b"ben's own"]


def test_both_writing_equal_content_is_no_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for device in (anna, ben):
        device.fill({"a.txt": "the same"})
        assert device.push().conflicts == ()
    anna.pull()
    ben.pull()
    assert anna.fleet.conflicts().total == ben.fleet.conflicts().total == 0
    assert ben.push().plan.total == anna.push().plan.total == 0
    assert sorted(ben.contents()) == ["a.txt"]
    # The next edit of one of them supersedes both.
    ben.fill({"a.txt": "next"})
    ben.push()
    anna.pull()
    assert anna.read("a.txt") == b"next"


def test_both_writing_equal_content_offline_coalesces(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    fork(world, anna, ben)
    for device in (anna, ben):
        device.fill({"a.txt": "both think alike\n"})
    anna.push()
    ben.push()
    settle(anna, ben)
    assert anna.contents() == {"a.txt": b"both think alike\n"}
    assert len(anna.fleet.log("a.txt").versions) <= 3


def test_an_edit_outlives_a_concurrent_deletion(world: World) -> None:
    for order in ("edit first", "deletion first"):
        world_ = World(world.top / order.replace(" ", "-"), world._templates)
        anna, ben = world_.devices("anna", "ben")
        anna.fill({"a.txt": "old", "b.txt": "b"})
        anna.push()
        ben.pull()
        anna.remove("a.txt")
        ben.fill({"a.txt": "edited"})
        steps = [ben, anna] if order == "edit first" else [anna, ben]
        for device in steps:
            device.push()
        settle(anna, ben)
        assert anna.contents() == {"a.txt": b"edited", "b.txt": b"b"}
        assert anna.fleet.conflicts().total == 0
        world_.close()


def test_an_unpushed_edit_outlives_a_deletion_that_is_pulled(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.remove("a.txt")
    anna.push()
    ben.fill({"a.txt": "edited"})
    ben.pull()
    assert ben.read("a.txt") == b"edited"
    settle(ben, anna)
    assert anna.contents() == {"a.txt": b"edited"}


def test_a_deletion_that_is_not_pushed_yields_to_an_edit_that_is_pulled(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "old"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "new"})
    anna.push()
    ben.remove("a.txt")
    settle(ben, anna)
    assert ben.contents() == {"a.txt": b"new"}


def test_both_deleting_is_no_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "d/b.txt": "b"})
    anna.push()
    ben.pull()
    for device in (anna, ben):
        device.remove("a.txt")
        device.remove("d/b.txt")
        os.rmdir(device.path("d"))
    anna.push()
    assert ben.push().conflicts == ()
    settle(anna, ben)
    assert anna.contents() == {}
    # And the name can be used again.
    ben.fill({"a.txt": "again"})
    settle(ben, anna)
    assert anna.contents() == {"a.txt": b"again"}


def test_a_file_deleted_and_written_again_between_two_syncs_is_an_edit(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a"})
    anna.push()
    ben.pull()
    anna.remove("a.txt")
    anna.push()
    anna.fill({"a.txt": "reborn"})
    anna.push()
    ben.pull()
    assert ben.read("a.txt") == b"reborn"


# Strategies


@pytest.mark.parametrize(
    ("strategy", "winner"),
    [("device-name", "anna"), ("first-write", "ben"), ("last-write", "anna")],
)
def test_mode_auto_settles_by_the_namespaces_strategy(
    world: World, strategy: str, winner: str
) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo")
    anna.fleet.set_strategy(strategy)
    fork(world, anna, ben)
    ben.push()  # the earlier Lamport time is ben's
    anna.push()

    settle(cleo, anna, ben)

    loser = {"anna": "ben", "ben": "anna"}[winner]
    assert anna.contents() == {
        "a.txt": f"{winner}\n".encode(),
        f"a.conflict-{loser}.txt": f"{loser}\n".encode(),
    }
    assert all(d.fleet.conflicts().total == 0 for d in (anna, ben, cleo))


def test_strategy_merge_merges_what_merges_and_falls_back_where_not(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fleet.set_strategy("merge")
    lines = [f"line {n}\n" for n in range(20)]
    anna.fill({"clean.txt": "".join(lines), "clash.txt": "".join(lines)})
    anna.push()
    ben.pull()
    for device, number in ((anna, 2), (ben, 17)):
        mine = list(lines)
        mine[number] = f"edited by {device.name}\n"
        device.fill({"clean.txt": "".join(mine)})
        mine[10] = f"clash by {device.name}\n"
        device.fill({"clash.txt": "".join(mine)})
        device.push()

    settle(anna, ben)

    merged = anna.contents()
    assert b"edited by anna" in merged["clean.txt"]
    assert b"edited by ben" in merged["clean.txt"]
    assert b"clash by anna" in merged["clash.txt"]
    assert b"clash by ben" in merged["clash.conflict-ben.txt"]
    assert sorted(merged) == ["clash.conflict-ben.txt", "clash.txt", "clean.txt"]


def test_only_an_admin_sets_the_strategy_and_only_one_that_exists(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    with pytest.raises(AccessError):
        ben.fleet.set_strategy("merge")
    with pytest.raises(UsageError) as caught:
        anna.fleet.set_strategy("coin toss")
    assert "device-name" in caught.value.remedy


def test_two_devices_that_settle_the_same_conflict_at_once_agree(world: World) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo", TCFS_SYNC_CONFLICT_MODE="defer")
    fork(world, anna, ben)
    anna.push()
    ben.push()
    anna.pull()
    cleo.pull()
    # Both know the conflict, and neither what the other does about it.
    anna.fleet.resolve("a.txt", "keep_both")
    # cleo settles it from what she saw before: her engine is not told of anna's resolution.
    context = cleo.fleet._context
    head = context.state.history.head(context.namespace, RelPath(b"a.txt"))
    assert head.conflicted
    with Resolver(context, context.namespace) as resolver:
        resolver.winner(head, resolver.preferred(head), keep_losers=True)
        resolver.flush()

    settle(anna, ben, cleo)
    assert anna.contents() == {"a.txt": b"anna\n", "a.conflict-ben.txt": b"ben\n"}
    assert anna.fleet.conflicts().total == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_devices_in_conflict_come_to_the_same_end_in_any_order(
    world: World, order: tuple[int, ...]
) -> None:
    devices = world.devices("anna", "ben", "cleo")
    fork(world, *devices)
    for index in order:
        devices[index].push()

    settle(*[devices[index] for index in order])

    assert devices[0].contents() == {
        "a.txt": b"anna\n",
        "a.conflict-ben.txt": b"ben\n",
        "a.conflict-cleo.txt": b"cleo\n",
    }


def test_three_devices_that_sync_without_pushing_first_lose_nothing(world: World) -> None:
    devices = world.devices("anna", "ben", "cleo")
    fork(world, *devices)
    settle(*reversed(devices))
    found = set(devices[0].contents().values())
    assert found == {b"anna\n", b"ben\n", b"cleo\n"}


# Settling by hand


def deferred(world: World, *names: str) -> list[Device]:
    """Devices with one conflict at ``d/notes.txt`` that all of them know."""
    devices = world.devices(*names, TCFS_SYNC_CONFLICT_MODE="defer")
    fork(world, *devices, path="d/notes.txt")
    for device in devices:
        device.push()
    for device in devices:
        device.pull()
    return devices


def test_keep_local_and_keep_remote_keep_one_side_and_history_keeps_the_other(
    world: World,
) -> None:
    anna, ben = deferred(world, "anna", "ben")
    kept = ben.fleet.resolve("d/notes.txt", "keep_local")
    assert kept.version
    anna.pull()
    assert anna.contents() == ben.contents() == {"d/notes.txt": b"ben\n"}
    lost = [s for s in anna.fleet.why("d/notes.txt").steps if s.role == "lost"]
    assert [s.version.device for s in lost] == ["anna"]
    assert [s.kept_at for s in lost] == ["history"]

    anna.fill({"d/notes.txt": "anna again\n"})
    ben.fill({"d/notes.txt": "ben again\n"})
    anna.push()
    ben.push()
    ben.fleet.resolve("d/notes.txt", "keep_remote")
    assert ben.read("d/notes.txt") == b"anna again\n"
    anna.pull()
    assert anna.read("d/notes.txt") == b"anna again\n"
    assert anna.fleet.conflicts().total == 0


def test_keep_both_puts_the_other_side_beside(world: World) -> None:
    anna, ben = deferred(world, "anna", "ben")
    result = ben.fleet.resolve("d/notes.txt", "keep_both")
    assert result.conflict_copies == ("d/notes.conflict-ben.txt",)
    anna.pull()
    assert anna.contents() == ben.contents()
    assert anna.contents() == {"d/notes.txt": b"anna\n", "d/notes.conflict-ben.txt": b"ben\n"}


def test_defer_leaves_the_conflict(world: World) -> None:
    anna, ben = deferred(world, "anna", "ben")
    result = ben.fleet.resolve("d/notes.txt", "defer")
    assert result.version == ""
    assert anna.fleet.conflicts().total == 1


def test_a_dry_run_settles_nothing(world: World) -> None:
    anna, ben = deferred(world, "anna", "ben")
    result = ben.fleet.resolve("d/notes.txt", "keep_local", dry_run=True)
    assert result.dry_run
    assert anna.fleet.conflicts().total == ben.fleet.conflicts().total == 1
    assert ben.read("d/notes.txt") == b"ben\n"


def test_merge_is_refused_with_the_reason_and_the_proposal_shown_where_it_is_clean(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    anna.fill({"a.txt": "1\n2\n3\n4\n5\n", "b.bin": b"\0\1"})
    anna.push()
    ben.pull()
    anna.fill({"a.txt": "one\n2\n3\n4\n5\n", "b.bin": b"\0a"})
    ben.fill({"a.txt": "1\n2\n3\n4\nfive\n", "b.bin": b"\0b", "new.txt": "x"})
    anna.fill({"new.txt": "y"})
    anna.push()
    ben.push()

    shown = ben.fleet.show_conflict("a.txt")
    assert (shown.base.text, shown.merge_possible) == ("1\n2\n3\n4\n5\n", True)
    assert shown.proposed_merge == "one\n2\n3\n4\nfive\n"
    for path, reason in (("b.bin", "not text"), ("new.txt", "no common ancestor")):
        with pytest.raises(ConflictError, match=reason) as caught:
            ben.fleet.resolve(path, "merge")
        assert caught.value.exit_code == 10
    ben.fleet.resolve("a.txt", "merge")
    assert ben.read("a.txt") == b"one\n2\n3\n4\nfive\n"
    anna.pull()
    assert anna.read("a.txt") == b"one\n2\n3\n4\nfive\n"


def test_an_edit_after_the_conflict_was_found_is_part_of_what_is_settled(world: World) -> None:
    anna, ben = deferred(world, "anna", "ben")
    ben.fill({"d/notes.txt": "ben, thought over\n"})
    ben.fleet.resolve("d/notes.txt", "keep_local")
    anna.pull()
    assert anna.read("d/notes.txt") == b"ben, thought over\n"

    ben.fill({"d/notes.txt": "x\n"})
    anna.fill({"d/notes.txt": "y\n"})
    anna.push()
    ben.push()
    ben.fill({"d/notes.txt": "x, edited while the conflict stood\n"})
    ben.fleet.resolve("d/notes.txt", "keep_remote")
    assert ben.read("d/notes.txt") == b"y\n"
    log = ben.fleet.log("d/notes.txt").versions
    assert any(v.size == len("x, edited while the conflict stood\n") for v in log)


def test_settling_by_deleting_the_file_and_keeping_local(world: World) -> None:
    anna, ben = deferred(world, "anna", "ben")
    ben.remove("d/notes.txt")
    ben.fleet.resolve("d/notes.txt", "keep_local")
    anna.pull()
    assert anna.contents() == ben.contents() == {}


def test_a_conflict_on_a_path_that_this_device_never_had(world: World) -> None:
    anna, ben, cleo = world.devices("anna", "ben", "cleo", TCFS_SYNC_CONFLICT_MODE="defer")
    fork(world, anna, ben)
    anna.push()
    ben.push()

    with pytest.raises(ConflictError, match="no version"):
        cleo.fleet.resolve("a.txt", "keep_local")
    pulled = cleo.pull()
    assert [c.path for c in pulled.conflicts] == ["a.txt"]
    # The side that would win is there to be read.
    assert cleo.contents() == {"a.txt": b"anna\n"}
    cleo.fleet.resolve("a.txt", "keep_both")
    for device in (anna, ben):
        device.pull()
        assert device.contents() == cleo.contents()


def test_keep_remote_with_several_others_asks_to_say_which(world: World) -> None:
    anna, _ben, cleo = deferred(world, "anna", "ben", "cleo")
    with pytest.raises(ConflictError, match="2 other sides"):
        cleo.fleet.resolve("d/notes.txt", "keep_remote")
    cleo.fleet.resolve("d/notes.txt", "keep_both")
    anna.pull()
    assert len(anna.contents()) == 3


def test_settling_what_is_no_conflict_says_so(world: World) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"a.txt": "a"})
    anna.push()
    with pytest.raises(NotFoundError):
        anna.fleet.resolve("a.txt", "keep_local")
    with pytest.raises(UsageError):
        anna.fleet.resolve("a.txt", "keep_nothing")  # type: ignore[arg-type]


def test_conflict_copies_never_take_a_name_that_is_in_use(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "base", "a.conflict-ben.txt": "precious already"})
    anna.push()
    ben.pull()
    for device in (anna, ben):
        device.fill({"a.txt": device.name, ".hidden": device.name, "noext": device.name})
        device.fill({"arch.tar.gz": device.name})
        device.push()
    settle(anna, ben)
    assert anna.contents() == {
        "a.txt": b"anna",
        "a.conflict-ben.txt": b"precious already",
        "a.conflict-ben-2.txt": b"ben",
        ".hidden": b"anna",
        ".hidden.conflict-ben": b"ben",
        "noext": b"anna",
        "noext.conflict-ben": b"ben",
        "arch.tar.gz": b"anna",
        "arch.tar.conflict-ben.gz": b"ben",
    }


def test_a_conflict_copy_does_not_hit_a_local_file_of_that_name(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    fork(world, anna, ben)
    anna.push()
    ben.fill({"a.conflict-ben.txt": "not pushed yet"})

    ben.pull()
    settle(ben, anna)

    assert sorted(anna.contents().values()) == sorted([b"anna\n", b"ben\n", b"not pushed yet"])


def test_many_conflicts_are_listed_in_pages(world: World) -> None:
    anna, ben = world.devices("anna", "ben", TCFS_SYNC_CONFLICT_MODE="defer")
    for device in (anna, ben):
        device.fill({f"f{n}.txt": device.name for n in range(5)})
        device.push()
    first = ben.fleet.conflicts(limit=2)
    assert ([c.path for c in first.conflicts], first.total) == (["f0.txt", "f1.txt"], 5)
    second = ben.fleet.conflicts(limit=3, after=first.next)
    assert [c.path for c in second.conflicts] == ["f2.txt", "f3.txt", "f4.txt"]
    assert second.next == ""


# Readers


def test_a_reader_pulls_and_cannot_push(world: World) -> None:
    anna = world.device("anna")
    rita = world.device("rita", role="reader")
    anna.fill({"a.txt": "a"})
    anna.push()
    rita.pull()
    assert rita.contents() == {"a.txt": b"a"}
    rita.fill({"b.txt": "b"})
    with pytest.raises(AccessError) as caught:
        rita.push()
    assert caught.value.exit_code == 12
    with pytest.raises(AccessError):
        rita.fleet.invite()


def test_a_readers_local_edit_moves_aside_when_the_fleet_changes_the_file(world: World) -> None:
    anna = world.device("anna")
    rita = world.device("rita", role="reader")
    anna.fill({"a.txt": "a"})
    anna.push()
    rita.pull()
    rita.fill({"a.txt": "rita's own"})
    anna.fill({"a.txt": "a2"})
    anna.push()

    pulled = rita.pull()

    assert rita.contents() == {"a.txt": b"a2", "a.conflict-rita.txt": b"rita's own"}
    assert pulled.conflict_copies == ("a.conflict-rita.txt",)
    rita.pull()
    assert rita.contents() == {"a.txt": b"a2", "a.conflict-rita.txt": b"rita's own"}


def test_a_reader_among_writers_in_conflict_sees_the_preferred_side(world: World) -> None:
    anna = world.device("anna", TCFS_SYNC_CONFLICT_MODE="defer")
    rita = world.device("rita", role="reader")
    ben = world.device("ben", TCFS_SYNC_CONFLICT_MODE="defer")
    fork(world, anna, ben)
    anna.push()
    ben.push()
    rita.pull()
    assert rita.contents() == {"a.txt": b"anna\n"}
    ben.fleet.resolve("a.txt", "keep_local")
    rita.pull()
    assert rita.contents() == {"a.txt": b"ben\n"}
