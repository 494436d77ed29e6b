"""What access rules refuse is kept: they may change."""

from __future__ import annotations

import pytest

from tests.sync.gc.support import collect, noise, settle
from tests.sync.kit import World
from tests.sync.test_access import lawless, refused


def test_the_content_of_a_refused_write_is_not_garbage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a": noise(1)})
    with lawless(monkeypatch):
        ben.push()
    written = ben.read("docs/a")
    anna.pull()
    assert anna.contents() == {}
    for device in (anna, ben, anna, ben):
        settle((device,))
        collect(device)
    anna.fleet.access.set("docs/**", ["read", "write"], devices=["ben"], from_start=True)
    anna.pull()
    assert anna.read("docs/a") == written


def test_a_device_that_begins_from_a_snapshot_judges_for_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"docs/a": "good"})
    anna.push()
    ben.pull()
    anna.fleet.access.set("docs/**", ["read"], everyone=True)
    ben.fill({"docs/a": "forced", "free": "f"})
    with lawless(monkeypatch):
        ben.push()
    anna.pull()
    anna.fleet.gc.snapshot()
    cara = world.device("cara")
    cara.pull()
    assert cara.contents() == {"docs/a": b"good", "free": b"f"}
    assert [path for path, _ in refused(cara)] == [b"docs/a"]
    # So a change of the rules means the same to it as to the others.
    anna.fleet.access.set("docs/**", ["read", "write"], devices=["anna", "ben"], from_start=True)
    for device in (anna, cara):
        device.pull()
        assert device.read("docs/a") == b"forced"
