"""Whoever was revoked or expired comes back as a new device, with the files it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.ledger.keys import chain_prefix, parse_key
from tcfs.model.abridged import as_told
from tcfs.sync.chains import opener
from tests.sim.fleet import NAMES, Device

if TYPE_CHECKING:
    from tests.sim.world import World


def readmit(world: World) -> None:
    """Let everybody in again. Raises Violation."""
    admin = world.devices[NAMES[0]]
    members = {info.device_id: info for info in world.quietly(admin, "devices")}
    for device in world.devices.values():
        info = members.get(device.identity.device_id)
        if info is None or not info.revoked:
            continue
        world.model.anything_goes()
        # What it pushed past the cut was never part of the fleet's history.
        world.model.forgive(device.name, _sent_past_the_cut(world, device))
        role = "admin" if device.name in world.admins else "writer"
        device.enroll(world.quietly(admin, "invite", role))


def _sent_past_the_cut(world: World, device: Device) -> set[bytes]:
    """Hashes of what a device wrote when the fleet had gone on without it."""
    context = world.devices[NAMES[0]].open()._context
    namespace, identity = context.namespace, device.identity.device_id
    cut = (context.control.devices[identity].cut or {}).get(namespace)
    return {
        event.manifest.file_hash
        for key, (data, _) in list(world.bucket.objects.items())
        if key.startswith(chain_prefix(namespace, identity))
        and parse_key(key).seq > (cut.seq if cut is not None else 0)
        for event in map(as_told, opener(context, namespace)(key, data).events)
    }
