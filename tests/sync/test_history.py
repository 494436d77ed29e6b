"""Looking back and going back: log, why, restore, undo, and an index made anew."""

from __future__ import annotations

import os
import secrets

import pytest

from tcfs.errors import ConflictError, NotFoundError, PlanChangedError, StoreError, UsageError
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.store.open import open_store
from tcfs.store.wrappers.fault import FaultStore
from tests.sync.kit import Device, World, assert_same


def as_actor(device: Device, actor: str) -> Device:
    """The device, driven by somebody else from now on."""
    device.close()
    device.actor = actor
    return device


def test_the_log_pages_from_the_newest_to_the_oldest(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for n in range(7):
        anna.fill({"a.txt": str(n)})
        anna.push()
    ben.pull()
    seen, before = [], ""
    while True:
        page = ben.fleet.log("a.txt", before=before, limit=3)
        assert len(page.versions) <= 3
        seen += [v.id for v in page.versions]
        before = page.next
        if not before:
            break
    assert len(seen) == len(set(seen)) == 7
    lamports = [v.lamport for v in ben.fleet.log("a.txt").versions]
    assert lamports == sorted(lamports, reverse=True)
    assert [v.live for v in ben.fleet.log("a.txt").versions] == [True] + [False] * 6
    with pytest.raises(UsageError):
        ben.fleet.log(before="yesterday")


def test_the_log_says_who_what_when_and_by_whom_it_was_asked(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    as_actor(anna, "mcp:helper").fill({"d/a.txt": "a"})
    anna.push()
    newest = ben.fleet.log("d/a.txt").versions[0]
    assert (newest.device, newest.actor, newest.op, newest.size) == (
        "anna",
        "mcp:helper",
        "write",
        1,
    )
    assert newest.segment.endswith("/1")
    assert [v.path for v in ben.fleet.log("d").versions] == ["d/a.txt", "d"]


def test_why_tells_the_chain_of_entries_behind_a_path(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "one"})
    anna.push()
    ben.pull()
    ben.fill({"a.txt": "two"})
    ben.push()
    anna.pull()
    os.rename(anna.path("a.txt"), anna.path("b.txt"))
    anna.push()

    why = ben.fleet.why("a.txt")
    assert why.state == "not_present"
    assert [(s.role, s.version.device) for s in why.steps] == [
        ("deleted", "anna"),
        ("superseded", "ben"),
        ("superseded", "anna"),
    ]
    moved = ben.fleet.why("b.txt").steps[0]
    assert "moved here from a.txt" in moved.explanation
    with pytest.raises(NotFoundError):
        ben.fleet.why("never.txt")


def test_why_says_where_a_lost_version_is(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "anna"})
    ben.fill({"a.txt": "ben"})
    anna.push()
    ben.sync()
    lost = [s for s in anna.fleet.why("a.txt").steps if s.role == "lost"]
    assert [(s.version.device, s.kept_at) for s in lost] == [("ben", "a.conflict-ben.txt")]


def test_restore_brings_a_version_back_as_a_new_one(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for content in ("one", "two", "three"):
        anna.fill({"a.txt": content})
        os.chmod(anna.path("a.txt"), 0o600 if content == "one" else 0o644)
        anna.push()
    oldest = anna.fleet.log("a.txt").versions[-1]

    dry = anna.fleet.restore("a.txt", oldest.id, dry_run=True)
    assert (dry.dry_run, anna.read("a.txt")) == (True, b"three")
    result = anna.fleet.restore("a.txt", oldest.id)

    assert result.segment
    assert anna.read("a.txt") == b"one"
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert len(anna.fleet.log("a.txt").versions) >= 4
    # By the beginning of its content's hash, too.
    two = anna.fleet.log("a.txt").versions[-2]
    anna.fleet.restore("a.txt", two.file_hash[:8])
    assert anna.read("a.txt") == b"two"


def test_restore_brings_a_deleted_file_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/a.txt": "precious"})
    anna.push()
    ben.pull()
    anna.remove("d/a.txt")
    os.rmdir(anna.path("d"))
    anna.push()
    ben.pull()
    version = ben.fleet.log("d/a.txt").versions[-1]
    ben.fleet.restore("d/a.txt", version.id)
    assert ben.read("d/a.txt") == b"precious"
    anna.pull()
    assert anna.read("d/a.txt") == b"precious"


def test_restore_refuses_to_run_over_an_edit_that_was_not_pushed(world: World) -> None:
    (anna,) = world.devices("anna")
    for content in ("one", "two"):
        anna.fill({"a.txt": content})
        anna.push()
    oldest = anna.fleet.log("a.txt").versions[-1]
    anna.fill({"a.txt": "three, not pushed"})
    with pytest.raises(ConflictError, match="not pushed"):
        anna.fleet.restore("a.txt", oldest.id)
    assert anna.read("a.txt") == b"three, not pushed"


@pytest.mark.parametrize("version", ["nonsense", "00", "0" * 36 + ":1"])
def test_restoring_a_version_that_does_not_exist_says_so(world: World, version: str) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"a.txt": "one"})
    anna.push()
    with pytest.raises((NotFoundError, UsageError)):
        anna.fleet.restore("a.txt", version)


