"""Large files that are edited: the list of their chunks is told by what changed."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tcfs.model.abridged import AbridgedEvent, ToldEvent
from tcfs.model.event import ContentEvent
from tcfs.model.ids import ChunkId, NamespaceId, RelPath, StoreKey, VersionId
from tcfs.sync import abridging
from tcfs.sync.chains import opener
from tests.sync.kit import Device, World, assert_same
from tests.sync.test_access import lawless
from tests.values import replace

SPACE = NamespaceId("default")
_random = random.Random(8)
LINES = [f"{n:06d} {_random.random():.17f} a line of a log\n" for n in range(24_000)]
"""A megabyte: some sixty chunks."""


def log_of(lines: Iterable[str]) -> bytes:
    return "".join(lines).encode()


def edited(at: int, text: str = "inserted\n") -> bytes:
    return log_of((*LINES[:at], text, *LINES[at:]))


def told(device: Device) -> list[ToldEvent]:
    """Every event of a device's chain, as its segments have it."""
    context = device.fleet._context
    chain = f"ledger/default/{context.identity.device_id}"
    found: list[ToldEvent] = []
    for place in sorted(device.world.objects(chain)):
        key = StoreKey(f"{chain}/{place.name}")
        found += opener(context, SPACE)(key, place.read_bytes()).events
    return found


def lists(device: Device, name: str = "log") -> list[tuple[ChunkId, ...]]:
    """The chunks of every version of a path, as a device knows them, oldest first."""
    versions = device.fleet._context.state.history.of_path(SPACE, RelPath(name.encode()))
    return [version.manifest.chunks for version in reversed(versions)]


@pytest.fixture
def pair(world: World) -> tuple[Device, Device]:
    """Two devices; the first has pushed a log and an edit in its middle."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"log": log_of(LINES)})
    anna.push()
    anna.fill({"log": edited(6000)})
    anna.push()
    return anna, ben


def test_an_edit_names_the_chunks_that_changed_and_everybody_has_the_whole_list(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    first, second = told(anna)
    assert isinstance(first, ContentEvent)
    assert isinstance(second, AbridgedEvent)
    assert len(first.manifest.chunks) > 40
    assert len(second.event.manifest.chunks) < 5
    assert second.front > 10
    assert second.back > 10
    ben.pull()
    assert ben.read("log") == edited(6000)
    assert lists(ben) == lists(anna)
    assert not ben.fleet.verify(read_data=True, local=True).problems


def test_what_is_told_goes_by_lists_that_were_told_so_themselves(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    for at in (9000, 14_000, 20_000):
        anna.fill({"log": edited(at)})
        anna.push()
    assert [type(event) for event in told(anna)] == [ContentEvent, *[AbridgedEvent] * 4]
    ben.pull()
    assert lists(ben) == lists(anna)
    assert ben.read("log") == edited(20_000)
    oldest = ben.fleet.log("log").versions[-1]
    ben.fleet.restore("log", oldest.id)
    assert ben.read("log") == log_of(LINES)


def test_who_edits_what_another_wrote_goes_by_his_own_last_version(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    ben.pull()
    ben.fill({"log": edited(3000)})
    ben.push()
    anna.pull()
    anna.fill({"log": edited(4000)})
    anna.push()
    ben.pull()
    ben.fill({"log": edited(5000)})
    ben.push()
    anna.pull()
    assert [type(event) for event in told(ben)] == [ContentEvent, AbridgedEvent]
    assert isinstance(told(anna)[-1], AbridgedEvent)
    assert lists(anna) == lists(ben)
    assert_same(anna.tree, ben.tree)


def test_a_moved_file_goes_by_what_it_was_before(pair: tuple[Device, Device]) -> None:
    anna, ben = pair
    anna.remove("log")
    anna.fill({"old/log": edited(6000)})
    anna.push()
    assert any(isinstance(e, AbridgedEvent) and e.event.moved_from for e in told(anna))
    ben.pull()
    assert ben.read("old/log") == edited(6000)
    assert lists(ben, "old/log") == lists(anna, "old/log")


def test_a_file_that_got_shorter_still_names_a_chunk(pair: tuple[Device, Device]) -> None:
    anna, ben = pair
    shorter = edited(6000)[:700_000]
    anna.fill({"log": shorter})
    anna.push()
    assert isinstance(told(anna)[-1], AbridgedEvent)
    ben.pull()
    assert ben.read("log") == shorter
    assert lists(ben) == lists(anna)


def test_who_begins_from_a_snapshot_takes_up_what_goes_by_versions_inside_it(
    pair: tuple[Device, Device], world: World
) -> None:
    anna, ben = pair
    ben.sync()
    anna.sync()
    anna.fleet.gc.snapshot(compact=True)
    anna.fill({"log": edited(1000)})
    anna.push()
    assert isinstance(told(anna)[-1], AbridgedEvent)
    cara = world.device("cara")
    cara.pull()
    assert cara.read("log") == edited(1000)
    assert lists(cara) == lists(anna)
    anna.fleet.rebuild_index()
    assert lists(anna) == lists(cara)


def test_a_list_goes_by_a_version_that_access_rules_refuse(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben, cara = world.devices("anna", "ben", "cara")
    anna.fleet.access.set("log", ["read"], everyone=True)
    ben.fill({"log": log_of(LINES)})
    with lawless(monkeypatch):
        ben.push()
    cara.pull()
    assert "log" not in cara.contents()
    anna.pull()
    anna.fleet.access.set("log", ["read", "write"], everyone=True)
    ben.fill({"log": edited(6000)})
    with lawless(monkeypatch):
        ben.push()
    assert isinstance(told(ben)[-1], AbridgedEvent)
    cara.pull()
    assert cara.read("log") == edited(6000)


def test_chunks_whose_place_has_to_be_told_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a fork: what its branch alone told of is told again."""
    monkeypatch.setattr("tcfs.sync.upload.MAX_INLINE_PACK", 0)
    anna, ben = world.devices("anna", "ben")
    anna.fill({"log": log_of(LINES)})
    anna.push()
    anna.fleet._context.state.index.tell_again(SPACE)
    anna.fill({"log": edited(6000)})
    anna.push()
    [first, last] = told(anna)
    assert isinstance(first, ContentEvent)
    assert isinstance(last, ContentEvent), "all of it has to be told again"
    assert last.manifest.chunks == lists(anna)[-1]
    anna.fill({"log": edited(6000, "inserted again\n")})
    anna.push()
    assert isinstance(told(anna)[-1], AbridgedEvent)
    ben.pull()
    assert ben.read("log") == edited(6000, "inserted again\n")


