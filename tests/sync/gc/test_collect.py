"""Collections: what goes, what stays, and who has to agree."""

from __future__ import annotations

import pytest

from tcfs.errors import AccessError, IntegrityError, PlanChangedError, StoreError
from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.model.ids import DEFAULT_NAMESPACE, PackId
from tcfs.model.upkeep import mark_event
from tcfs.store.wrappers.fault import FaultStore
from tcfs.sync import session
from tcfs.sync.gc.marks import publish_upkeep
from tests.sync.gc.support import (
    SIZE,
    check_clean,
    collect,
    crash_on,
    leave_orphan,
    noise,
    packs,
    settle,
)
from tests.sync.kit import Device, World, assert_same


def test_an_orphan_goes_once_every_device_has_acknowledged_its_mark(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"kept": noise(1)})
    anna.push()
    ben.pull()
    orphan = leave_orphan(anna)

    first = collect(anna)
    assert (first.orphans.packs, first.swept.packs) == (1, 0)
    second = collect(anna)
    assert second.orphans.packs == 0
    assert [waited.name for waited in second.waiting_for] == ["ben"]
    assert orphan in packs(world)

    ben.pull()
    third = collect(anna)
    assert third.swept.packs == 1
    assert third.swept.bytes > SIZE
    assert orphan not in packs(world)
    check_clean(anna, ben)


def test_any_writer_can_mark_and_any_can_sweep(world: World) -> None:
    anna, ben, carl = world.devices("anna", "ben", "carl")
    orphan = leave_orphan(anna)
    settle((ben, carl))
    collect(ben)
    settle((anna, carl))
    assert collect(carl).swept.packs == 1
    assert orphan not in packs(world)
    check_clean(anna, ben, carl)


def test_what_history_needs_is_never_marked(world: World) -> None:
    (anna,) = world.devices("anna")
    for seed in range(3):
        anna.fill({"file": noise(seed)})
        anna.push()
    anna.remove("file")
    anna.push()
    before = packs(world)
    for _ in range(2):
        result = collect(anna)
        assert result.unused.packs == result.orphans.packs == result.swept.packs == 0
    assert packs(world) == before


