"""Whoever was revoked or expired comes back as a new device, with the files it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.model.ids import CONTROL
from tests.sim.fleet import NAMES

if TYPE_CHECKING:
    from tests.sim.world import World


def decisions_arrive(world: World) -> None:
    """What an admin decided, and could not send, is sent: nobody knows of it before."""
    for name in world.admins:
        device = world.devices[name]
        if any(entry.namespace == CONTROL for entry in device.open()._context.state.outbox.all()):
            world.alone(device, "sync")


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
        world.model.forgive(device.name)
        role = "admin" if device.name in world.admins else "writer"
        device.enroll(world.quietly(admin, "invite", role))
