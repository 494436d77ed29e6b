"""A change of the control ledger: prepared first, so that it can be kept before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tcfs.device.epochs import (
    NO_COMMITMENT,
    NamespaceKeys,
    SealedObject,
    keys_prefix,
    new_epoch_id,
    next_epoch,
    seal,
)
from tcfs.device.format import RepositoryFormat
from tcfs.device.identity import DeviceIdentity
from tcfs.errors import AccessError, NotFoundError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.control import (
    ControlView,
    confirmations,
    control_segment,
    epoch_event,
    revoke_event,
)
from tcfs.ledger.segment import SealedSegment, Signer
from tcfs.model.access import DeviceRecord
from tcfs.model.event import ChainHead
from tcfs.model.ids import RECOVERY, ROOT_DEVICE, DeviceId, NamespaceId
from tcfs.store.base import BlobStore


@dataclass(frozen=True, slots=True)
class ControlChange:
    """Sealed keys, and the segment that makes them count.

    Keep it in the outbox before it is published: a device that makes another segment in its place
    has forked its own chain.
    """

    objects: tuple[SealedObject, ...]
    segment: SealedSegment


def publish(store: BlobStore, change: ControlChange) -> None:
    """Write a change: keys first, the segment last. Doing it again is harmless.

    A crash in between leaves sealed keys of an epoch that does not exist.

    Raises:
        StoreError: the store failed; publish the same change again.
    """
    for sealed in change.objects:
        store.put(sealed.key, sealed.data)
    store.put(change.segment.key, change.segment.data)


def prepare(
    view: ControlView,
    fmt: RepositoryFormat,
    signer: Signer,
    events: Sequence[Mapping[str, Any]],
    objects: Sequence[SealedObject],
    *,
    entropy: Entropy,
    now: float,
) -> ControlChange:
    """The change that these events make. ``now`` in unix seconds.

    The uses of invites that were seen so far are confirmed along with it, if an admin speaks.
    """
    author = view.state.devices.get(signer.device_id)
    admin = signer.device_id == ROOT_DEVICE or (author is not None and author.role == "admin")
    segment = control_segment(
        view,
        [*(confirmations(view.state) if admin else ()), *events],
        repo=fmt.repo,
        signer=signer,
        salt=entropy.token(32),
        written_at=int(now),
    )
    return ControlChange(tuple(objects), segment)


def require_admin(view: ControlView, device: DeviceId) -> DeviceRecord:
    """This device's record. Raises AccessError if it is no active admin."""
    record = view.state.devices.get(device)
    if record is None or record.revoked or record.role != "admin":
        raise AccessError(
            "this device is not an admin of the fleet",
            details={"role": None if record is None or record.revoked else record.role},
        )
    return record


def revoke(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    device_id: DeviceId,
    cut: Mapping[NamespaceId, ChainHead],
    keys: Mapping[NamespaceId, NamespaceKeys],
    *,
    entropy: Entropy,
    now: float,
    reason: str = "",
) -> ControlChange:
    """Revoke a device, and give every namespace a new epoch that it is not given.

    Open invites end with it, since they were made for the epochs before.

    Args:
        cut: the last accepted head of each of the device's chains, ``_control`` included;
            a chain that is not named is refused from its first segment on.
        keys: this device's keys of every namespace.

    Raises:
        AccessError: this device is no admin, or lacks a namespace's keys.
        NotFoundError: no such device.
        UsageError: it would revoke itself.
    """
    require_admin(view, identity.device_id)
    if device_id == identity.device_id:
        raise UsageError(
            "a device cannot revoke itself",
            remedy="Revoke it on another admin device, or with the recovery phrase.",
        )
    if device_id not in view.state.devices:
        raise NotFoundError(
            f"no such device: {device_id}", remedy="See the devices with: tcfs device list"
        )
    members = [device for device in view.state.active() if device.device_id != device_id]
    namespaces = sorted(view.state.epochs)
    events, objects = _new_epochs(view, fmt, identity, namespaces, members, keys, entropy)
    events.insert(0, revoke_event(device_id, cut, reason))
    return prepare(view, fmt, identity, events, objects, entropy=entropy, now=now)


def renew_epochs(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    namespaces: Sequence[NamespaceId],
    keys: Mapping[NamespaceId, NamespaceKeys],
    *,
    entropy: Entropy,
    now: float,
) -> ControlChange:
    """Give namespaces a new epoch, sealed to the active devices that may read them, alone.

    What ``ControlState.epochs_to_renew`` names must be renewed before anything more is sealed.

    Raises:
        AccessError: this device is no admin, or lacks a namespace's keys.
        UsageError: no namespace is named.
    """
    require_admin(view, identity.device_id)
    if not namespaces:
        raise UsageError("no namespace to renew the keys of")
    members = view.state.active()
    events, objects = _new_epochs(view, fmt, identity, namespaces, members, keys, entropy)
    return prepare(view, fmt, identity, events, objects, entropy=entropy, now=now)


def share_epochs(
    store: BlobStore,
    view: ControlView,
    fmt: RepositoryFormat,
    keys: Mapping[NamespaceId, NamespaceKeys],
) -> list[SealedObject]:
    """Seal the current epochs that are at hand to readers who were not given them yet.

    Raises:
        StoreError: the store failed.
    """
    found: list[SealedObject] = []
    for namespace, own in sorted(keys.items()):
        if not fmt.encryption or not own.holds_current(view.state):
            continue
        secrets = own.secrets(view.state)
        prefix = keys_prefix(namespace, secrets.epoch)
        given = {info.key[len(prefix) :].rpartition("-")[0] for info in store.list(prefix)}
        for device in view.state.active():
            wanted = device.device_id in view.state.readers(namespace)
            if wanted and device.device_id not in given:
                found.append(seal(fmt.repo, secrets, device.device_id, device.recipient))
    return found


def _new_epochs(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    namespaces: Sequence[NamespaceId],
    members: Sequence[DeviceRecord],
    keys: Mapping[NamespaceId, NamespaceKeys],
    entropy: Entropy,
) -> tuple[list[dict[str, Any]], list[SealedObject]]:
    events: list[dict[str, Any]] = []
    objects: list[SealedObject] = []
    for namespace in namespaces:
        readers = view.state.readers(namespace)
        given = [member for member in members if member.device_id in readers]
        ids = [member.device_id for member in given]
        if not fmt.encryption:
            # No secrets, but still an end to the invites made before.
            events.append(epoch_event(namespace, new_epoch_id(entropy), NO_COMMITMENT, ids))
            continue
        own = keys.get(namespace) or NamespaceKeys(namespace)
        if not own.holds_current(view.state) and identity.device_id not in readers:
            continue  # one who may read it has to, and is told so by ``epochs_to_renew``
        secrets = next_epoch(own, view.state, entropy)
        objects += [seal(fmt.repo, secrets, member.device_id, member.recipient) for member in given]
        objects.append(seal(fmt.repo, secrets, RECOVERY, fmt.recovery_recipient))
        events.append(epoch_event(namespace, secrets.epoch, secrets.commitment, ids))
    return events, objects
