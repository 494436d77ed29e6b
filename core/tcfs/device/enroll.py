"""Joining a repository with an invite code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tcfs.device.epochs import NamespaceKeys, load_keys, seal
from tcfs.device.format import RepositoryFormat, load_format
from tcfs.device.identity import DeviceIdentity
from tcfs.device.invite import InviteCode
from tcfs.device.registry import update_registry
from tcfs.errors import AccessError, IntegrityError, UsageError
from tcfs.ledger.attestation import Required, verify_quote
from tcfs.ledger.claim import claim_key, make_claim, parse_claim, request_key
from tcfs.ledger.control import ControlView, load_control
from tcfs.model.access import Invite
from tcfs.model.ids import NamespaceId
from tcfs.store.base import IF_ABSENT, BlobStore, PreconditionFailed

_NEW_INVITE = "Ask an admin for a new invite: tcfs device invite"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that has joined, or asked to: ``waiting`` until an admin has admitted it."""

    format: RepositoryFormat
    view: ControlView
    keys: Mapping[NamespaceId, NamespaceKeys] = field(repr=False)
    waiting: bool = False


def claim(
    store: BlobStore, code: InviteCode, identity: DeviceIdentity, now: float, description: str = ""
) -> Enrolled:
    """Use an invite. Running it again by the same device, after a crash at any point, completes it.

    Order: everything is verified, the epochs are sealed to this device, then the claim is
    written, then ``devices.json``. A crash before the claim leaves sealed keys that nobody uses.

    Where the invite wants an admin to admit the device, the claim only asks, and no key is had yet.

    Args:
        identity: saved already.
        now: unix seconds.
        description: of this device, for people.

    Raises:
        RepositoryError: the store holds another repository, or none.
        AccessError: expired, used by another device, ended by a newer key, not known, or for a
            store that keeps conditional writes, which this one does not.
        UsageError: this device was revoked.
        IntegrityError, StoreError: the store is damaged, or failed.
    """
    fmt = load_format(store, code.format_hash)
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key)
    _check_not_revoked(view, identity)
    if view.state.request_of(identity.device_id, identity.public_key) is not None:
        return Enrolled(fmt, view, {}, waiting=True)
    again = view.state.claimed.get(code.invite_id) == identity.device_id
    if not again:
        _check_open(view, code, now)
    keys: dict[NamespaceId, NamespaceKeys] = {}
    invite = view.state.invites[code.invite_id]
    if invite.admit and not again:
        return _ask(store, fmt, view, code, identity, now, description)
    if not again and not store.capabilities.conditional_writes:
        # Two could use it at once here, and only an admin can say which of them counts.
        raise AccessError(
            "the invite is for a store that keeps conditional writes, and this one does not",
            remedy="Ask an admin for an invite that was made at this address: tcfs device invite",
        )
    # Where a machine has to prove itself first, an admin seals the keys to it afterwards.
    for namespace in sorted(invite.epochs) if invite.attest is None else ():
        # An epoch that is newer than our claim was sealed to the device, not to the invite.
        for name, age in ((identity.device_id, identity.age), (code.invite_id, code.age)):
            if again or name == code.invite_id:
                keys[namespace] = load_keys(
                    store,
                    view.state,
                    namespace,
                    repo=fmt.repo,
                    encryption=fmt.encryption,
                    recipient_id=name,
                    identity=age,
                    have=keys.get(namespace),
                )
    if fmt.encryption:
        for own in keys.values():
            # Sealed again by a second run: harmless, and surer than to ask what arrived.
            sealed = seal(fmt.repo, own.secrets(view.state), identity.device_id, identity.recipient)
            store.put(sealed.key, sealed.data)
    data = _claim_of(fmt, invite, code, identity, now, description)
    try:
        store.put(claim_key(code.invite_id), data, IF_ABSENT)
    except PreconditionFailed:
        _check_ours(store, fmt, code, identity)
    # Read back: a newer key may have come between.
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key, cached=view.fresh)
    _check_ours(store, fmt, code, identity)
    if view.state.claimed.get(code.invite_id) != identity.device_id:
        raise AccessError(
            "the invite ended while it was used: the fleet's keys were changed meanwhile",
            remedy=_NEW_INVITE,
        )
    update_registry(
        store,
        lambda: load_control(store, repo=fmt.repo, root_key=fmt.root_public_key).state,
    )
    return Enrolled(fmt, view, keys)


