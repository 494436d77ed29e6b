"""Helpers for tests of garbage collection."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tcfs.host.faults import FaultPlan, Moment, Operation, SimulatedCrash
from tcfs.store.wrappers.fault import FaultStore
from tcfs.sync.gc.results import GcResult
from tests.sync.kit import Device, World

SIZE = 300 << 10
"""Bytes that do not fit into a segment, so that a pack of its own holds them."""


def noise(seed: int, size: int = SIZE) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def packs(world: World) -> set[str]:
    """The ids of the packs in the store."""
    return {path.name for path in world.objects("packs")}


def crash_on(device: Device, name: str, prefix: str, moment: Moment, nth: int = 1) -> None:
    """Let the device's process end at the nth operation on keys that begin so."""
    count = 0

    def hook(operation: Operation, reached: Moment) -> None:
        nonlocal count
        target = str(operation.target)
        if operation.name == name and reached == moment and target.startswith(prefix):
            count += 1
            if count == nth:
                raise SimulatedCrash

    device.reopen(store=FaultStore(device.world.open_store(), FaultPlan(hook)))


def leave_orphan(device: Device, name: str = "lost", seed: int = 99) -> str:
    """A push that dies when its pack is in the store, and a later one without that file."""
    before = packs(device.world)
    device.fill({name: noise(seed)})
    crash_on(device, "put", "packs/", "after")
    try:
        device.push()
    except SimulatedCrash:
        pass
    else:
        raise AssertionError("the push did not die")
    device.reopen()
    device.remove(name)
    device.fill({f"after-{name}": b"small"})
    device.push()
    (orphan,) = packs(device.world) - before
    return orphan


def settle(devices: Iterable[Device]) -> None:
    """Everybody pulls, and so acknowledges."""
    for device in devices:
        device.pull()


def collect(device: Device, *, dry_run: bool = False, plan: str = "") -> GcResult:
    """A collection."""
    return device.fleet.gc.run(dry_run=dry_run, plan=plan)


def check_clean(*devices: Device) -> None:
    """Everything verifies, down to the last byte, on every device, also from nothing."""
    for device in devices:
        report = device.fleet.verify(read_data=True, local=True)
        assert report.ok, report.problems
