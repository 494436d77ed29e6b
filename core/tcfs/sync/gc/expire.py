"""Going on without a device that is away: a revocation that distrusts nobody."""

from __future__ import annotations

from tcfs.device.change import require_admin
from tcfs.errors import UsageError
from tcfs.ledger.control import revoke_event
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, NamespaceId
from tcfs.sync.context import Context
from tcfs.sync.gc.marks import publish_upkeep
from tcfs.sync.members import device_info, find_device
from tcfs.sync.receive import receive
from tcfs.sync.results import DeviceInfo


def expire(context: Context, name_or_id: str) -> DeviceInfo:
    """Wait no longer for a device. What it wrote until now counts, and nothing after.

    No key changes: it was trusted, and may come back with an invite. Its files stay on its disk,
    local edits included, and are compared by content when it has joined again.

    Raises:
        AccessError: this device is no admin.
        NotFoundError, UsageError: which device is not clear, or it is this one.
    """
    cut: dict[NamespaceId, ChainHead] = {}
    receive(context, context.namespace)
    require_admin(context.view, context.identity.device_id)
    device = find_device(context, name_or_id)
    if device.revoked:
        return device_info(context, device)
    if device.device_id == context.identity.device_id:
        raise UsageError("a device cannot expire itself", remedy="Do it on another admin device.")
    for namespace in context.control.epochs:
        receive(context, namespace)
        head = context.state.history.heads(namespace).get(device.device_id)
        if head is not None:
            cut[namespace] = head
    control = context.control_heads.get(device.device_id)
    if control is not None:
        cut[CONTROL] = control
    event = revoke_event(device.device_id, cut, "it was away", expired=True)
    publish_upkeep(context, [event])
    return device_info(context, context.control.devices[device.device_id])
