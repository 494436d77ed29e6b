"""Changing the fleet: invites, revocations and policies, by way of the outbox."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tcfs.device.change import (
    ControlChange,
    prepare,
    renew_epochs,
    require_admin,
    revoke,
    share_epochs,
)
from tcfs.device.epochs import NamespaceKeys
from tcfs.device.invite import make_invite
from tcfs.device.registry import update_registry
from tcfs.errors import UsageError
from tcfs.ledger.attestation import Required
from tcfs.ledger.control import load_control, policy_event
from tcfs.model.access import Role, Strategy
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, NamespaceId
from tcfs.state.index import OutboxEntry
from tcfs.sync.commit import control_sent
from tcfs.sync.context import Context
from tcfs.sync.members import device_info, find_device
from tcfs.sync.receive import receive, refresh_control, settle_outbox
from tcfs.sync.results import DeviceInfo, EnrollmentResult, InviteResult


def publish_change(context: Context, change: ControlChange) -> None:
    """Send a change of the control ledger: sealed keys, outbox, segment; then the registry.

    Raises:
        StoreError: it is in the outbox, and the next run sends it again.
    """
    for sealed in change.objects:
        context.store.put(sealed.key, sealed.data)
    segment = change.segment
    entry = OutboxEntry(CONTROL, segment.header.seq, segment.key, segment.data, None)
    context.state.outbox.add(entry)
    context.store.put(segment.key, segment.data)
    control_sent(context, entry)
    refresh_control(context)
    update_registry(
        context.store,
        lambda: (
            load_control(
                context.store,
                repo=context.repo,
                root_key=context.format.root_public_key,
                cached=context.state.control.objects(),
                last=context.view,
            ).state
        ),
    )


def _all_keys(context: Context) -> dict[NamespaceId, NamespaceKeys]:
    return {namespace: context.keys(namespace) for namespace in context.control.epochs}


def invite(
    context: Context,
    *,
    expires_s: int,
    role: Role,
    attest: Sequence[str] = (),
    pcrs: Sequence[int] = (7,),
) -> InviteResult:
    """Make an invite.

    Args:
        attest: fingerprints of the TPM keys that it is for; empty: any machine.
        pcrs: what the TPM's quote is to be over.

    Raises:
        AccessError: this device is no admin.
        UsageError: it would never be valid.
    """
    if expires_s <= 0:
        raise UsageError("an invite must be valid for some time", remedy="Say --expires 1h")
    refresh_control(context)
    settle_outbox(context)
    renew(context)
    now = context.host.clock.now()
    made = make_invite(
        context.view,
        context.format,
        context.identity,
        _all_keys(context),
        role=role,
        expires_at=int(now) + expires_s,
        endpoint=context.store.endpoint,
        entropy=context.host.entropy,
        now=now,
        attest=_required(context, attest, pcrs),
        admit=admits(context),
    )
    publish_change(context, made.change)
    return InviteResult(
        code=made.code.encode(),
        invite_id=made.code.invite_id,
        role=role,
        expires_at=made.code.expires_at,
        admit=admits(context),
    )


def admits(context: Context) -> bool:
    """Whether who uses an invite of this store has to be admitted by an admin.

    Raises:
        StoreError: it was not known whether the store keeps conditions, and it failed.
    """
    return not context.store.capabilities.conditional_writes


def _required(context: Context, attest: Sequence[str], pcrs: Sequence[int]) -> Required | None:
    if not attest:
        return None
    if not all(re.fullmatch("[0-9a-f]{64}", key) for key in attest):
        raise UsageError(
            "a TPM's key is named by its fingerprint, 64 hex digits",
            remedy="Print it on that machine with: tcfs device tpm-key",
        )
    if not pcrs or not all(0 <= pcr <= 23 for pcr in pcrs):
        raise UsageError("PCRs are numbers from 0 to 23", remedy="Such as: --pcrs 7")
    return Required(context.host.entropy.token(32), frozenset(attest), tuple(sorted(set(pcrs))))


def confirm(context: Context) -> list[DeviceInfo]:
    """Confirm who used which invite, and give keys to members that lack them.

    Returns those that were confirmed.

    Raises:
        AccessError: this device is no admin.
    """
    refresh_control(context)
    settle_outbox(context)
    require_admin(context.view, context.identity.device_id)
    waiting = [context.control.claimed[i] for i in context.control.unconfirmed]
    if waiting:
        change = prepare(
            context.view,
            context.format,
            context.identity,
            [],
            [],
            entropy=context.host.entropy,
            now=context.host.clock.now(),
        )
        publish_change(context, change)
    share(context)
    found = (context.control.devices.get(device) for device in waiting)
    return [device_info(context, device) for device in found if device is not None]


def share(context: Context) -> None:
    """Seal the current epochs to readers who were not given them yet."""
    if context.format.encryption:
        sealed = share_epochs(context.store, context.view, context.format, _all_keys(context))
        for item in sealed:
            context.store.put(item.key, item.data)


def open_enrollment(
    context: Context, passphrase: str, *, uses: int, expires_s: int, role: Role
) -> EnrollmentResult:
    """Let so many devices join by a passphrase.

    Raises:
        AccessError: this device is no admin.
        UsageError: the passphrase is too short, or it would never be valid.
    """
    from tcfs.device.pool import open_pool

    if expires_s <= 0:
        raise UsageError("an enrollment must be open for some time", remedy="Say --expires 1d")
    refresh_control(context)
    settle_outbox(context)
    renew(context)
    now = context.host.clock.now()
    pool = open_pool(
        context.view,
        context.format,
        context.identity,
        _all_keys(context),
        passphrase,
        uses=uses,
        role=role,
        expires_at=int(now) + expires_s,
        endpoint=context.store.endpoint,
        entropy=context.host.entropy,
        now=now,
        admit=admits(context),
    )
    publish_change(context, pool.change)
    context.store.put(pool.sealed.key, pool.sealed.data)
    return EnrollmentResult(uses, role, pool.expires_at)


def revoke_device(context: Context, name_or_id: str, *, reason: str) -> DeviceInfo:
    """Revoke a device at the last segments of it that are known here, and begin new epochs.

    Raises:
        AccessError: this device is no admin.
        NotFoundError, UsageError: which device is not clear, or it is this one.
    """
    receive(context, context.namespace)
    for namespace in context.control.epochs:
        receive(context, namespace)
    device = find_device(context, name_or_id)
    if device.revoked and not device.expired:
        return device_info(context, device)
    cut: dict[NamespaceId, ChainHead] = {}
    for namespace in context.control.epochs:
        head = context.state.history.heads(namespace).get(device.device_id)
        if head is not None:
            cut[namespace] = head
    control = context.control_heads.get(device.device_id)
    if control is not None:
        cut[CONTROL] = control
    change = revoke(
        context.view,
        context.format,
        context.identity,
        device.device_id,
        cut,
        _all_keys(context),
        entropy=context.host.entropy,
        now=context.host.clock.now(),
        reason=reason,
    )
    publish_change(context, change)
    return device_info(context, context.control.devices[device.device_id])


def set_strategy(context: Context, strategy: Strategy) -> None:
    """Say how mode ``auto`` settles conflicts in this namespace, on every device.

    Raises:
        AccessError: this device is no admin.
    """
    refresh_control(context)
    settle_outbox(context)
    require_admin(context.view, context.identity.device_id)
    change = prepare(
        context.view,
        context.format,
        context.identity,
        [policy_event(context.namespace, strategy)],
        [],
        entropy=context.host.entropy,
        now=context.host.clock.now(),
    )
    publish_change(context, change)


def renew(context: Context) -> None:
    """Give a namespace a new epoch where a revoked device holds the current one.

    That can be after two admins revoked at once. Does nothing where nothing is to be done, or where
    this device is no admin.

    Raises:
        AccessError: this device lacks a namespace's keys.
    """
    device = context.device
    if device is None or device.revoked or device.role != "admin":
        return
    namespaces = [
        namespace
        for namespace in context.control.epochs_to_renew()
        if not context.format.encryption or context.keys(namespace).holds_current(context.control)
    ]
    if not namespaces:
        return
    change = renew_epochs(
        context.view,
        context.format,
        context.identity,
        namespaces,
        _all_keys(context),
        entropy=context.host.entropy,
        now=context.host.clock.now(),
    )
    publish_change(context, change)
