"""Chains as this device knows them, and whether its own is still its own alone."""

from __future__ import annotations

from typing import Final

from tcfs.errors import IntegrityError
from tcfs.ledger.chain import KnownSegment, check_own_chain
from tcfs.ledger.keys import parse_key
from tcfs.ledger.segment import Segment, open_segment
from tcfs.ledger.walk import Opener
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, NamespaceId, StoreKey
from tcfs.sync.context import Context

LOOK_AGAIN_S: Final = 60.0
"""How long a look at the own chain is trusted by what is appended to it.

Another machine with this identity may go on meanwhile. What is put beside its segments then is at
most so many behind them as it writes in that time; see ``ledger.chain.BEHIND``.
"""


def opener(context: Context, namespace: NamespaceId) -> Opener:
    """What opens and verifies a segment of a namespace by its key."""

    def open_one(key: StoreKey, data: bytes) -> Segment:
        device = parse_key(key).device
        sign_key = context.control.sign_key(device)
        if sign_key is None:
            raise IntegrityError(f"{key}: its device is no member of the repository")
        return open_segment(
            key,
            data,
            repo=context.repo,
            sign_key=sign_key,
            encryption=context.format.encryption,
            keyring=context.keys(namespace) if context.format.encryption else None,
        )

    return open_one


def known_segment(
    context: Context, namespace: NamespaceId, device: DeviceId, head: ChainHead
) -> KnownSegment | None:
    """What is remembered of a verified segment."""
    found = context.state.history.known(namespace, device, head)
    return KnownSegment(*found) if found else None


def check_own(context: Context, namespace: NamespaceId) -> None:
    """Make sure that this device's chain in the store ends where it thinks.

    Raises:
        IdentityError: it went on without this device.
        IntegrityError: the store lost what was known of it.
        StoreError: the store failed.
    """
    device = context.identity.device_id
    check_own_chain(
        context.store,
        namespace,
        device,
        context.state.history.heads(namespace).get(device),
        opener(context, namespace),
        [entry.key for entry in context.state.outbox.all()],
        known=lambda device, head: known_segment(context, namespace, device, head),
    )
    context.looked[namespace] = context.host.clock.monotonic()


def look_again(context: Context, namespace: NamespaceId) -> None:
    """``check_own``, unless that was a moment ago."""
    last = context.looked.get(namespace)
    if last is None or context.host.clock.monotonic() - last > LOOK_AGAIN_S:
        check_own(context, namespace)
