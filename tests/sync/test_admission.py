"""Invites that wait for an admin, on stores that keep no conditional writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcfs.errors import AccessError, NotFoundError, UsageError
from tcfs.model.ids import CONTROL, DEFAULT_NAMESPACE, StoreKey
from tcfs.secrets.chain import FILER_KEY
from tcfs.secrets.sources import format_credentials
from tcfs.service.servers.weed import WeedServer
from tcfs.store.base import ALWAYS, BlobStore, Condition, ETag, ObjectInfo
from tcfs.store.wrappers.forward import ForwardingStore
from tcfs.sync import session
from tcfs.sync.results import InitResult
from tests.servers import unique
from tests.sync.careless import Fleet
from tests.sync.kit import Device, World, assert_same


@pytest.fixture
def fleet(world: World) -> Fleet:
    return Fleet(world)


def told(device: Device) -> list[str]:
    return [one for one in device.fleet.status().warnings if "wait" in one or "one invite" in one]


def test_a_device_waits_and_reads_nothing_until_an_admin_admits_it(fleet: Fleet):
    anna = fleet.first()
    anna.fill({"a": "1"})
    anna.push()
    invite = anna.fleet.invite()
    assert invite.admit
    ben, asked = fleet.asks("ben", invite.code)
    assert asked.waiting
    assert any("device admit ben" in message for message in asked.messages)
    # Nothing of the fleet's is sealed to it, or to the invite.
    keys = [path.name for path in fleet.world.objects("keys")]
    assert not [n for n in keys if n.startswith((asked.device_id, invite.invite_id))]
    ben.fill({"b": "2"})
    for attempt in (ben.push, ben.pull):
        with pytest.raises(AccessError, match="waits until an admin admits it"):
            attempt()
    assert ben.contents() == {"b": b"2"}
    (mine,), (hers,) = told(ben), told(anna)
    assert asked.fingerprint in mine
    assert asked.fingerprint in hers
    assert "tcfs device admit ben" in mine
    assert "tcfs device admit ben" in hers
    (waiting,) = anna.fleet.access.pending()
    assert (waiting.name, waiting.fingerprint, waiting.rivals, waiting.this_device) == (
        "ben",
        asked.fingerprint,
        0,
        False,
    )
    assert [device.name for device in anna.fleet.devices()] == ["anna"]

    assert anna.fleet.access.admit("ben").name == "ben"
    ben.sync()
    anna.pull()
    assert_same(anna.tree, ben.tree)
    assert ben.contents() == {"a": b"1", "b": b"2"}
    assert told(anna) == told(ben) == []
    assert anna.fleet.access.pending() == []
    with pytest.raises(NotFoundError, match="waits to be admitted"):
        anna.fleet.access.admit("ben")


def test_asking_again_asks_once(fleet: Fleet):
    anna = fleet.first()
    code = anna.fleet.invite().code
    ben, _ = fleet.asks("ben", code)
    (ben.home / "identity" / "repository.json").unlink()  # it crashed before it was bound
    ben.close()
    again = session.enroll_fleet(ben.loaded, name="ben", invite=code, store=ben.store)
    assert again.waiting
    assert len(fleet.world.objects("claims")) == 1
    anna.fleet.access.admit("ben")
    (ben.home / "identity" / "repository.json").unlink()
    assert not session.enroll_fleet(ben.loaded, name="ben", invite=code, store=ben.store).waiting


def test_two_that_use_one_invite_are_shown_as_two_and_one_alone_gets_in(fleet: Fleet):
    anna = fleet.first()
    code = anna.fleet.invite().code
    made: dict[str, tuple[Device, InitResult]] = {}

    def ask(called: str) -> None:
        made[called] = fleet.asks("ben", code, called=called)

    racers = [threading.Thread(target=ask, args=(called,)) for called in ("ben", "thief")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    (ben, asked), (thief, other) = made["ben"], made["thief"]
    pending = anna.fleet.access.pending()
    assert {p.fingerprint for p in pending} == {asked.fingerprint, other.fingerprint}
    assert [p.rivals for p in pending] == [1, 1]
    (warning,) = told(anna)
    assert warning.startswith("2 devices used one invite")
    assert asked.fingerprint in warning
    assert other.fingerprint in warning
    with pytest.raises(UsageError, match="2 devices can be meant"):
        anna.fleet.access.admit("ben")
    assert [device.name for device in anna.fleet.devices()] == ["anna"]

    anna.fleet.access.admit(asked.fingerprint[:14])
    assert anna.fleet.access.pending() == []
    with pytest.raises(NotFoundError):
        anna.fleet.access.admit(other.fingerprint)
    assert [d.device_id for d in anna.fleet.devices()][1:] == [asked.device_id]
    ben.fill({"b": "2"})
    ben.push()
    with pytest.raises(AccessError, match="not a member"):
        thief.push()
    assert not [p for p in fleet.world.objects("keys") if other.device_id in p.name]


def test_a_name_alone_is_not_enough_where_another_used_the_same_invite(fleet: Fleet):
    anna = fleet.first()
    code = anna.fleet.invite().code
    fleet.asks("ben", code)
    _, other = fleet.asks("bent", code)
    with pytest.raises(UsageError, match="at most one of them is yours"):
        anna.fleet.access.admit("ben")
    assert anna.fleet.access.admit(other.fingerprint).name == "bent"


def test_only_admins_admit(fleet: Fleet):
    anna = fleet.first()
    ben, _ = fleet.asks("ben", anna.fleet.invite().code)
    anna.fleet.access.admit("ben")
    cara, _ = fleet.asks("cara", anna.fleet.invite().code)
    with pytest.raises(AccessError, match="not an admin"):
        ben.fleet.access.admit("cara")
    with pytest.raises(AccessError):
        cara.fleet.access.admit("cara")
    assert told(ben) == []


def test_of_two_that_two_admins_admit_at_once_the_first_stays_and_the_keys_change(fleet: Fleet):
    anna = fleet.first()
    anna.fill({"a": "1"})
    anna.push()
    bea, _ = fleet.asks("bea", anna.fleet.invite(role="admin").code)
    anna.fleet.access.admit("bea")
    bea.pull()
    code = anna.fleet.invite().code
    one, first = fleet.asks("one", code)
    two, second = fleet.asks("two", code)
    held: list[Held] = []
    # Both admins decide before either sees the other's word: it is held back on its way.
    for admin, print_ in ((anna, first.fingerprint), (bea, second.fingerprint)):
        admin.fleet.access.pending()
        held.append(Held(admin.store))
        admin.fleet._context.store = held[-1]
        admin.fleet.access.admit(print_)
    for one_held in held:
        one_held.let_go()
    members = {}
    for admin in (anna, bea):
        members[admin.name] = {d.name for d in admin.fleet.devices()}
    assert members["anna"] == members["bea"]
    assert len(members["anna"] & {"one", "two"}) == 1
    out, inside = (two, one) if "one" in members["anna"] else (one, two)
    epochs = len(anna.fleet._context.control.epochs[DEFAULT_NAMESPACE])
    anna.fill({"a": "after"})
    anna.push()
    assert len(anna.fleet._context.control.epochs[DEFAULT_NAMESPACE]) == epochs + 1
    with pytest.raises(AccessError, match="not a member"):
        out.push()
    assert inside.pull().problems == ()
    assert inside.read("a") == b"after"


class Held(ForwardingStore):
    """Keeps control segments back until it lets go; its own device sees them."""

    def __init__(self, inner: BlobStore | None) -> None:
        assert inner is not None
        super().__init__(inner)
        self._held: dict[StoreKey, bytes] = {}
        self._holds = True

    def put(
        self, key: StoreKey, data: bytes | bytearray | memoryview, condition: Condition = ALWAYS
    ) -> ETag:
        if self._holds and key.startswith(f"ledger/{CONTROL}/"):
            self._held[key] = bytes(data)
            return ETag("held")
        return self.inner.put(key, data, condition)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        yield from self.inner.list(prefix, after)
        for key, data in self._held.items():
            if key.startswith(prefix):
                yield ObjectInfo(key, len(data), ETag("held"))

    def get(self, key: StoreKey) -> bytes:
        return self._held[key] if key in self._held else self.inner.get(key)

    def let_go(self) -> None:
        self._holds = False
        for key, data in self._held.items():
            self.inner.put(key, data)
        self._held.clear()


def test_what_waits_ends_with_a_change_of_keys(fleet: Fleet):
    anna = fleet.first()
    fleet.asks("cara", anna.fleet.invite().code)
    anna.fleet.access.admit("cara")
    ben, _ = fleet.asks("ben", anna.fleet.invite().code)
    anna.fleet.revoke("cara")
    assert anna.fleet.access.pending() == []
    with pytest.raises(AccessError, match="not a member") as caught:
        ben.pull()
    assert "--new-identity" in caught.value.remedy


def test_a_passphrase_lets_several_devices_ask_each_with_an_invite_of_its_own(fleet: Fleet):
    anna = fleet.first()
    anna.fleet.access.open_enrollment("correct horse battery", uses=3)
    for name in ("ben", "cara", "dora"):
        device = fleet.world.device(name, join=False)
        device.store = fleet.store()
        done = session.enroll_fleet(
            device.loaded, name=name, passphrase="correct horse battery", store=device.store
        )
        assert done.waiting
    assert [p.rivals for p in anna.fleet.access.pending()] == [0, 0, 0]
    for name in ("ben", "cara", "dora"):
        anna.fleet.access.admit(name)
    assert {d.name for d in anna.fleet.devices()} == {"anna", "ben", "cara", "dora"}


def test_an_invite_for_a_store_that_keeps_conditions_is_not_used_where_none_are_kept(
    world: World,
):
    anna = world.device("anna")
    invite = anna.fleet.invite()
    assert not invite.admit
    ben = world.device("ben", join=False)
    ben.store = Fleet(world).store()
    with pytest.raises(AccessError, match="keeps conditional writes"):
        session.enroll_fleet(ben.loaded, name="ben", invite=invite.code, store=ben.store)
    assert world.objects("claims") == []


def test_on_the_real_filer_a_device_waits_and_is_let_in(weed_server: WeedServer, tmp_path: Path):
    world = World(tmp_path)
    credentials = tmp_path / "credentials"
    credentials.write_text(format_credentials({FILER_KEY: weed_server.filer_key}))
    credentials.chmod(0o600)
    place = weed_server.filer_endpoint.replace("http:", "seaweedfs:")
    world.endpoint = f"{place}/{unique('waits')}"
    settings: dict[str, Any] = {"TCFS_STORAGE_CREDENTIALS_FILE": str(credentials)}
    anna = world.device("anna", **settings)
    anna.fill({"a": "1"})
    anna.push()
    assert any("no conditional writes" in one for one in anna.fleet.status().warnings)
    code = anna.fleet.invite().code
    ben, thief = (world.device(name, join=False, **settings) for name in ("ben", "thief"))
    asked = session.enroll_fleet(ben.loaded, name="ben", invite=code)
    session.enroll_fleet(thief.loaded, name="thief", invite=code)
    assert [p.rivals for p in anna.fleet.access.pending()] == [1, 1]
    anna.fleet.access.admit(asked.fingerprint)
    ben.pull()
    assert ben.contents() == {"a": b"1"}
    with pytest.raises(AccessError):
        thief.pull()
    world.close()
