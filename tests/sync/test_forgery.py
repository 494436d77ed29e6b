"""What a store that is against its users can try: each is refused, with its own error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tcfs.errors import AccessError, IntegrityError, TcfsError
from tcfs.ledger.control import load_control
from tcfs.model.ids import NamespaceId
from tcfs.sync import session
from tests.sync.kit import Device, World, assert_same


def head_of(device: Device) -> str:
    return device.fleet._context.identity.device_id


def finding_kinds(device: Device) -> set[str]:
    return {f.kind for f in device.fleet._context.state.findings.all()}


def test_an_old_head_is_noticed_by_a_device_that_saw_a_newer_one(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a": "1"})
    anna.push()
    old = world.top / "old"
    shutil.copytree(world.store_dir, old)
    anna.fill({"a": "2"})
    anna.push()
    ben.pull()
    shutil.rmtree(world.store_dir)
    shutil.copytree(old, world.store_dir)
    result = ben.pull()
    assert "rollback" in finding_kinds(ben)
    assert any("no longer has" in p.message for p in result.problems)
    assert ben.read("a") == b"2", "nothing is unlearned"
    anna.fill({"a": "3"})
    with pytest.raises(IntegrityError):  # its own chain is not what it was
        anna.push()


def test_a_segment_that_is_replayed_at_another_place_is_none(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    for n in range(2):
        anna.fill({"a": f"{n}"})
        anna.push()
    first, second = world.objects(f"ledger/default/{head_of(anna)}")
    digest = first.name.partition("-")[2]
    for target in (
        second.with_name(f"0000000003-{digest}"),
        world.store_dir / "ledger" / "default" / head_of(ben) / f"0000000001-{digest}",
    ):
        target.parent.mkdir(exist_ok=True)
        shutil.copy(first, target)
    ben.pull()
    assert ben.read("a") == b"1"
    assert finding_kinds(ben) & {"damaged", "stray", "refused"}


def test_packs_that_are_swapped_are_told_apart(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    # More than travels inside a segment: a pack of its own each.
    import random

    source = random.Random(1)
    for name in ("one", "two"):
        anna.fill({name: source.randbytes(400_000)})
        anna.push()
    packs = world.objects("packs")
    assert len(packs) == 2
    first, second = (pack.read_bytes() for pack in packs)
    packs[0].write_bytes(second)
    packs[1].write_bytes(first)
    result = ben.pull()
    assert {p.code for p in result.problems} == {"integrity"}
    assert ben.contents() == {}
    assert not ben.fleet.verify(read_data=True).ok


def test_a_forged_registry_is_a_view_that_nobody_believes(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    registry = world.store_dir / "tcfs-meta" / "devices.json"
    forged = json.loads(registry.read_text())
    for entry in forged["devices"]:
        entry |= {"revoked": entry["name"] == "anna", "public_key": "age1forged", "name": "eve"}
    registry.write_text(json.dumps(forged))
    anna.fill({"a": "1"})
    anna.push()
    ben.pull()
    assert ben.read("a") == b"1"
    assert {d.name for d in ben.fleet.devices()} == {"anna", "ben"}
    anna.fleet.invite()
    assert {d["name"] for d in json.loads(registry.read_text())["devices"]} == {"anna", "ben"}


def test_an_invite_that_was_used_or_has_expired_is_refused_as_such(world: World) -> None:
    anna = world.device("anna")
    code = anna.fleet.invite().code
    cara, dora = (world.device(n, join=False) for n in ("cara", "dora"))
    session.enroll_fleet(cara.loaded, name="cara", invite=code)
    with pytest.raises(AccessError, match="already used, by 'cara'"):
        session.enroll_fleet(dora.loaded, name="dora", invite=code)
    late = anna.fleet.invite(expires_s=1).code

    class Later:
        def now(self) -> float:
            return 4e9

    from msgspec.structs import replace

    from tcfs.host.system import system_host

    host = replace(system_host(), clock=_clock(Later()))
    with pytest.raises(AccessError, match="expired"):
        session.enroll_fleet(dora.loaded, name="dora", invite=late, host=host)


def _clock(now):
    from tcfs.host.system import SystemClock

    made = SystemClock()

    class Shifted:
        def now(self) -> float:
            return now.now()

        def monotonic(self) -> float:
            return made.monotonic()

        def sleep(self, seconds: float) -> None:
            made.sleep(seconds)

    return Shifted()


KINDS: dict[str, Callable[[World], list[Path]]] = {
    "format.json": lambda w: w.objects("format.json") or [w.store_dir / "format.json"],
    "control segment": lambda w: w.objects("ledger/_control"),
    "segment": lambda w: w.objects("ledger/default"),
    "sealed keys": lambda w: [p for p in w.objects("keys") if head_of(w._devices[1]) in p.name],
    "claim": lambda w: w.objects("claims"),
    "pack": lambda w: w.objects("packs"),
    "enrollment": lambda w: w.objects("enroll"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_of_any_kind_of_object_is_detected_and_named(
    world: World, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every byte is changed in the tests of each format; here the whole way, where it matters."""
    import random

    anna = world.device("anna")
    ben = world.device("ben")
    anna.fill({"small": "s", "large": random.Random(1).randbytes(300_000)})
    anna.push()
    if kind == "enrollment":
        anna.fleet.access.open_enrollment("correct horse battery", uses=1)
    target = KINDS[kind](world)[0]
    good = target.read_bytes()
    identity, repo = head_of(ben), ben.fleet._context.format
    places = sorted({0, 1, len(good) // 3, len(good) // 2, len(good) - 2, len(good) - 1})
    undetected = []
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 0x20
        target.write_bytes(bad)
        if not _noticed(world, kind, identity, repo):
            undetected.append(at)
    assert undetected == []
    target.write_bytes(good)
    ben.pull()
    assert_same(anna.tree, ben.tree)


def _noticed(world: World, kind: str, identity: str, repo) -> bool:
    """Whether a device that begins now refuses what it is shown."""
    from tcfs.device.format import load_format
    from tcfs.device.pool import _open

    ben = next(d for d in world._devices if d.name == "ben")
    store = world.open_store()
    try:
        if kind == "format.json":
            load_format(store, repo.hash)
            return False
        if kind == "enrollment":
            (pool,) = world.objects("enroll")
            _open(pool.read_bytes(), "correct horse battery")
            return False
        if kind in ("control segment", "claim"):
            view = load_control(store, repo=repo.repo, root_key=repo.root_public_key)
            return bool(view.findings)
        if kind == "sealed keys":
            context = ben.fleet._context
            context.forget_keys()
            return not context.keys(NamespaceId("default")).epochs
        return not ben.fleet.verify(read_data=True).ok
    except TcfsError:
        return True
    finally:
        store.close()
