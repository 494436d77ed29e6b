"""One identity in two machines: a disk that was cloned, and both copies at work.

Each writes after the same segment, and the chain forks. That must be noticed, by both of them and
by all others, whatever they had taken up before, if the fork is not too far behind; the chain ends
for good; and when both have joined anew, everything is still there that was on a disk of either.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tcfs.errors import AccessError, IdentityError
from tcfs.ledger.keys import chain_prefix, parse_key
from tcfs.model.ids import DeviceId
from tests.sim.fleet import NAMES, Device
from tests.sim.model import Violation

if TYPE_CHECKING:
    from tests.sim.world import World

TWIN: Final = ".twin"
NEAR: Final = 32
"""How far behind the head of a chain, in segments, a fork must be noticed."""


def clone(world: World, name: str) -> None:
    """A device's disk begins to work in a second machine, too. Admins are not cloned."""
    device = world.devices.get(name)
    if device is None or device.running or device.reader or name in world.admins:
        return
    if name.endswith(TWIN) or name + TWIN in world.devices:
        return
    world.devices[name + TWIN] = device.clone(world.machine(name + TWIN, name))
    world.model.anything_goes()


def part_clones(world: World) -> None:
    """Whoever shares an identity finds out, is revoked, and is to join anew.

    Raises:
        Violation: one of them, or somebody else, does not notice.
    """
    for name, twin in list(world.devices.items()):
        if not name.endswith(TWIN):
            continue
        device = world.devices[name.removesuffix(TWIN)]
        if device.identity is twin.identity:
            _part(world, device, twin)


def _part(world: World, device: Device, twin: Device) -> None:
    world.model.anything_goes()
    told = {}
    for one in (device, twin, device):
        told[one.name] = world.alone(one, "sync").error
    noticed = [isinstance(error, IdentityError) for error in told.values()]
    revoked = any(isinstance(error, AccessError) for error in told.values())
    if not revoked and not any(noticed) and (_continued(world, device) or _continued(world, twin)):
        raise Violation(f"neither machine notices that another has its identity: {told}")
    for one in world.devices.values():
        if one.reader:
            one.alone = one.alone or "a reader may hold what the revocation takes back"
    identity = device.identity.device_id
    first = min((seq for seq, count in _seqs(world, device).items() if count > 1), default=0)
    for one in (device, twin):
        stopped = isinstance(told[one.name], IdentityError | AccessError)
        if first and not stopped and _is_near(one, identity, first):
            raise Violation(f"{one.name} does not notice that its chain forks at {first}: {told}")
    for other in world.devices.values():
        if not first or other.identity.device_id == identity:
            continue
        error = world.alone(other, "sync").error
        if isinstance(error, AccessError) or (
            isinstance(error, IdentityError) and _twins(world, other)
        ):
            continue  # It was revoked, expired or cloned itself, and has yet to join anew.
        world.quietly(other, "sync")
        record = other.open()._context.control.devices.get(identity)
        if record is not None and record.revoked:
            continue  # It was let go before: that says which branch stands, and there is no more.
        findings = other.open()._context.state.findings.all()
        if _is_near(other, identity, first) and not any(
            found.kind == "fork" and found.device == identity for found in findings
        ):
            raise Violation(f"{other.name} does not notice that the chain of {identity} forks")
    if first:
        # What both replaced themselves since may be in no history that counts.
        world.model.forgive_contents(
            {
                version.manifest.file_hash
                for one in world.devices.values()
                for version in one.history()
                if version.id.device == identity and version.seq >= first
            }
        )
    for one in (device, twin):
        for path, entry in one.snapshot().items():
            if entry.kind == "file":
                world.model.owe(entry.data, f"{one.name} had it at {path!r} when it was frozen")
    world.quietly(world.devices[NAMES[0]], "revoke", identity)


def _twins(world: World, device: Device) -> bool:
    """Whether another machine has the same identity."""
    return any(
        one is not device and one.identity is device.identity for one in world.devices.values()
    )


def _is_near(device: Device, identity: DeviceId, seq: int) -> bool:
    """Whether a chain as a device knows it ends so near to this seq that it must look there."""
    context = device.open()._context
    head = context.state.history.heads(context.namespace).get(identity)
    return head is None or head.seq - seq <= NEAR


def _seqs(world: World, device: Device) -> Counter[int]:
    prefix = chain_prefix(device.open()._context.namespace, device.identity.device_id)
    return Counter(parse_key(key).seq for key in world.bucket.objects if key.startswith(prefix))


def _continued(world: World, device: Device) -> bool:
    """Whether the store has segments of this identity that this device did not write."""
    context = device.open()._context
    seqs = _seqs(world, device)
    head = context.state.history.heads(context.namespace).get(device.identity.device_id)
    return max(seqs.values(), default=0) > 1 or max(seqs, default=0) > (head.seq if head else 0)
