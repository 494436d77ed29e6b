"""Who belongs to the repository and what they may do: the fold of the control ledger.

The fold is pure: signatures and chains were verified before an event gets here. See FORMAT.md,
*Control events*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
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
    is_namespace,
    is_uuid,
)

Role = Literal["reader", "writer", "admin"]
ROLE_ORDER: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may."""
ROLES: Final = frozenset(ROLE_ORDER)
Strategy = Literal["device-name", "first-write", "last-write", "merge"]
STRATEGIES: Final = frozenset(get_args(Strategy))
DEFAULT_STRATEGY: Final[Strategy] = "device-name"

_EPOCH = re.compile(r"[0-9a-f]{32}")
_NO_HEAD = ChainHead(0, SegmentHash(""))


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
    void: Mapping[DeviceId, DeviceRecord] = field(default_factory=dict)
    """Devices whose use of an invite did not count after all: no members, but others may have
    built on what they wrote before that was known, so it must still verify."""
    refused: tuple[Refusal, ...] = ()

    def sign_key(self, device: DeviceId) -> bytes | None:
        """The key that a device's segments are signed with, members or not; None if unheard of."""
        record = self.devices.get(device) or self.void.get(device)
        return record.sign_key if record else None

    def epochs_to_renew(self) -> tuple[NamespaceId, ...]:
        """Namespaces whose current epoch a revoked device holds.

        Two admins who revoke at once each make an epoch; the later one may be sealed to the device
        that the other had revoked.
        """
        revoked = {device.device_id for device in self.devices.values() if device.revoked}
        return tuple(
            sorted(space for space, known in self.epochs.items() if known[-1].members & revoked)
        )

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

    A cut holds from the beginning, not from the revocation's place on: a revoked device chooses
    the Lamport time of what it writes later. So revocations are settled first, one at a time and
    for good: the root's, then those of whoever became an admin earlier. Of two admins who revoke
    each other at once, the one who was there first stays, whatever times they claim.
    """
    by_invite: dict[str, Claim] = {}
    for claim in sorted(claims, key=lambda c: (c.claimed_at, c.device.device_id)):
        by_invite.setdefault(claim.invite_id, claim)
    ordered = sorted(set_of(entries), key=lambda e: (e.lamport, e.device, e.seq, e.index))
    cuts: dict[DeviceId, Mapping[NamespaceId, ChainHead]] = {}
    settled: set[tuple[DeviceId, int, int]] = set()
    while True:
        state = _Building(cuts, settled)
        for entry in ordered:
            state.apply(entry, by_invite)
        if not state.open:
            return state.done()
        # All of one author's at once, so that the passes are as many as there are such admins.
        author = min(state.open, key=lambda revocation: revocation.rank).place[0]
        for revocation in state.open:
            if revocation.place[0] == author:
                settled.add(revocation.place)
                known = cuts.get(revocation.device)
                cuts[revocation.device] = _earlier(revocation.cut, known)


def _earlier(
    cut: Mapping[NamespaceId, ChainHead], known: Mapping[NamespaceId, ChainHead] | None
) -> Mapping[NamespaceId, ChainHead]:
    """Of a device revoked twice, the earlier cut of each chain stands."""
    if known is None:
        return cut
    return {space: min(head, known[space]) for space, head in cut.items() if space in known}


@dataclass(frozen=True, slots=True)
class _Revocation:
    """One that is not settled yet. ``rank``: since when its author is an admin, then its place."""

    device: DeviceId
    cut: Mapping[NamespaceId, ChainHead]
    place: tuple[DeviceId, int, int]
    rank: tuple[int, int]


def set_of(entries: Iterable[ControlEntry]) -> list[ControlEntry]:
    """Entries without repeats: the fold is idempotent."""
    return list({(e.device, e.seq, e.index): e for e in entries}.values())


class _Building:
    def __init__(
        self,
        cuts: Mapping[DeviceId, Mapping[NamespaceId, ChainHead]],
        settled: Set[tuple[DeviceId, int, int]],
    ) -> None:
        self.cuts = cuts
        self.settled = settled
        self.open: list[_Revocation] = []
        self.gone: set[DeviceId] = set()
        self.seniority: dict[DeviceId, int] = {ROOT_DEVICE: 0}
        self.void: dict[DeviceId, DeviceRecord] = {}
        self.step = 0
        self.devices: dict[DeviceId, DeviceRecord] = {}
        self.invites: dict[str, Invite] = {}
        self.epochs: dict[NamespaceId, tuple[EpochRecord, ...]] = {}
        self.policies: dict[NamespaceId, Strategy] = {}
        self.claimed: dict[str, DeviceId] = {}
        self.pending: dict[str, Claim] = {}
        self.refused: list[Refusal] = []

    def apply(self, entry: ControlEntry, claims: Mapping[str, Claim]) -> None:
        self.step += 1
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
        if entry.device == ROOT_DEVICE or (entry.device, entry.seq, entry.index) in self.settled:
            return True
        author = self.devices.get(entry.device)
        if author is None or author.role != "admin":
            return False
        cut = self.cuts.get(entry.device)
        return cut is None or entry.seq <= cut.get(CONTROL, _NO_HEAD).seq

    def _admit(self, device: DeviceRecord) -> None:
        known = self.devices.get(device.device_id)
        if device.device_id in self.gone or (known and known.sign_key != device.sign_key):
            raise IntegrityError("that device id is taken, or was revoked")
        if known and ROLE_ORDER.index(device.role) < ROLE_ORDER.index(known.role):
            raise IntegrityError("a role can rise only: what was written under it stays accepted")
        self.devices[device.device_id] = device
        self.void.pop(device.device_id, None)
        if device.role == "admin":
            self.seniority.setdefault(device.device_id, self.step)

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
            or not all(isinstance(epoch, str) for epoch in epochs.values())
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
            self._make_void(claim.device, "its invite was void")
            return
        try:
            self._admit(replace(claim.device, role=invite.role))
        except IntegrityError as error:
            self.refused.append(Refusal(claim.device.device_id, 0, error.message))
            return
        self.claimed[invite_id] = claim.device.device_id
        self.pending[invite_id] = claim

    def _make_void(self, device: DeviceRecord, reason: str) -> None:
        if device.device_id not in self.devices:
            self.void[device.device_id] = device
        self.refused.append(Refusal(device.device_id, 0, reason))

    def _current(self, namespace: NamespaceId) -> EpochId | None:
        known = self.epochs.get(namespace, ())
        return known[-1].epoch if known else None

    def _epoch(self, entry: ControlEntry) -> None:
        event = entry.event
        namespace, epoch, members = event.get("namespace"), event.get("epoch"), event.get("members")
        if (
            not isinstance(namespace, str)
            or not is_namespace(namespace)
            or not isinstance(epoch, str)
            or not _EPOCH.fullmatch(epoch)
            or not isinstance(members, list)
            or not all(isinstance(member, str) for member in members)
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
        # One that was revoked is no member either, and is well known.
        revoked = self.gone | {revocation.device for revocation in self.open}
        for invite_id, claim in list(self.pending.items()):
            invite = self.invites[invite_id]
            if invite.epochs.get(space) in {r.epoch for r in known}:
                del self.pending[invite_id]
                if claim.device.device_id not in record.members | revoked:
                    known_as = self.devices.pop(claim.device.device_id, claim.device)
                    self.claimed.pop(invite_id, None)
                    self._make_void(known_as, "its invite was void: the key had changed")

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
        place = (entry.device, entry.seq, entry.index)
        if place in self.settled:
            self.gone.add(known.device_id)
        else:
            rank = (self.seniority.get(entry.device, self.step), self.step)
            self.open.append(_Revocation(known.device_id, heads, place, rank))

    def _policy(self, entry: ControlEntry) -> None:
        namespace, strategy = entry.event.get("namespace"), entry.event.get("strategy")
        known: dict[str, Strategy] = {name: name for name in get_args(Strategy)}
        if not isinstance(namespace, str) or not isinstance(strategy, str) or strategy not in known:
            raise IntegrityError("a policy's fields are not as they must be")
        self.policies[NamespaceId(namespace)] = known[strategy]

    def done(self) -> ControlState:
        devices = {
            name: replace(device, cut=self.cuts[name]) if name in self.gone else device
            for name, device in self.devices.items()
        }
        return ControlState(
            devices=devices,
            invites=self.invites,
            epochs=self.epochs,
            policies=self.policies,
            claimed=self.claimed,
            void=self.void,
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
