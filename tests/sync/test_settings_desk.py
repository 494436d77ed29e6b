"""Devices say which settings they run with: as digests, signed, and only when they change."""

import logging

import orjson
import pytest

from tcfs.device.published import SETTINGS_PREFIX
from tcfs.errors import StoreError
from tcfs.store.base import ALWAYS
from tcfs.store.wrappers.forward import ForwardingStore
from tests.sync.kit import World


class NoSettings(ForwardingStore):
    """A store that takes no digests of settings."""

    def put(self, key, data, condition=ALWAYS):
        if key.startswith(SETTINGS_PREFIX):
            raise StoreError("the store is full")
        return self.inner.put(key, data, condition)


def published(world: World) -> list:
    return world.objects(SETTINGS_PREFIX)


def test_a_push_says_once_what_the_device_runs_with(world: World):
    [anna] = world.devices("anna")
    anna.fill({"a": "1"})
    anna.push(dry_run=True)
    assert published(world) == []
    anna.push()
    [file] = published(world)
    first = file.read_bytes()
    anna.fill({"a": "2"})
    anna.push()
    anna.close()
    anna.push()
    assert file.read_bytes() == first


def test_changed_settings_are_said_anew(world: World):
    [anna] = world.devices("anna")
    anna.push()
    [before] = anna.fleet.settings.running()
    anna.close()
    anna.settings["TCFS_SYNC_CONFLICT_MODE"] = "defer"
    anna.pull()
    [after] = anna.fleet.settings.running()
    assert before.published is not None
    assert after.published is not None
    old, new = before.published.digest, after.published.digest
    assert old.whole != new.whole
    assert {k for k in new.settings if new.settings[k] != old.settings[k]} == {"sync.conflict_mode"}


def test_every_device_can_compare_what_any_runs_with(world: World):
    anna, ben = world.devices("anna", "ben")
    anna.push()
    ben.pull()
    found = {device.name: device for device in ben.fleet.settings.running()}
    assert found["ben"].this_device
    assert not found["anna"].this_device
    for device in (anna, ben):
        said = found[device.name].published
        assert said is not None
        assert said.digest == anna.fleet.settings.digest(device.loaded.config, "")


def test_no_value_is_in_the_store_and_nobody_without_the_key_can_try_them(world: World):
    [anna] = world.devices("anna")
    anna.push()
    text = published(world)[0].read_text()
    assert str(anna.tree) not in text
    found = orjson.loads(text)
    from blake3 import blake3

    from tcfs.config.digest import canonical

    tried = orjson.dumps(
        ["sync.conflict_mode", canonical(anna.loaded.config, "")["sync.conflict_mode"]]
    )
    assert blake3(tried).hexdigest(length=8) != found["settings"]["sync.conflict_mode"]


def test_a_device_says_it_before_it_ever_pushed_with_the_key_of_the_fleet(world: World):
    anna, ben = world.devices("anna", "ben")
    ben.close()
    assert ben.fleet.settings.publish()
    found = {device.name: device for device in anna.fleet.settings.running()}
    said = found["ben"].published
    assert said is not None
    assert said.digest == anna.fleet.settings.digest(ben.loaded.config, "")


def test_a_device_that_said_nothing_is_silent(world: World):
    anna, _ = world.devices("anna", "ben")
    anna.push()
    found = {device.name: device for device in anna.fleet.settings.running()}
    assert found["ben"].published is None
    assert found["ben"].problem == ""


@pytest.mark.parametrize("change", ["signature", "settings", "device_id", "format", "swap", "cut"])
def test_what_was_changed_by_the_store_does_not_count(world: World, change: str):
    anna, ben = world.devices("anna", "ben")
    anna.push()
    ben.pull()
    mine, other = (
        world.store_dir / f"{SETTINGS_PREFIX}{device.fleet.status().device_id}.json"
        for device in (anna, ben)
    )
    found = orjson.loads(mine.read_bytes())
    if change == "swap":
        mine.write_bytes(other.read_bytes())
    elif change == "cut":
        mine.write_bytes(mine.read_bytes()[:-9])
    else:
        found[change] = {
            "signature": "00" * 64,
            "settings": {},
            "device_id": ben.fleet.status().device_id,
            "format": 2,
        }[change]
        mine.write_bytes(orjson.dumps(found))
    named = {device.name: device for device in ben.fleet.settings.running()}
    assert named["anna"].published is None
    assert named["anna"].problem
    assert named["ben"].published is not None


def test_a_revoked_device_is_not_listed(world: World):
    anna, ben = world.devices("anna", "ben")
    ben.pull()
    anna.fleet.revoke("ben")
    assert [device.name for device in anna.fleet.settings.running()] == ["anna"]


def test_a_push_does_not_fail_with_it(world: World, caplog: pytest.LogCaptureFixture):
    [anna] = world.devices("anna")
    anna.fill({"a": "1"})
    anna.reopen(store=NoSettings(world.open_store()))
    with caplog.at_level(logging.WARNING):
        assert not anna.push().problems
    assert "digest was not published" in caplog.text
    assert published(world) == []
