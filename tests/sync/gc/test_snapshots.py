"""Snapshots: who begins from one knows what a replay tells, and compaction loses nothing."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import Any

import pytest

from tcfs.errors import AccessError, TcfsError
from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.model.ids import DEFAULT_NAMESPACE, PackId
from tcfs.model.paths import ROOT
from tcfs.model.upkeep import mark_event
from tcfs.store.wrappers.count import CountStore
from tcfs.store.wrappers.fault import FaultStore
from tcfs.sync.gc.marks import publish_upkeep
from tests.sync.gc.support import check_clean, collect, noise, settle
from tests.sync.kit import Device, World, assert_same

TABLES = {
    "segment": "ns, device.id, seq, hash, lamport, counter, written_at, accepted",
    "chain": "ns, device.id, seq, hash, lamport, counter",
    "version": "ns, path, device.id, counter, live, lamport, seq, op, kind, file_hash, file_size,"
    " mode, mtime_ns, target, size_class, written_at, written_by, actor, moved_from, parents,"
    " clock, chunks, extra",
    "progress": "ns, device.id, control, seen",
}


def knowledge(device: Device) -> dict[str, set[Any]]:
    """All that a device knows of the history, whatever numbers its tables use."""
    run = device.fleet._context.state.database.connection.execute
    known = {
        table: set(run(f"SELECT {columns} FROM {table} JOIN device ON device.no = device"))
        for table, columns in TABLES.items()
    }
    known["chunk"] = set(
        run(
            "SELECT chunk.ns, chunk.id, pack.id, pack.key, pack.offset, frame_offset, chunk.offset,"
            " length FROM chunk JOIN pack ON pack.no = chunk.pack WHERE announced"
        )
    )
    return known


def busy(world: World) -> tuple[Device, Device]:
    """Two devices with a history of all kinds: conflicts, moves, deletions, large and small."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"1", "big": noise(1), "d/x": b"x", "gone": b"g", b"\xff": b"raw"})
    anna.push()
    ben.pull()
    anna.fill({"a": b"anna"})
    ben.fill({"a": b"ben", "big": noise(2)})
    ben.remove("gone")
    os.rename(ben.path("d/x"), ben.path("d/y"))
    anna.push()
    ben.push()
    settle((anna, ben, anna))
    for n in range(4):
        anna.fill({"often": b"%d" % n})
        anna.push()
    settle((ben,))
    return anna, ben


def test_a_new_device_begins_from_a_snapshot_and_knows_what_a_replay_tells(world: World) -> None:
    anna, ben = busy(world)
    taken = anna.fleet.gc.snapshot()
    assert taken.versions > 8
    ben.fill({"after": b"the snapshot"})
    ben.push()
    settle((anna, ben))
    booted, replayed = world.devices("booted", "replayed")

    booted.reopen(store=CountStore(world.open_store()))
    booted.pull()
    first = knowledge(booted)
    assert_same(booted.tree, anna.tree)

    # The same without snapshots: everything is replayed.
    shutil.move(world.store_dir / "snapshots", world.top / "aside")
    replayed.pull()
    second = knowledge(replayed)
    shutil.move(world.top / "aside", world.store_dir / "snapshots")
    assert_same(replayed.tree, anna.tree)
    for table in first:
        assert first[table] == second[table], table
    check_clean(anna, ben, booted, replayed)


def test_beginning_from_a_snapshot_reads_few_objects(world: World) -> None:
    anna = world.device("anna")
    for n in range(20):
        anna.fill({"file": b"%d" % n})
        anna.push()
    anna.fleet.gc.snapshot()
    ben = world.device("ben")
    counted = CountStore(world.open_store())
    ben.reopen(store=counted)
    ben.pull()
    assert ben.read("file") == b"19"
    assert counted.count("get").requests < 15


def test_a_rebuilt_index_begins_from_a_snapshot_too(world: World) -> None:
    anna, ben = busy(world)
    anna.fleet.gc.snapshot()
    ben.pull()
    before = knowledge(ben)
    ben.fleet.rebuild_index()
    assert knowledge(ben)["version"] == before["version"]
    ben.fill({"a": b"goes on"})
    ben.push()
    anna.pull()
    assert anna.read("a") == b"goes on"
    check_clean(anna, ben)


def test_who_begins_from_a_snapshot_finds_what_only_marked_packs_hold(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"one": noise(1)})
    anna.push()
    ben.pull()
    (path,) = world.objects("packs")
    with anna.fleet._working():
        context = anna.fleet._context
        publish_upkeep(context, [mark_event(DEFAULT_NAMESPACE, [PackId(path.name)], 1)])
    anna.fleet.gc.snapshot()
    carl = world.device("carl")
    carl.pull()
    assert carl.read("one") == noise(1)
    settle((anna, ben))
    assert collect(carl).kept.packs == 1
    settle((anna, ben))
    assert collect(carl).swept.packs == 1
    check_clean(anna, ben, carl)