def _ask(
    store: BlobStore,
    fmt: RepositoryFormat,
    view: ControlView,
    code: InviteCode,
    identity: DeviceIdentity,
    now: float,
    description: str,
) -> Enrolled:
    """Write a claim that waits for an admin; it takes no other's place."""
    invite = view.state.invites[code.invite_id]
    data = _claim_of(fmt, invite, code, identity, now, description)
    store.put(request_key(code.invite_id, data), data)
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key, cached=view.fresh)
    if view.state.request_of(identity.device_id, identity.public_key) is None:
        raise AccessError(
            "the invite ended while it was used: another device was admitted with it, or the "
            "fleet's keys were changed",
            remedy=_NEW_INVITE,
        )
    return Enrolled(fmt, view, {}, waiting=True)


def _claim_of(
    fmt: RepositoryFormat,
    invite: Invite,
    code: InviteCode,
    identity: DeviceIdentity,
    now: float,
    description: str,
) -> bytes:
    """This device's claim, with the quote that the invite asks for.

    Raises:
        AccessError: this machine cannot give that quote.
    """
    attestation = None
    if invite.attest is not None:
        from tcfs.device.attest import quote

        required = Required.from_json(invite.attest)
        attestation = quote(required, identity.public_key, os.environ)
        try:
            verify_quote(required, identity.public_key, attestation)
        except IntegrityError as error:
            raise AccessError(
                f"this machine cannot use the invite: {error.message}",
                remedy="Give an admin its fingerprint (tcfs device tpm-key) for a new invite.",
            ) from None
    return make_claim(
        repo=fmt.repo,
        invite_id=code.invite_id,
        invite=code.signer,
        device=identity.record("reader", description=description),
        signer=identity,
        now=int(now),
        attestation=attestation,
    )


def _check_not_revoked(view: ControlView, identity: DeviceIdentity) -> None:
    record = view.state.devices.get(identity.device_id)
    if record is not None and record.revoked:
        raise UsageError(
            "this device was revoked, and cannot come back under its old identity",
            remedy="Enroll with: tcfs device enroll --new-identity --invite CODE",
        )


def _check_open(view: ControlView, code: InviteCode, now: float) -> None:
    state = view.state
    invite = state.invites.get(code.invite_id)
    if invite is None or invite.public_key != code.signer.public_key:
        raise AccessError("no admin of this repository made that invite", remedy=_NEW_INVITE)
    user = state.claimed.get(code.invite_id)
    if user is not None:
        raise _used(state.devices[user].name)
    if now > min(invite.expires_at, code.expires_at):
        raise AccessError(
            "the invite has expired", remedy=_NEW_INVITE, details={"expired_at": invite.expires_at}
        )
    for namespace, epoch in invite.epochs.items():
        current = state.current_epoch(namespace)
        if current is None or current.epoch != epoch:
            raise AccessError(
                "the invite has ended: the fleet's keys were changed after it was made",
                remedy=_NEW_INVITE,
            )


def _check_ours(
    store: BlobStore, fmt: RepositoryFormat, code: InviteCode, identity: DeviceIdentity
) -> None:
    key = claim_key(code.invite_id)
    found = parse_claim(key, store.get(key), fmt.repo, code.signer.public_key)
    device = found.device
    if (device.device_id, device.sign_key) != (identity.device_id, identity.public_key):
        raise _used(device.name)


def _used(name: str) -> AccessError:
    return AccessError(
        f"the invite was already used, by {name!r}",
        remedy=f"If you do not know {name!r}, tell an admin at once. {_NEW_INVITE}",
        details={"used_by": name},
    )
