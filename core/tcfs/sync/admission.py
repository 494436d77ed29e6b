"""Admitting devices, where a store cannot say which of two used an invite first.

There an invite's claims only ask (``Invite.admit``). What decides is an admin's signed ``admit``;
what an admin goes by is the fingerprint of the device's key, which both sides show.
"""

from __future__ import annotations

from tcfs.device.change import prepare, require_admin
from tcfs.device.epochs import NamespaceKeys, SealedObject, seal
from tcfs.errors import NotFoundError, UsageError
from tcfs.ledger.control import admit_event
from tcfs.model.access import Claim, DeviceRecord
from tcfs.sync.context import Context
from tcfs.sync.control import publish_change, renew
from tcfs.sync.members import device_info, fingerprint
from tcfs.sync.receive import refresh_control, settle_outbox
from tcfs.sync.results import DeviceInfo

_SHORTEST = 8
"""Hex digits of a fingerprint that are taken for one, rather than for a name."""


def admit(context: Context, device: str) -> DeviceInfo:
    """Let a device in that waits, and give it the keys. The others of its invite stay out.

    Args:
        device: its name, its id, or the beginning of its fingerprint; of several that used one
            invite the fingerprint alone will do.

    Raises:
        AccessError: this device is no admin.
        NotFoundError: no such device waits.
        UsageError: which one is meant is not clear.
    """
    refresh_control(context)
    settle_outbox(context)
    require_admin(context.view, context.identity.device_id)
    renew(context)
    request = find_request(context, device)
    record = request.device
    change = prepare(
        context.view,
        context.format,
        context.identity,
        [admit_event(record, request.invite_id)],
        _sealed(context, record),
        entropy=context.host.entropy,
        now=context.host.clock.now(),
    )
    publish_change(context, change)
    known = context.control.devices.get(record.device_id)
    if known is None or known.sign_key != record.sign_key:
        raise UsageError(
            f"{record.name!r} was not admitted: another admin let a different device in with the "
            "same invite",
            remedy="See who belongs to the fleet with: tcfs device list",
        )
    return device_info(context, known)


def find_request(context: Context, device: str) -> Claim:
    """The request that an admin means; raises as ``admit``."""
    digits = "".join(device.split()).lower()
    found: list[Claim] = []
    by_print = False
    for request in context.control.requests:
        record = request.device
        own = fingerprint(record.sign_key).replace(" ", "")
        if len(digits) >= _SHORTEST and own.startswith(digits):
            found, by_print = ([*found, request] if by_print else [request]), True
        elif not by_print and device in (record.name, record.device_id):
            found.append(request)
    if not found:
        raise NotFoundError(
            f"no device called {device!r} waits to be admitted",
            remedy="See those that wait with: tcfs device list",
        )
    of_invite = [r for r in context.control.requests if r.invite_id == found[0].invite_id]
    if len(found) > 1 or (len(of_invite) > 1 and not by_print):
        several = found if len(found) > 1 else of_invite
        prints = "; ".join(f"{r.device.name}: {fingerprint(r.device.sign_key)}" for r in several)
        raise UsageError(
            f"{len(several)} devices can be meant, and at most one of them is yours: {prints}",
            remedy="Compare with what 'tcfs status' shows on that device, and name it by its "
            "fingerprint.",
        )
    return found[0]


def _sealed(context: Context, device: DeviceRecord) -> list[SealedObject]:
    """The current epochs of the namespaces that the device is to read, sealed to it."""
    if not context.format.encryption:
        return []
    found: list[SealedObject] = []
    for namespace in sorted(context.control.epochs):
        own: NamespaceKeys = context.keys(namespace)
        readable = context.control.rules.now(namespace).may_read_somewhere(device.device_id)
        if readable and own.holds_current(context.control):
            secrets = own.secrets(context.control)
            found.append(seal(context.repo, secrets, device.device_id, device.recipient))
    return found
