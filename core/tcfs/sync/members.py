"""The members of the fleet, as people and programs name and see them."""

from __future__ import annotations

from tcfs.errors import NotFoundError, UsageError
from tcfs.model.access import DeviceRecord
from tcfs.sync.context import Context
from tcfs.sync.results import DeviceInfo


def find_device(context: Context, name_or_id: str) -> DeviceRecord:
    """The device that a user named.

    Raises:
        NotFoundError: there is none.
        UsageError: several have that name.
    """
    found = context.control.by_name(name_or_id)
    active = [device for device in found if not device.revoked]
    if not found:
        raise NotFoundError(
            f"no device is called {name_or_id!r}", remedy="See them with: tcfs device list"
        )
    if len(active) > 1:
        raise UsageError(
            f"{len(active)} devices are called {name_or_id!r}",
            remedy="Name it by its id; see: tcfs device list",
        )
    return active[0] if active else found[0]


def device_info(context: Context, device: DeviceRecord) -> DeviceInfo:
    """A device for people and programs."""
    head = context.state.history.heads(context.namespace).get(device.device_id)
    return DeviceInfo(
        device_id=device.device_id,
        name=device.name,
        role=device.role,
        revoked=device.revoked,
        enrolled_at=device.enrolled_at,
        this_device=device.device_id == context.identity.device_id,
        description=device.description,
        sign_key=device.sign_key.hex(),
        head=head.seq if head else 0,
    )
