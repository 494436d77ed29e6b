"""``tcfs-meta/devices.json``: the fleet's devices for people and tools.

A view of the control ledger in upstream's shape, rebuilt from it on every change and never a
source of trust. Its one fact of its own is ``last_nats_seq``, which is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from blake3 import blake3

from tcfs.errors import StoreError
from tcfs.model.access import ControlState, DeviceRecord
from tcfs.model.ids import StoreKey
from tcfs.store.base import IF_ABSENT, BlobStore, Condition, ObjectMissing, PreconditionFailed

REGISTRY_KEY: Final = StoreKey("tcfs-meta/devices.json")

_ATTEMPTS = 50


def registry_json(state: ControlState, existing: bytes | None = None) -> bytes:
    """The registry's bytes: every device, revoked ones included, by name and id."""
    sequences = _sequences(existing)
    records = sorted(state.devices.values(), key=lambda device: (device.name, device.device_id))
    devices = [_entry(record, sequences.get(record.device_id, 0)) for record in records]
    return orjson.dumps({"devices": devices}, option=orjson.OPT_INDENT_2)


def update_registry(store: BlobStore, load_state: Callable[[], ControlState]) -> None:
    """Bring the registry up to date, whoever else does so at the same time.

    Args:
        load_state: reads the control state anew; called after the registry's version was read, so
            that whatever replaces that version knows at least as much.

    Raises:
        StoreError: the store failed, or others kept changing the registry. Nothing depends on it:
            the next change of the fleet writes it again.
    """
    for _ in range(_ATTEMPTS):
        info = store.head(REGISTRY_KEY)
        try:
            existing = store.get(REGISTRY_KEY) if info else None
        except ObjectMissing:
            continue
        wanted = registry_json(load_state(), existing)
        if wanted == existing:
            return
        try:
            store.put(REGISTRY_KEY, wanted, Condition(if_match=info.etag) if info else IF_ABSENT)
        except PreconditionFailed:
            continue
        return
    raise StoreError(f"{REGISTRY_KEY} keeps changing under us", remedy="Run the command again.")


def _entry(record: DeviceRecord, last_nats_seq: int) -> dict[str, Any]:
    return {
        "name": record.name,
        "device_id": record.device_id,
        "public_key": record.recipient,
        "signing_key_hash": blake3(record.sign_key).hexdigest(),
        "description": record.description,
        "enrolled_at": record.enrolled_at,
        "revoked": record.revoked,
        "last_nats_seq": last_nats_seq,
    }


def _sequences(existing: bytes | None) -> dict[str, int]:
    """Each device's ``last_nats_seq``; a registry that cannot be read holds none."""
    try:
        devices = orjson.loads(existing or b"{}").get("devices", [])
        return {
            device["device_id"]: device["last_nats_seq"]
            for device in devices
            if type(device["last_nats_seq"]) is int
        }
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}