def test_a_pack_of_a_push_that_goes_on_is_no_orphan(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big": noise(1)})
    crash_on(anna, "put", "ledger/default/", "before")
    with pytest.raises(SimulatedCrash):
        anna.push()
    assert len(packs(world)) == 1
    ben.pull()
    assert collect(ben).orphans.packs == 0
    anna.reopen()
    anna.push()
    ben.pull()
    assert ben.read("big") == noise(1)
    assert collect(ben).orphans.packs == 0
    check_clean(anna, ben)


def test_a_marked_chunk_is_sent_again_by_whoever_needs_it(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    orphan = leave_orphan(anna, seed=5)
    settle([ben])
    collect(anna)
    # The orphan's content comes back: nobody may count on the pack that is to go.
    anna.fill({"again": noise(5)})
    ben.fill({"too": noise(5)})
    anna.push()
    ben.push()
    settle((anna, ben))
    assert collect(anna).swept.packs == 1
    assert orphan not in packs(world)
    assert ben.read("again") == anna.read("too") == noise(5)
    check_clean(anna, ben)


def test_a_push_that_had_not_seen_the_mark_keeps_what_it_needs(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for seed in (7, 8, 9, 10):
        anna.fill({"file": noise(seed)})
        anna.push()
    ben.pull()
    anna.fleet.gc.set_retention(keep_versions=2)
    marked: list[int] = []

    def mark_meanwhile(operation: Operation, moment: Moment) -> None:
        place = (operation.name, str(operation.target)[:15], moment)
        if place == ("put", "ledger/default/", "before") and not marked:
            marked.append(collect(anna).unused.packs)

    # Ben uses the oldest content anew: it need not be sent. Just before his segment arrives, its
    # pack is marked.
    ben.fill({"copy": noise(7)})
    ben.reopen(store=FaultStore(world.open_store(), FaultPlan(mark_meanwhile)))
    sent = ben.push().transfer
    assert sent is not None
    assert sent.packs == 0
    assert marked == [2]
    before = packs(world)
    settle((ben, anna))
    assert collect(anna).kept.packs == 1
    settle((ben, anna))
    assert collect(anna).swept.packs == 1
    assert before - packs(world)
    anna.pull()
    assert anna.read("copy") == noise(7)
    check_clean(anna, ben)


def test_a_dry_run_changes_nothing_and_its_plan_binds(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    leave_orphan(anna)
    settle([ben])
    before = world.objects()
    plan = collect(anna, dry_run=True)
    assert plan.dry_run
    assert plan.orphans.packs == 1
    assert world.objects() == before
    leave_orphan(anna, "another", seed=98)
    with pytest.raises(PlanChangedError):
        collect(anna, plan=plan.plan)
    assert len(packs(world)) == 2
    again = collect(anna, dry_run=True)
    assert collect(anna, plan=again.plan).orphans.packs == 2


def test_a_reader_acknowledges_and_cannot_collect(world: World) -> None:
    anna = world.device("anna")
    rita = world.device("rita", role="reader")
    leave_orphan(anna)
    rita.pull()
    with pytest.raises(AccessError):
        collect(rita)
    collect(anna)
    rita.pull()
    assert collect(anna).swept.packs == 1
    check_clean(anna, rita)


def test_nobody_acknowledges_anything_where_nothing_is_marked(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"1"})
    anna.push()
    before = world.objects("ledger/_control")
    ben.pull()
    ben.pull()
    collect(anna)
    assert world.objects("ledger/_control") == before


def test_a_device_that_is_away_is_named_and_can_be_expired(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"shared": b"as it was"})
    anna.push()
    ben.pull()
    ben.fill({"shared": b"edited on the road", "mine": noise(3)})
    orphan = leave_orphan(anna)
    collect(anna)
    waiting = collect(anna)
    assert [waited.name for waited in waiting.waiting_for] == ["ben"]
    anna.fleet.gc.expire("ben")
    assert collect(anna).swept.packs == 1
    assert orphan not in packs(world)

    with pytest.raises(AccessError, match="away"):
        ben.push()
    assert ben.read("shared") == b"edited on the road"
    code = anna.fleet.invite().code
    ben.close()
    session.enroll_fleet(ben.loaded, name="ben2", invite=code, new_identity=True)
    ben.push()
    ben.pull()
    anna.pull()
    texts = {anna.read(name) for name in anna.contents()}
    assert {b"as it was", b"edited on the road", noise(3)} <= texts
    assert_same(anna.tree, ben.tree)
    check_clean(anna, ben)


def test_an_expired_device_ends_no_epoch(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    epochs = len(anna.fleet._context.control.epochs[DEFAULT_NAMESPACE])
    ben.pull()
    anna.fleet.gc.expire("ben")
    anna.fill({"a": b"1"})
    anna.push()
    assert len(anna.fleet._context.control.epochs[DEFAULT_NAMESPACE]) == epochs


def test_a_listing_that_fails_decides_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    leave_orphan(anna)
    settle([ben])
    before = packs(world)

    def hook(operation: Operation, moment: Moment) -> None:
        if operation.name == "list" and operation.target == "packs/" and moment == "after":
            raise StoreError("the listing broke off")

    anna.reopen(store=FaultStore(world.open_store(), FaultPlan(hook)))
    with pytest.raises(StoreError):
        collect(anna)
    anna.reopen()
    assert packs(world) == before
    assert not anna.fleet._context.control.upkeep.marks


def test_nothing_is_collected_while_a_history_is_not_all_known(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    leave_orphan(anna)
    ben.fill({"b": b"1"})
    ben.push()
    ben.fill({"b": b"22"})
    ben.push()
    (missing, _) = world.objects(f"ledger/default/{ben.fleet._context.identity.device_id}")
    kept = missing.read_bytes()
    missing.unlink()
    with pytest.raises(IntegrityError, match="nothing can be collected"):
        collect(anna)
    missing.write_bytes(kept)
    assert collect(anna).orphans.packs == 1


def mark_by_mistake(device: Device) -> str:
    """A mark on the only pack there is, which is needed. Returns the pack."""
    context = device.fleet._context
    (pack,) = packs(device.world)
    with device.fleet._working():
        publish_upkeep(context, [mark_event(context.namespace, [PackId(pack)], 1)])
    return pack


def test_what_only_marked_packs_hold_is_moved_before_they_go(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"one": noise(1)})
    anna.push()
    ben.pull()
    # Nobody believes it.
    pack = mark_by_mistake(ben)
    settle((anna, ben))
    assert collect(anna).kept.packs == 1
    assert pack in packs(world)
    settle((ben,))
    assert collect(ben).swept.packs == 1
    assert pack not in packs(world)
    check_clean(anna, ben)
    anna.fleet.rebuild_index()
    check_clean(anna)
    ben.remove("one")
    ben.fleet.pull("one", ben.path("again"))
    assert ben.read("again") == noise(1)


def test_what_an_earlier_policy_let_go_is_counted_and_stops_no_collection(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for seed in range(3):
        anna.fill({"one": noise(seed)})
        anna.push()
    anna.fleet.gc.set_retention(keep_versions=2)
    settle((anna, ben))
    assert collect(anna).forgotten_versions == 1
    settle((anna, ben))
    assert collect(anna).swept.packs == 1
    # Ben did not sweep: for all he knows the marked pack is there.
    anna.fleet.gc.set_retention(keep_versions=3)
    settle((ben,))
    done = collect(ben)
    assert (done.gone_versions, done.forgotten_versions, done.problems) == (1, 0, ())
    check_clean(anna, ben)


def test_a_merge_whose_common_ancestor_was_collected_keeps_both_sides(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fleet.set_strategy("merge")
    anna.fleet.gc.set_retention(keep_versions=2)
    first, second, third, other = (noise(seed).hex("\n", 32) for seed in range(4))
    anna.fill({"one.txt": first})
    anna.push()
    ben.pull()
    mark_by_mistake(ben)
    settle((anna, ben))
    for text in (second, third):
        ben.fill({"one.txt": text})
        ben.push()
    assert collect(ben).swept.packs == 1
    # Anna has heard of the mark, and not of what came after it.
    anna.fill({"one.txt": other})
    anna.sync()
    settle((ben,))
    assert anna.contents() == ben.contents()
    assert set(anna.contents().values()) == {third.encode(), other.encode()}
    check_clean(anna, ben)


def test_current_content_that_is_gone_is_told_by_its_path_and_the_rest_is_collected(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"one": noise(1)})
    anna.push()
    ben.pull()
    mark_by_mistake(ben)
    settle((anna, ben))
    (path,) = world.objects("packs")
    path.unlink()
    orphan = leave_orphan(anna)
    done = collect(anna)
    assert [problem.path for problem in done.problems] == ["one"]
    assert (done.orphans.packs, done.gone_versions) == (1, 0)
    # As the problem's remedy says.
    anna.fill({"two": noise(1)})
    anna.push()
    settle((ben,))
    again = collect(ben)
    assert (again.swept.packs, again.problems) == (1, ())
    assert orphan not in packs(world)
    check_clean(anna, ben)


def test_a_pack_with_moved_chunks_that_the_store_did_not_show_is_asked_for_again(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"one": noise(1, SIZE * 2), "two": noise(2)})
    anna.push()
    (old,) = packs(world)
    ben.pull()
    for text in (b"small", b"smaller"):
        anna.fill({"one": text})
        anna.push()
    anna.fleet.gc.set_retention(keep_versions=2)
    settle((anna, ben))
    assert collect(ben).repacked.packs == 1
    (new,) = packs(world) - {old}
    (path,) = [path for path in world.objects("packs") if path.name == new]
    hidden = path.with_name("hidden")
    path.rename(hidden)
    # Anna acknowledges all the same: what is asked for again is not forgotten.
    settle((anna,))
    with pytest.raises(IntegrityError, match="no snapshot can be taken"):
        anna.fleet.gc.snapshot()
    hidden.rename(path)
    assert collect(ben).swept.packs == 1
    assert packs(world) == {new}
    anna.remove("two")
    anna.fleet.pull("two", anna.path("again"))
    assert anna.read("again") == noise(2)
    assert anna.fleet.gc.snapshot().chunks
    check_clean(anna, ben)