def forge(device: Device, monkeypatch: pytest.MonkeyPatch, **changes: int) -> None:
    """Push an edit whose abridged list says something else."""

    def lie(context, namespace, events, untold):
        return [
            replace(event, **changes) if isinstance(event, AbridgedEvent) else event
            for event in abridging.abridged(context, namespace, events, untold)
        ]

    with monkeypatch.context() as patch:
        patch.setattr("tcfs.sync.commit.abridged", lie)
        device.push()


@pytest.mark.parametrize("changes", [{"of": 3}, {"front": 1 << 20}, {"back": 0}])
def test_a_false_list_is_damaged_content_and_nothing_else_suffers(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch, changes: dict[str, int]
) -> None:
    anna, ben = pair
    ben.pull()
    anna.fill({"other": "x"})
    anna.push()
    anna.fill({"log": edited(2000), "small": "s"})
    forge(anna, monkeypatch, **changes)
    result = ben.pull()
    assert [problem.path for problem in result.problems] == ["log"]
    assert ben.read("log") == edited(6000), "what was there stays"
    assert ben.contents().keys() == {"log", "other", "small"}
    # Told in full, it is whole again.
    monkeypatch.setattr(abridging, "WORTH", 1000)
    anna.fill({"log": edited(9000)})
    anna.push()
    assert not ben.pull().problems
    assert ben.read("log") == edited(9000)


def test_many_short_events_cannot_make_lists_without_end(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be as long as the list that it goes by."""
    anna, ben = pair
    ben.pull()
    context = ben.fleet._context
    [_, event] = told(anna)
    assert isinstance(event, AbridgedEvent)
    whole = len(lists(ben)[-1])
    monkeypatch.setattr(abridging, "MAX_LISTED", 3 * whole + 1)
    device = VersionId(anna.fleet._context.identity.device_id, 1).device
    header = _header_of(ben, device)
    found = abridging.in_full(context, header, [event] * 5)
    assert [len(e.manifest.chunks) for e in found[:3]] == [whole] * 3
    assert [e.manifest.chunks for e in found[3:]] == [event.event.manifest.chunks] * 2


def _header_of(reader: Device, device: str):
    context = reader.fleet._context
    chain = f"ledger/default/{device}"
    place = max(reader.world.objects(chain))
    return opener(context, SPACE)(StoreKey(f"{chain}/{place.name}"), place.read_bytes()).header


def test_short_lists_are_told_in_full(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for n in range(2):
        anna.fill({"a": f"version {n}"})
        anna.push()
    assert [type(event) for event in told(anna)] == [ContentEvent] * 2
    ben.pull()
    assert ben.read("a") == b"version 1"
