"""Invites: a code that lets one device join, once, until it expires. Format: FORMAT.md."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from blake3 import blake3
from pyrage import x25519

from tcfs.content.seal import derive
from tcfs.device.change import ControlChange, prepare, require_admin
from tcfs.device.epochs import NamespaceKeys, SealedObject, seal
from tcfs.device.format import RepositoryFormat
from tcfs.device.identity import DeviceIdentity
from tcfs.device.phrase import SigningKey, identity_of
from tcfs.errors import IntegrityError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.attestation import Required
from tcfs.ledger.control import ControlView, invite_event
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object, text
from tcfs.model.access import Role
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.ids import DeviceId, EpochId, NamespaceId, is_uuid

PREFIX: Final = "tcfs-invite-"

_CHECKSUM = 4
_SIGNING_INFO = b"tcfs invite signing v1"
_IDENTITY_INFO = b"tcfs invite identity v1"


@dataclass(frozen=True, slots=True)
class InviteCode:
    """What an invite code says. Whoever holds the seed can join: it is a secret.

    Attributes:
        format_hash: of the repository that it is for.
        endpoint: where that is, without credentials.
        expires_at: unix seconds.
    """

    invite_id: str
    seed: bytes = field(repr=False)
    format_hash: str
    endpoint: str
    expires_at: int

    @property
    def signer(self) -> SigningKey:
        """The one-time signing key."""
        return SigningKey(DeviceId(self.invite_id), derive(self.seed, _SIGNING_INFO))

    @property
    def age(self) -> x25519.Identity:
        """The identity that the epochs are sealed to."""
        return identity_of(derive(self.seed, _IDENTITY_INFO))

    def encode(self) -> str:
        """The code to hand over, on a private way."""
        data = canonical(
            {
                "v": 1,
                "i": self.invite_id,
                "s": self.seed.hex(),
                "f": self.format_hash,
                "e": self.endpoint,
                "x": self.expires_at,
            }
        )
        coded = base64.urlsafe_b64encode(data + blake3(data).digest()[:_CHECKSUM])
        return PREFIX + coded.decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Invitation:
    """A new invite: hand over the code once the change is published."""

    code: InviteCode
    change: ControlChange


def parse_code(code: str) -> InviteCode:
    """Read an invite code, with whatever spaces and line breaks it was pasted.

    Raises:
        UsageError: it is none, was cut off, was mistyped, or is of a later version. The error
            shows nothing of it.
    """
    compact = "".join(code.split())
    if not compact.startswith(PREFIX):
        raise UsageError(
            f"not an invite code: one begins with {PREFIX!r}",
            remedy="Make one on an admin device with: tcfs device invite",
        )
    remedy = "Copy the whole code again, from its first letter to its last."
    coded = compact[len(PREFIX) :]
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        # A length of 4n+1 cannot be: a letter is missing. Any other failure is a wrong letter.
        what = "is cut off" if len(coded) % 4 == 1 else "was mistyped"
        raise UsageError(f"the invite code {what}", remedy=remedy) from None
    end = data.find(b"}") + 1
    if not end or len(data) < end + _CHECKSUM:
        raise UsageError("the invite code is cut off", remedy=remedy)
    body = data[:-_CHECKSUM]
    if blake3(body).digest()[:_CHECKSUM] != data[-_CHECKSUM:]:
        raise UsageError("the invite code was mistyped: its checksum fails", remedy=remedy)
    try:
        found = parse_object(body, "it")
        if integer(found.get("v"), 1, 1 << 31, "its version") != 1:
            raise UsageError("the invite code is of a later version", remedy="Update tcfs.")
        invite_id = text(found.get("i"), "its id", 36)
        if not is_uuid(invite_id):
            raise IntegrityError("its id is no uuid")
        return InviteCode(
            invite_id=invite_id,
            seed=hex_bytes(found.get("s"), 32, "its seed"),
            format_hash=hex_bytes(found.get("f"), 32, "its format hash").hex(),
            endpoint=text(found.get("e"), "its endpoint", 4096),
            expires_at=integer(found.get("x"), 0, MAX_COUNTER, "its expiry"),
        )
    except IntegrityError as error:
        raise UsageError(f"the invite code cannot be used: {error.message}") from None


def make_invite(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    keys: Mapping[NamespaceId, NamespaceKeys],
    *,
    role: Role,
    expires_at: int,
    endpoint: str,
    entropy: Entropy,
    now: float,
    attest: Required | None = None,
    admit: bool = False,
) -> Invitation:
    """Prepare an invite: its code, its event, and the epochs sealed to it.

    Args:
        keys: this device's keys of every namespace.
        expires_at: unix seconds.
        endpoint: the store, without credentials.
        attest: the TPM's quote that whoever uses it must bring. Then no epoch is sealed to the
            invite, whose key proves nothing of a machine: an admin does that for the device.
        admit: whether an admin has to admit the device that uses it. Then no epoch is sealed to the
            invite either.

    Raises:
        AccessError: this device is no admin, or lacks a namespace's keys.
        UsageError: the endpoint cannot be in a code.
    """
    code, event, objects = draw_invite(
        view,
        fmt,
        identity,
        keys,
        role=role,
        expires_at=expires_at,
        endpoint=endpoint,
        entropy=entropy,
        attest=attest,
        admit=admit,
    )
    change = prepare(view, fmt, identity, [event], objects, entropy=entropy, now=now)
    return Invitation(code, change)


def draw_invite(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    keys: Mapping[NamespaceId, NamespaceKeys],
    *,
    role: Role,
    expires_at: int,
    endpoint: str,
    entropy: Entropy,
    attest: Required | None = None,
    admit: bool = False,
) -> tuple[InviteCode, dict[str, Any], list[SealedObject]]:
    """A new invite: its code, its event, and the epochs sealed to it; raises as ``make_invite``."""
    require_admin(view, identity.device_id)
    if "}" in endpoint:
        raise UsageError("an endpoint in an invite code has no '}'")
    code = InviteCode(
        invite_id=str(uuid.UUID(bytes=entropy.token(16), version=4)),
        seed=entropy.token(32),
        format_hash=fmt.hash,
        endpoint=endpoint,
        expires_at=expires_at,
    )
    recipient = str(code.age.to_public())
    objects: list[SealedObject] = []
    epochs: dict[NamespaceId, EpochId] = {}
    for namespace, known in sorted(view.state.epochs.items()):
        # A namespace that rules close is opened to the new device by a rule, once it is known.
        if not view.state.rules.now(namespace).any_device_may_read():
            continue
        epochs[namespace] = known[-1].epoch
        if fmt.encryption and attest is None and not admit:
            own = keys.get(namespace) or NamespaceKeys(namespace)
            objects.append(seal(fmt.repo, own.secrets(view.state), code.invite_id, recipient))
    asked = attest.to_json() if attest is not None else None
    public = code.signer.public_key
    event = invite_event(code.invite_id, public, role, expires_at, epochs, asked, admit=admit)
    return code, event, objects
