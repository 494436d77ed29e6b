"""The members of the fleet, as people and programs name and see them."""

from __future__ import annotations

import hashlib

from tcfs.errors import NotFoundError, UsageError
from tcfs.model.access import Claim, DeviceRecord
from tcfs.sync.context import Context
from tcfs.sync.results import LIST_LIMIT, DeviceInfo, PendingDevice

_DOMAIN = b"tcfs device v1\0"
_GROUPS = 8
_NAMED = 5


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


def fingerprint(sign_key: bytes) -> str:
    """What people compare of a device's key: 128 bits of its SHA-256, in groups of four digits."""
    digits = hashlib.sha256(_DOMAIN + sign_key).hexdigest()
    return " ".join(digits[i : i + 4] for i in range(0, 4 * _GROUPS, 4))


def pending(context: Context) -> list[PendingDevice]:
    """The devices that wait to be admitted, as last read; those of one invite beside each other."""
    return [pending_device(context, one) for one in context.control.requests[:LIST_LIMIT]]


def pending_device(context: Context, request: Claim) -> PendingDevice:
    """A device that waits, for people and programs."""
    device = request.device
    uses = sum(r.invite_id == request.invite_id for r in context.control.requests)
    return PendingDevice(
        device_id=device.device_id,
        name=device.name,
        role=device.role,
        fingerprint=fingerprint(device.sign_key),
        invite_id=request.invite_id,
        claimed_at=request.claimed_at,
        rivals=uses - 1,
        this_device=device.sign_key == context.identity.public_key,
        description=device.description,
    )


def admission_warnings(context: Context) -> list[str]:
    """What this device's user is to know, and do, about devices that wait."""
    waiting = pending(context)
    found = [
        f"this device waits until an admin admits it. Its fingerprint: {device.fingerprint}. On "
        f"an admin's device: tcfs device admit {device.name}"
        for device in waiting
        if device.this_device
    ]
    own = context.device
    if own is None or own.revoked or own.role != "admin":
        return found
    by_invite: dict[str, list[PendingDevice]] = {}
    for device in waiting:
        by_invite.setdefault(device.invite_id, []).append(device)
    for devices in by_invite.values():
        named = "; ".join(f"{d.name}, fingerprint {d.fingerprint}" for d in devices[:_NAMED])
        if len(devices) == 1:
            found.append(
                f"a device waits to be admitted: {named}. If it is yours: tcfs device admit "
                f"{devices[0].name}"
            )
        else:
            found.append(
                f"{len(devices)} devices used one invite, and at most one of them is yours: "
                f"{named}. Compare with 'tcfs status' there, then: tcfs device admit FINGERPRINT"
            )
    return found
