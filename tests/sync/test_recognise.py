"""After ``rebuild-index`` the files on disk are known again, and nothing is guessed to be gone."""

from __future__ import annotations

import os

from tcfs.sync.facade import Limits
from tests.sync.kit import Link, World, assert_same


def test_what_others_delete_after_a_rebuild_goes_here_too(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"gone": b"1", "d/deep": b"2", "link": Link("gone"), "stays": b"3"})
    anna.push()
    ben.pull()
    ben.fleet.rebuild_index()
    for name in ("gone", "d/deep", "link"):
        anna.remove(name)
    os.rmdir(anna.path("d"))
    anna.push()
    ben.pull()
    assert_same(anna.tree, ben.tree)
    before = world.objects()
    ben.push()
    assert world.objects() == before


def test_what_others_deleted_before_the_rebuild_goes_and_does_not_come_back(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"gone": b"1", "d/deep": b"2", "changed": b"old"})
    anna.push()
    ben.pull()
    anna.remove("gone")
    anna.remove("d/deep")
    os.rmdir(anna.path("d"))
    anna.fill({"changed": b"new content"})
    anna.push()
    ben.fleet.rebuild_index()
    segments = world.objects("ledger/default")
    ben.push()
    assert world.objects("ledger/default") == segments
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_a_rebuilt_device_sends_no_deletion_and_replaces_nothing(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"1", "b": b"2", "c": b"3"})
    anna.push()
    ben.pull()
    anna.fill({"a": b"newer"})
    anna.push()
    ben.remove("b")  # before the state was lost: nobody can know it now
    ben.fill({"c": b"edited here"})
    ben.fleet.rebuild_index()
    assert "delete" not in ben.push(dry_run=True).plan.counts
    ben.push()
    anna.pull()
    assert anna.read("a") == b"newer"
    assert anna.read("b") == b"2"
    assert {anna.read(name) for name in anna.contents()} >= {b"3", b"edited here"}


def test_an_edit_after_the_rebuild_of_an_outdated_file_is_a_conflict(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"old"})
    anna.push()
    ben.pull()
    anna.fill({"a": b"anna's"})
    anna.push()
    ben.fleet.rebuild_index()
    ben.fill({"a": b"ben's own"})
    ben.push()
    ben.pull()
    anna.pull()
    assert_same(anna.tree, ben.tree)
    assert {b"anna's", b"ben's own"} <= {anna.read(name) for name in anna.contents()}


def test_a_time_set_meanwhile_sends_no_old_content(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"old"})
    anna.push()
    ben.pull()
    anna.fill({"a": b"newer"})
    anna.push()
    os.utime(ben.path("a"), ns=(7, 7))
    ben.fleet.rebuild_index()
    ben.push()
    ben.pull(limits=Limits(confirmed=True))
    assert ben.read("a") == anna.read("a") == b"newer"
    assert not ben.fleet.conflicts().total


def test_a_file_of_no_version_is_left_alone(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": b"1"})
    anna.push()
    ben.pull()
    anna.remove("a")
    anna.push()
    ben.fill({"a": b"mine"})
    ben.fleet.rebuild_index()
    ben.pull()
    assert ben.read("a") == b"mine"
    ben.push()
    anna.pull()
    assert anna.read("a") == b"mine"
