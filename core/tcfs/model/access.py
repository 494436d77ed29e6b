"""Who belongs to the repository and what they may do: the fold of the control ledger.

The fold is pure: signatures and chains were verified before an event gets here. See FORMAT.md,
*Control events*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast, get_args

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.event import ChainHead
from tcfs.model.ids import (
    CONTROL,
    ROOT_DEVICE,
    DeviceId,
    EpochId,
    NamespaceId,
    SegmentHash,
    check_device_name,
    is_uuid,
)

Role = Literal["reader", "writer", "admin"]
ROLES: Final = frozenset(get_args(Role))
Strategy = Literal["device-name", "first-write", "last-write", "merge"]
STRATEGIES: Final = frozenset(get_args(Strategy))
DEFAULT_STRATEGY: Final[Strategy] = "device-name"


@dataclass(frozen=True, slots=True)
class DeviceRecord:
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

    @property
    def revoked(self) -> bool:
        """Whether this device has been revoked."""
        return self.cut is not None

    def accepts(self, namespace: NamespaceId, seq: int) -> bool:
        """Whether segment ``seq`` of this device's chain stands before its revocation, if any."""
        if self.cut is None:
            return True
        head = self.cut.get(namespace)
        return head is not None and seq <= head.seq

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
        found = role or _role(data.get("role"))
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


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite and, once used, the device that used it. ``expires_at`` in unix seconds."""

    invite_id: str
    public_key: bytes
    role: Role
    expires_at: int
    epochs: Mapping[NamespaceId, EpochId]
    issuer: DeviceId


@dataclass(frozen=True, slots=True)
class Claim:
    """A verified use of an invite (both signatures checked)."""

    invite_id: str
    device: DeviceRecord
    claimed_at: int


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """A namespace's epoch: what its secrets must hash to, and whom they were sealed to."""

    namespace: NamespaceId
    epoch: EpochId
    commitment: bytes
    members: frozenset[DeviceId]


@dataclass(frozen=True, slots=True)
class ControlEntry:
    """One control event in its place in history."""

    lamport: int
    device: DeviceId
    seq: int
    index: int
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A control event or claim that the fold did not accept, and why."""

    device: DeviceId
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class ControlState:
    """The repository's members, invites, epochs and policies."""

    devices: Mapping[DeviceId, DeviceRecord] = field(default_factory=dict)
    invites: Mapping[str, Invite] = field(default_factory=dict)
    epochs: Mapping[NamespaceId, tuple[EpochRecord, ...]] = field(default_factory=dict)
    """Oldest first; the last one is current."""
    policies: Mapping[NamespaceId, Strategy] = field(default_factory=dict)
    claimed: Mapping[str, DeviceId] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()

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


def fold_control(entries: Iterable[ControlEntry], claims: Iterable[Claim]) -> ControlState:
    """The control state that these events and claims make, whatever order they came in.

    Events are taken by (Lamport time, device, seq, index); an event counts if its author is the
    root, or an admin at that point and not past its cut. Claims are matched to their invites first,
    because a device that used an invite may itself be an admin.
    """
    by_invite = {claim.invite_id: claim for claim in claims}
    state = _Building()
    for entry in sorted(set_of(entries), key=lambda e: (e.lamport, e.device, e.seq, e.index)):
        state.apply(entry, by_invite)
    return state.done()


def set_of(entries: Iterable[ControlEntry]) -> list[ControlEntry]:
    """Entries without repeats: the fold is idempotent."""
    return list({(e.device, e.seq, e.index): e for e in entries}.values())


