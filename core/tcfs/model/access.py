"""Who belongs to the repository and what they may do.

``tcfs.model.membership`` folds the control ledger into a ``ControlState``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast, get_args

from msgspec import Struct, field

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.event import ChainHead
from tcfs.model.ids import (
    DeviceId,
    EpochId,
    NamespaceId,
    check_device_name,
    is_uuid,
)
from tcfs.model.rules import Ruleset
from tcfs.model.upkeep import UpkeepState

Role = Literal["reader", "writer", "admin"]
ROLE_ORDER: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may."""
ROLES: Final = frozenset(ROLE_ORDER)
Strategy = Literal["device-name", "first-write", "last-write", "merge"]
STRATEGIES: Final = frozenset(get_args(Strategy))
DEFAULT_STRATEGY: Final[Strategy] = "device-name"


class DeviceRecord(Struct, frozen=True):
    """A device as it was admitted. ``sign_key`` is its 32-byte Ed25519 public key."""

    device_id: DeviceId
    name: str
    sign_key: bytes
    recipient: str
    role: Role
    enrolled_at: int
    description: str = ""
    cut: Mapping[NamespaceId, ChainHead] | None = None
    """If revoked: the last accepted head of each of its chains; chains not named end at 0."""
    expired: bool = False
    """Revoked for having been away too long, and not for being distrusted."""

    @property
    def revoked(self) -> bool:
        """Whether this device has been revoked."""
        return self.cut is not None

    def to_json(self) -> dict[str, Any]:
        """The ``device`` of an ``admit`` event."""
        return {
            "device_id": self.device_id,
            "name": self.name,
            "sign_key": self.sign_key.hex(),
            "recipient": self.recipient,
            "role": self.role,
            "enrolled_at": self.enrolled_at,
            "description": self.description,
        }

    @classmethod
    def from_json(cls, data: object, *, role: Role | None = None) -> DeviceRecord:
        """Read a device of an ``admit`` event or, with ``role``, of a claim.

        Raises:
            IntegrityError: a field is missing or not as it must be.
        """
        if not isinstance(data, dict):
            raise IntegrityError("a device record is not an object")
        found = role or parse_role(data.get("role"))
        device_id, name, recipient = data.get("device_id"), data.get("name"), data.get("recipient")
        description, enrolled = data.get("description", ""), data.get("enrolled_at", 0)
        if (
            not isinstance(device_id, str)
            or not is_uuid(device_id)
            or not isinstance(name, str)
            or not isinstance(recipient, str)
            or not recipient.startswith("age1")
            or not isinstance(description, str)
            or len(description) > 1024
            or type(enrolled) is not int
        ):
            raise IntegrityError("a device record's fields are not as they must be")
        try:
            check_device_name(name)
            sign_key = bytes.fromhex(str(data.get("sign_key")))
        except (UsageError, ValueError):
            raise IntegrityError("a device record's name or key is not usable") from None
        if len(sign_key) != 32:
            raise IntegrityError("a device record's key has not 32 bytes")
        return cls(DeviceId(device_id), name, sign_key, recipient, found, enrolled, description)


class Invite(Struct, frozen=True):
    """An invite and, once used, the device that used it. ``expires_at`` in unix seconds."""

    invite_id: str
    public_key: bytes
    role: Role
    expires_at: int
    epochs: Mapping[NamespaceId, EpochId]
    issuer: DeviceId
    attest: Mapping[str, Any] | None = None
    """The TPM's quote that a claim must carry; see ``tcfs.ledger.attestation``."""
    admit: bool = False
    """A claim only asks: an admin's ``admit`` lets one device in. Where the store keeps no
    conditional writes, nothing else could say which of two was first."""


class Claim(Struct, frozen=True):
    """A verified use of an invite (both signatures checked)."""

    invite_id: str
    device: DeviceRecord
    claimed_at: int


class EpochRecord(Struct, frozen=True):
    """A namespace's epoch: what its secrets must hash to, and whom they were sealed to.

    ``rules`` is how many changes of rules stand before it: who may read since may hold it too.
    """

    namespace: NamespaceId
    epoch: EpochId
    commitment: bytes
    members: frozenset[DeviceId]
    rules: int = 0


class ControlEntry(Struct, frozen=True):
    """One control event in its place in history."""

    lamport: int
    device: DeviceId
    seq: int
    index: int
    event: Mapping[str, Any]


class Refusal(Struct, frozen=True):
    """A control event or claim (seq 0) that the fold did not accept, and why."""

    device: DeviceId
    seq: int
    reason: str
    index: int = 0
    """Its place in the segment."""


