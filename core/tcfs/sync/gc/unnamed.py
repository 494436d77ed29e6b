"""Objects of snapshots that nobody named: what the taking of one leaves that was cut off.

What they are called says nothing of who put them, and another admin may be about to name them. So
they go as packs do: they are marked, and deleted when every active device has signed that it had
seen the mark, if no snapshot names them then. A device signs nothing between the first object of a
snapshot that it puts and the event that names them all; so one that had seen the mark has named
what it was about to, or never will.
"""

from __future__ import annotations

from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.snapshot import decode_head, object_key, open_object
from tcfs.model.ids import NamespaceId, PackId, StoreKey
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.gc.loading import scope_of

SNAPSHOTS = "snapshots/"


def list_snapshots(context: Context) -> dict[StoreKey, int]:
    """Every object of a snapshot in the store with its size.

    Raises:
        StoreError: the listing failed.
    """
    return {info.key: info.size for info in context.store.list(SNAPSHOTS)}


def unnamed(
    context: Context, namespace: NamespaceId, listed: dict[StoreKey, int]
) -> dict[PackId, int]:
    """Those of a namespace that no accepted event leads to; none, if a head cannot be read.

    They are marked by the same events as packs, and by their hash.

    Args:
        listed: what ``list_snapshots`` found before control was last read.

    Raises:
        StoreError: the store failed.
    """
    prefix = f"{SNAPSHOTS}{namespace}/"
    left = {key: size for key, size in listed.items() if key.startswith(prefix)}
    for record in context.control.upkeep.snapshots.get(namespace, ()):
        key = object_key(namespace, record.id)
        if left.pop(key, None) is None:
            continue
        try:
            data = context.store.get(key)
            head = decode_head(open_object("head", record.id, data, scope_of(context, namespace)))
        except (IntegrityError, AccessError, ObjectMissing):
            return {}  # Which parts are its own cannot be told.
        for part in head.parts:
            left.pop(object_key(namespace, part), None)
    return {PackId(key.removeprefix(prefix)): size for key, size in left.items()}
