"""Enrollment by passphrase: where an admin opened it, for so many devices and so long."""

from __future__ import annotations

import json

import pytest

from tcfs.errors import AccessError, UsageError
from tcfs.sync import session
from tests.sync.kit import Device, World, assert_same

WORDS = "correct horse battery"


def join(device: Device, passphrase: str = WORDS) -> None:
    session.enroll_fleet(device.loaded, name=device.name, passphrase=passphrase)


def test_devices_enroll_by_passphrase_until_its_uses_are_used_up(world: World) -> None:
    anna = world.device("anna")
    anna.fill({"a": "1"})
    anna.push()
    ben, cara, dora = (world.device(n, join=False) for n in ("ben", "cara", "dora"))
    with pytest.raises(AccessError, match="does not let devices enroll"):
        join(ben)
    anna.fleet.access.open_enrollment(WORDS, uses=2)
    with pytest.raises(AccessError, match="not that of this repository"):
        join(ben, "correct horse batterx")
    join(ben)
    join(cara)
    with pytest.raises(AccessError, match="used up"):
        join(dora)
    for device in (ben, cara):
        device.pull()
        assert_same(device.tree, anna.tree)
    assert {d.name for d in anna.fleet.devices()} == {"anna", "ben", "cara"}


def test_an_enrollment_ends_with_its_time_and_with_the_next_change_of_keys(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    cara = world.device("cara", join=False)
    anna.fleet.access.open_enrollment(WORDS, uses=2, expires_s=3600)
    anna.fleet.revoke("ben")
    with pytest.raises(AccessError, match="keys were changed"):
        join(cara)
    assert ben.name not in {d.name for d in anna.fleet.devices() if not d.revoked}


def test_only_admins_open_it_and_no_weak_passphrase_is_taken(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    with pytest.raises(AccessError):
        ben.fleet.access.open_enrollment(WORDS)
    with pytest.raises(UsageError, match="at least 8"):
        anna.fleet.access.open_enrollment("short")
    with pytest.raises(UsageError):
        anna.fleet.access.open_enrollment(WORDS, uses=0)
    assert world.objects("enroll") == []


def test_the_store_sees_no_passphrase_and_cannot_make_a_joining_device_work_for_hours(
    world: World,
) -> None:
    anna = world.device("anna")
    ben = world.device("ben", join=False)
    anna.fleet.access.open_enrollment(WORDS)
    (pool,) = world.objects("enroll")
    assert WORDS not in pool.read_text()
    assert "tcfs-invite" not in pool.read_text()
    found = json.loads(pool.read_text())
    assert (found["memory_kib"], found["passes"], found["lanes"]) == (65536, 3, 4)
    pool.write_text(json.dumps(found | {"passes": 1 << 30}))
    with pytest.raises(AccessError, match="passphrase is not that"):
        join(ben)
