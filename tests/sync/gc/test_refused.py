"""What access rules refuse is kept: they may change."""

from __future__ import annotations

import pytest

from tests.sync.gc.support import collect, noise, settle
from tests.sync.kit import World
from tests.sync.test_access import lawless


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