@pytest.mark.parametrize("what", ["head", "part", "missing", "other part"])
def test_a_damaged_snapshot_is_passed_over(world: World, what: str) -> None:
    anna, _ = busy(world)
    taken = anna.fleet.gc.snapshot()
    for path in world.objects("snapshots"):
        is_head = path.name == taken.id
        if what == "missing" and not is_head:
            path.unlink()
        elif is_head == (what == "head") and what != "missing":
            data = bytearray(path.read_bytes())
            data[len(data) // 2 if what != "other part" else -1] ^= 1
            path.write_bytes(data)
    carl = world.device("carl")
    carl.pull()
    assert_same(carl.tree, anna.tree)
    check_clean(carl)


def test_only_an_admin_vouches_for_a_snapshot(world: World) -> None:
    _, ben = busy(world)
    with pytest.raises(AccessError):
        ben.fleet.gc.snapshot()
    assert world.objects("snapshots") == []


def test_a_snapshot_that_covers_what_a_revocation_cut_off_is_void(world: World) -> None:
    anna = world.device("anna")
    ben = world.device("ben", role="admin")
    carl = world.device("carl")
    anna.fill({"a": b"1"})
    anna.push()
    settle((ben, carl))
    carl.fill({"bad": b"known to ben alone"})
    # Anna revokes carl before she has heard of what he wrote; ben's snapshot has it.
    anna.fleet.revoke("carl")
    anna.close()
    control = {p: p.read_bytes() for p in world.objects("ledger/_control")}
    fresh = [
        p for p in control if p.stat().st_mtime_ns == max(q.stat().st_mtime_ns for q in control)
    ]
    for path in fresh:
        path.unlink()
    carl.push()
    ben.pull()
    ben.fleet.gc.snapshot()
    for path in fresh:
        path.write_bytes(control[path])
    dora_code = None
    with suppress(TcfsError):
        anna.pull()
        dora_code = anna.fleet.invite().code
    assert dora_code is not None
    from tcfs.sync import session

    dora = world.device("dora", join=False)
    session.enroll_fleet(dora.loaded, name="dora", invite=dora_code)
    dora.pull()
    assert dora.contents() == {"a": b"1"}


def test_compaction_deletes_what_all_are_past_and_no_more(world: World) -> None:
    anna, ben = busy(world)
    segments = len(world.objects("ledger/default"))
    first = anna.fleet.gc.snapshot(compact=True)
    assert first.removed_segments == 0
    second = anna.fleet.gc.snapshot(compact=True)
    assert second.removed_segments == 0
    assert second.waiting_for == ("ben",)
    assert len(world.objects("ledger/default")) >= segments

    ben.pull()
    third = anna.fleet.gc.snapshot(compact=True)
    assert third.removed_segments > 3
    check_clean(anna, ben)

    carl = world.device("carl")
    carl.pull()
    assert_same(carl.tree, anna.tree)
    assert len(carl.fleet.log("often").versions) == 4
    ben.fleet.rebuild_index()
    check_clean(anna, ben, carl)
    ben.fill({"a": b"after"})
    ben.push()
    settle((anna, carl))
    assert carl.read("a") == anna.read("a") == b"after"
    # What was inside the segments can still be had.
    oldest = carl.fleet.log("often").versions[-1]
    carl.fleet.restore("often", oldest.id)
    assert carl.read("often") == b"0"
    settle((anna, ben))
    collect(anna)
    settle((ben, carl))
    collect(ben)
    check_clean(anna, ben, carl)


def test_content_that_lay_in_a_deleted_segment_is_sent_again(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for n in range(5):
        anna.fill({"small": b"version %d" % n})
        anna.push()
    ben.pull()
    anna.fleet.gc.set_retention(keep_versions=2)
    anna.fleet.gc.snapshot(compact=True)
    ben.pull()
    assert anna.fleet.gc.snapshot(compact=True).removed_segments > 3
    # Nothing needs it, it went with its segment: whoever has it again sends it again.
    ben.fill({"again": b"version 0"})
    ben.push()
    anna.pull()
    assert anna.read("again") == b"version 0"
    check_clean(anna, ben)


def test_a_compaction_cut_off_anywhere_leaves_what_a_new_device_needs(world: World) -> None:
    anna, ben = busy(world)
    anna.fleet.gc.snapshot(compact=True)
    ben.pull()
    anna.close()
    saved = world.top / "saved"
    for directory in ("store", "anna/home"):
        shutil.copytree(world.top / directory, saved / directory)

    plan = FaultPlan()
    anna.reopen(store=FaultStore(world.open_store(), plan))
    assert anna.fleet.gc.snapshot(compact=True).removed_segments > 3
    changes = [o.number for o in plan.operations if o.name in ("put", "delete")]
    assert len(changes) > 8
    for number in changes[:: max(1, len(changes) // 5)]:
        anna.close()
        for directory in ("store", "anna/home"):
            shutil.rmtree(world.top / directory)
            shutil.copytree(saved / directory, world.top / directory)

        def hook(operation: Operation, moment: Moment, number: int = number) -> None:
            if operation.number == number and moment == "after":
                raise SimulatedCrash

        anna.reopen(store=FaultStore(world.open_store(), FaultPlan(hook)))
        with suppress(SimulatedCrash):
            anna.fleet.gc.snapshot(compact=True)
        anna.reopen()
        anna.fleet.rebuild_index()
        heads = [h.ids for h in anna.fleet._context.state.history.tree(DEFAULT_NAMESPACE, ROOT)]
        assert heads
        check_clean(anna)
        anna.fleet.gc.snapshot(compact=True)
        check_clean(anna)