class _Building:
    def __init__(self) -> None:
        self.devices: dict[DeviceId, DeviceRecord] = {}
        self.invites: dict[str, Invite] = {}
        self.epochs: dict[NamespaceId, tuple[EpochRecord, ...]] = {}
        self.policies: dict[NamespaceId, Strategy] = {}
        self.claimed: dict[str, DeviceId] = {}
        self.pending: dict[str, Claim] = {}
        self.refused: list[Refusal] = []

    def apply(self, entry: ControlEntry, claims: Mapping[str, Claim]) -> None:
        try:
            if not self._may_speak(entry):
                raise IntegrityError("its author was no admin at that point")
            op = entry.event.get("op")
            if op == "admit":
                self._admit(DeviceRecord.from_json(entry.event.get("device")))
            elif op == "invite":
                self._invite(entry, claims)
            elif op == "epoch":
                self._epoch(entry)
            elif op == "revoke":
                self._revoke(entry)
            elif op == "policy":
                self._policy(entry)
            else:
                raise IntegrityError("its kind is unknown to this version")
        except IntegrityError as error:
            self.refused.append(Refusal(entry.device, entry.seq, error.message))

    def _may_speak(self, entry: ControlEntry) -> bool:
        if entry.device == ROOT_DEVICE:
            return True
        author = self.devices.get(entry.device)
        return author is not None and author.role == "admin" and author.accepts(CONTROL, entry.seq)

    def _admit(self, device: DeviceRecord) -> None:
        known = self.devices.get(device.device_id)
        if known is not None and (known.sign_key != device.sign_key or known.revoked):
            raise IntegrityError("that device id is taken, or was revoked")
        self.devices[device.device_id] = device

    def _invite(self, entry: ControlEntry, claims: Mapping[str, Claim]) -> None:
        event = entry.event
        epochs = event.get("epochs")
        role = _role(event.get("role"))
        invite_id, expires = event.get("invite_id"), event.get("expires_at")
        if (
            not isinstance(invite_id, str)
            or not is_uuid(invite_id)
            or type(expires) is not int
            or not isinstance(epochs, dict)
            or invite_id in self.invites
        ):
            raise IntegrityError("an invite's fields are not as they must be")
        invite = Invite(
            invite_id, _key(event.get("public_key")), role, expires, dict(epochs), entry.device
        )
        self.invites[invite_id] = invite
        claim = claims.get(invite_id)
        if claim is None:
            return
        if claim.claimed_at > invite.expires_at:
            self.refused.append(Refusal(claim.device.device_id, 0, "its invite had expired"))
            return
        if any(self._current(ns) != epoch for ns, epoch in invite.epochs.items()):
            self.refused.append(Refusal(claim.device.device_id, 0, "its invite was void"))
            return
        try:
            self._admit(replace(claim.device, role=invite.role))
        except IntegrityError as error:
            self.refused.append(Refusal(claim.device.device_id, 0, error.message))
            return
        self.claimed[invite_id] = claim.device.device_id
        self.pending[invite_id] = claim

    def _current(self, namespace: NamespaceId) -> EpochId | None:
        known = self.epochs.get(namespace, ())
        return known[-1].epoch if known else None

    def _epoch(self, entry: ControlEntry) -> None:
        event = entry.event
        namespace, epoch, members = event.get("namespace"), event.get("epoch"), event.get("members")
        if (
            not isinstance(namespace, str)
            or not isinstance(epoch, str)
            or len(epoch) != 32
            or not isinstance(members, list)
        ):
            raise IntegrityError("an epoch's fields are not as they must be")
        space = NamespaceId(namespace)
        known = self.epochs.get(space, ())
        if any(record.epoch == epoch for record in known):
            raise IntegrityError("that epoch exists already")
        record = EpochRecord(
            space, EpochId(epoch), _key(event.get("commitment")), frozenset(members)
        )
        self.epochs[space] = (*known, record)
        # An invite ends with the epoch it was made for. A claim the author of the new epoch had not
        # seen came too late: its device is not among the members and holds no key of this epoch.
        for invite_id, claim in list(self.pending.items()):
            invite = self.invites[invite_id]
            if invite.epochs.get(space) in {r.epoch for r in known}:
                del self.pending[invite_id]
                if claim.device.device_id not in record.members:
                    self.devices.pop(claim.device.device_id, None)
                    self.claimed.pop(invite_id, None)
                    self.refused.append(
                        Refusal(
                            claim.device.device_id, 0, "its invite was void: the key had changed"
                        )
                    )

    def _revoke(self, entry: ControlEntry) -> None:
        device_id, cut = entry.event.get("device_id"), entry.event.get("cut")
        known = self.devices.get(DeviceId(str(device_id)))
        if known is None or not isinstance(cut, dict):
            raise IntegrityError("it revokes an unknown device")
        heads: dict[NamespaceId, ChainHead] = {}
        for namespace, head in cut.items():
            if (
                not isinstance(head, list)
                or len(head) != 2
                or type(head[0]) is not int
                or not isinstance(head[1], str)
            ):
                raise IntegrityError("a revocation's cut is not as it must be")
            heads[NamespaceId(str(namespace))] = ChainHead(head[0], SegmentHash(head[1]))
        if known.cut is not None:
            # Two admins revoked at once: the earlier cut of each chain stands.
            heads = {ns: min(head, known.cut[ns]) for ns, head in heads.items() if ns in known.cut}
        self.devices[known.device_id] = replace(known, cut=heads)

    def _policy(self, entry: ControlEntry) -> None:
        namespace, strategy = entry.event.get("namespace"), entry.event.get("strategy")
        known: dict[object, Strategy] = {name: name for name in get_args(Strategy)}
        if not isinstance(namespace, str) or strategy not in known:
            raise IntegrityError("a policy's fields are not as they must be")
        self.policies[NamespaceId(namespace)] = known[strategy]

    def done(self) -> ControlState:
        return ControlState(
            devices=self.devices,
            invites=self.invites,
            epochs=self.epochs,
            policies=self.policies,
            claimed=self.claimed,
            refused=tuple(self.refused),
        )


def _role(value: object) -> Role:
    for role in get_args(Role):
        if value == role:
            return cast(Role, role)
    raise IntegrityError("a role is unknown")


def _key(text: object) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != 32:
        raise IntegrityError("a key or commitment has not 32 bytes")
    return key