def test_undo_takes_back_an_actors_changes_as_a_unit_and_skips_what_changed_since(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"edited.txt": "before", "deleted.txt": "d", "since.txt": "s", "mine.txt": "m"})
    anna.push()
    as_actor(anna, "mcp:helper")
    anna.fill({"edited.txt": "by helper", "created.txt": "by helper", "since.txt": "by helper"})
    anna.remove("deleted.txt")
    anna.push()
    anna.fill({"edited.txt": "by helper, again"})
    anna.push()
    as_actor(anna, "cli")
    anna.fill({"since.txt": "by a person, later", "mine.txt": "by a person"})
    anna.push()

    plan = anna.fleet.undo(actor="mcp:helper", dry_run=True).plan
    assert anna.read("edited.txt") == b"by helper, again"
    result = anna.fleet.undo(actor="mcp:helper", plan=plan.hash)

    assert sorted(result.reverted) == ["created.txt", "deleted.txt", "edited.txt"]
    assert [p.path for p in result.skipped] == ["since.txt"]
    assert anna.contents() == {
        "edited.txt": b"before",
        "deleted.txt": b"d",
        "since.txt": b"by a person, later",
        "mine.txt": b"by a person",
    }
    ben.pull()
    assert_same(anna.tree, ben.tree)
    assert anna.fleet.undo(actor="mcp:helper").reverted == ()


def test_undo_takes_one_segment_back_wherever_it_came_from(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "one", "b.txt": "one"})
    anna.push()
    ben.pull()
    ben.fill({"a.txt": "two", "b.txt": "two"})
    segment = ben.push().segment
    anna.pull()

    result = anna.fleet.undo(segment=segment)

    assert sorted(result.reverted) == ["a.txt", "b.txt"]
    ben.pull()
    assert ben.contents() == anna.contents() == {"a.txt": b"one", "b.txt": b"one"}


def test_undo_of_a_move_moves_back(world: World) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"old.txt": "content"})
    anna.push()
    as_actor(anna, "helper")
    os.rename(anna.path("old.txt"), anna.path("new.txt"))
    anna.push()
    anna.fleet.undo(actor="helper")
    assert anna.contents() == {"old.txt": b"content"}


def test_undo_asks_for_one_of_actor_and_segment_that_exists(world: World) -> None:
    (anna,) = world.devices("anna")
    anna.fill({"a.txt": "a"})
    plan = anna.push().plan.hash
    for actor, segment in (("", ""), ("a", "b"), ("", "what")):
        with pytest.raises(UsageError):
            anna.fleet.undo(actor=actor, segment=segment)
    for actor, segment in (("nobody", ""), ("", f"{anna.fleet.status().device_id}/99")):
        with pytest.raises(NotFoundError):
            anna.fleet.undo(actor=actor, segment=segment)
    with pytest.raises(PlanChangedError):
        anna.fleet.undo(actor="test", plan=plan)


# The index anew


def test_an_index_made_anew_from_the_store_knows_all_and_reads_equal_files_as_synced(
    world: World,
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a" * 5000, "d/b.txt": "b", "e": b""})
    anna.push()
    ben.pull()
    ben.fill({"a.txt": "edited"})
    ben.push()
    log = [v.id for v in ben.fleet.log().versions]

    rebuilt = ben.fleet.rebuild_index()

    assert rebuilt.versions == len(log)
    assert [v.id for v in ben.fleet.log().versions] == log
    assert ben.pull().problems == ()
    assert ben.push().segment == ""
    anna.pull()
    assert_same(anna.tree, ben.tree)
    # What it deletes from now on is sent, and it can still store against what is there.
    ben.remove("d/b.txt")
    ben.push()
    ben.fill({"again.txt": "a" * 5000})
    assert ben.push().transfer.bytes_sent < 3000
    anna.pull()
    assert_same(anna.tree, ben.tree)


def test_a_rebuilt_index_takes_no_missing_file_for_a_deletion(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "b.txt": "b"})
    anna.push()
    ben.pull()
    ben.remove("a.txt")
    ben.fleet.rebuild_index()
    assert ben.push().plan.counts.get("delete", 0) == 0
    ben.pull()
    assert ben.contents() == {"a.txt": b"a", "b.txt": b"b"}


def test_a_finished_segment_that_never_arrived_survives_a_rebuilt_index(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for n in range(3):
        anna.fill({f"f{n}.txt": str(n)})
        anna.push()
    anna.fill({"last.txt": "finished, not sent"})

    def fail(operation: Operation, moment: Moment) -> None:
        if (operation.name, moment) == ("put", "before"):
            raise StoreError("the line is down")

    anna.reopen(store=FaultStore(open_store(world.endpoint), FaultPlan(fail)))
    with pytest.raises(StoreError):
        anna.push()
    anna.reopen()
    assert anna.fleet.status().outbox == 1

    anna.fleet.rebuild_index()

    assert anna.fleet.status().outbox == 0
    assert len(anna.fleet.log().versions) == 4
    ben.pull()
    assert_same(anna.tree, ben.tree)
    anna.sync()
    anna.fill({"f0.txt": "edited"})
    anna.sync()
    ben.pull()
    assert ben.contents()["f0.txt"] == b"edited"


def test_an_index_is_rebuilt_although_a_pack_is_missing(world: World) -> None:
    anna, _ben = world.devices("anna", "ben")
    anna.fill({"a.bin": secrets.token_bytes(300_000), "b.txt": "b"})
    anna.push()
    (pack,) = world.objects("packs")
    pack.unlink()
    rebuilt = anna.fleet.rebuild_index()
    assert rebuilt.versions == 2
    assert any(pack.name in message for message in rebuilt.messages)