class ControlState(Struct, frozen=True):
    """The repository's members, invites, epochs and policies."""

    devices: Mapping[DeviceId, DeviceRecord] = field(default_factory=dict)
    invites: Mapping[str, Invite] = field(default_factory=dict)
    epochs: Mapping[NamespaceId, tuple[EpochRecord, ...]] = field(default_factory=dict)
    """Oldest first; the last one is current."""
    policies: Mapping[NamespaceId, Strategy] = field(default_factory=dict)
    claimed: Mapping[str, DeviceId] = field(default_factory=dict)
    void: Mapping[DeviceId, DeviceRecord] = field(default_factory=dict)
    """Devices whose use of an invite did not count after all: no members, but others may have
    built on what they wrote before that was known, so it must still verify."""
    unconfirmed: tuple[str, ...] = ()
    """Used invites that rest on their claims alone; an admin's next words confirm them."""
    requests: tuple[Claim, ...] = ()
    """Claims that wait for an admin, each device with its invite's role. Several may be of one
    invite; at most one of these is ever admitted."""
    given_away: frozenset[EpochId] = frozenset()
    """Epochs whose keys a device was given that is no member after all."""
    refused: tuple[Refusal, ...] = ()
    rules: Ruleset = field(default_factory=Ruleset)
    upkeep: UpkeepState = field(default_factory=UpkeepState)

    def sign_key(self, device: DeviceId) -> bytes | None:
        """The key that a device's segments are signed with, members or not; None if unheard of."""
        record = self.devices.get(device) or self.void.get(device)
        return record.sign_key if record else None

    def request_of(self, device: DeviceId, sign_key: bytes) -> Claim | None:
        """What this device asked, while it waits to be admitted."""
        for request in self.requests:
            if (request.device.device_id, request.device.sign_key) == (device, sign_key):
                return request
        return None

    def epochs_to_renew(self) -> tuple[NamespaceId, ...]:
        """Namespaces whose current epoch was given to a device that is not to read any more.

        Two admins who revoke at once each make an epoch; the later one may be sealed to the device
        that the other had revoked. Two who admit different devices with one invite give the keys to
        both. And a rule may have closed a namespace to a member.
        """
        return tuple(
            sorted(
                space
                for space, known in self.epochs.items()
                if known[-1].epoch in self.given_away
                or self._holders(known[-1]) - self.readers(space)
            )
        )

    def _holders(self, epoch: EpochRecord) -> frozenset[DeviceId]:
        """Who was given an epoch's key: its first members, and who might read it at any time since.

        A revoked device that only came to hold it later is left out: its revocation began a newer.
        """
        holders = frozenset(
            member
            for member in epoch.members
            if (record := self.devices.get(member)) is not None and not record.expired
        )
        changes = self.rules.changes
        if self.rules.governs(epoch.namespace):
            for count in range(epoch.rules, len(changes)):
                holders |= self._readers(epoch.namespace, Ruleset(changes[:count]))
        return holders

    def readers(self, namespace: NamespaceId) -> frozenset[DeviceId]:
        """The active devices that are to hold a namespace's key."""
        return self._readers(namespace, self.rules)

    def _readers(self, namespace: NamespaceId, rules: Ruleset) -> frozenset[DeviceId]:
        view = rules.now(namespace)
        return frozenset(d.device_id for d in self.active() if view.may_read_somewhere(d.device_id))

    def current_epoch(self, namespace: NamespaceId) -> EpochRecord | None:
        """The epoch that new data of a namespace uses."""
        known = self.epochs.get(namespace, ())
        return known[-1] if known else None

    def strategy(self, namespace: NamespaceId) -> Strategy:
        """How mode ``auto`` settles conflicts in a namespace."""
        return self.policies.get(namespace, DEFAULT_STRATEGY)

    def by_name(self, name_or_id: str) -> list[DeviceRecord]:
        """Devices of that name or id, revoked ones last."""
        found = [d for d in self.devices.values() if name_or_id in (d.name, d.device_id)]
        return sorted(found, key=lambda d: (d.revoked, d.enrolled_at, d.device_id))

    def active(self) -> list[DeviceRecord]:
        """Devices that are not revoked, by name."""
        found = [d for d in self.devices.values() if not d.revoked]
        return sorted(found, key=lambda d: (d.name, d.device_id))


def parse_role(value: object) -> Role:
    """A role as an event names it. Raises IntegrityError."""
    for role in get_args(Role):
        if value == role:
            return cast(Role, role)
    raise IntegrityError("a role is unknown")
