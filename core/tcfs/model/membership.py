"""The fold of the control ledger: who belongs to the repository, from all that was signed.

Pure: signatures and chains were verified before an event gets here. See FORMAT.md, section
*Control events*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.access import (
    ROLE_ORDER,
    Claim,
    ControlEntry,
    ControlState,
    DeviceRecord,
    EpochRecord,
    Invite,
    Refusal,
    Role,
    Strategy,
    parse_role,
)
from tcfs.model.control_fields import key_of, since_of
from tcfs.model.event import ChainHead
from tcfs.model.ids import (
    CONTROL,
    ROOT_DEVICE,
    DeviceId,
    EpochId,
    NamespaceId,
    SegmentHash,
    is_namespace,
    is_uuid,
)
from tcfs.model.paths import from_json_field
from tcfs.model.rules import (
    PERMISSIONS,
    Author,
    Change,
    GroupChange,
    Permission,
    RuleChange,
    Ruleset,
    check_pattern,
    check_subject,
    is_group,
)
from tcfs.model.upkeep import Upkeep

UPKEEP_RIGHTS: Final[Mapping[str, Role]] = {
    "ack": "reader",
    "mark": "writer",
    "dismiss": "writer",
    "retention": "admin",
    "hold": "admin",
    "release": "admin",
    "snapshot": "admin",
    "compact": "admin",
}
"""The role that each of the events of ``tcfs.model.upkeep`` takes; all others take an admin."""

_EPOCH = re.compile(r"[0-9a-f]{32}")
_NO_DELEGATE = "no rule lets its author set rules"
_NO_HEAD = ChainHead(0, SegmentHash(""))


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
    by_invite: dict[str, list[Claim]] = {}
    for claim in sorted(
        claims, key=lambda c: (c.claimed_at, c.device.device_id, c.device.sign_key)
    ):
        by_invite.setdefault(claim.invite_id, []).append(claim)
    ordered = sorted(set_of(entries), key=lambda e: (e.lamport, e.device, e.seq, e.index))
    cuts: dict[DeviceId, Mapping[NamespaceId, ChainHead]] = {}
    settled: set[tuple[DeviceId, int, int]] = set()
    while True:
        state = _Building(cuts, settled)
        for entry in ordered:
            state.apply(entry, by_invite)
        if not state.open:
            return state.done(by_invite)
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


class _Revocation(Struct, frozen=True):
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
        self.confirmed: set[str] = set()
        self.ousted: set[DeviceId] = set()
        self.given_away: set[EpochId] = set()
        self.refused: list[Refusal] = []
        self.changes: list[Change] = []
        self.upkeep = Upkeep()
        self.expired: set[DeviceId] = set()

    def apply(self, entry: ControlEntry, claims: Mapping[str, Sequence[Claim]]) -> None:
        self.step += 1
        try:
            op = entry.event.get("op")
            upkeep = UPKEEP_RIGHTS.get(op) if isinstance(op, str) else None
            if not self._may_speak(entry, upkeep or "admin"):
                if op != "acl" or not self._may_be_delegate(entry):
                    raise IntegrityError(f"its author was no {upkeep or 'admin'} at that point")
                self._acl(entry, Author(entry.device, entry.seq, entry.index))
            elif upkeep is not None:
                self.upkeep.apply(str(op), entry.device, entry.seq, entry.event)
            elif op == "admit":
                device = DeviceRecord.from_json(entry.event.get("device"))
                self._confirm(device, entry.event.get("invite_id"))
                self._admit(device)
            elif op == "invite":
                self._invite(entry, claims)
            elif op == "epoch":
                self._epoch(entry)
            elif op == "revoke":
                self._revoke(entry)
            elif op == "policy":
                self._policy(entry)
            elif op == "acl":
                self._acl(entry, None)
            elif op == "group":
                self._group(entry)
            else:
                raise IntegrityError("its kind is unknown to this version")
        except IntegrityError as error:
            self.refused.append(Refusal(entry.device, entry.seq, error.message, entry.index))

    def _may_speak(self, entry: ControlEntry, role: Role) -> bool:
        if entry.device == ROOT_DEVICE or (entry.device, entry.seq, entry.index) in self.settled:
            return True
        author = self.devices.get(entry.device)
        if author is None or ROLE_ORDER.index(author.role) < ROLE_ORDER.index(role):
            return False
        return self._within_cut(entry)

    def _may_be_delegate(self, entry: ControlEntry) -> bool:
        """Whether rules may have given its author the right to set rules: see ``_delegates``."""
        author = self.devices.get(entry.device)
        return author is not None and author.role == "writer" and self._within_cut(entry)

    def _within_cut(self, entry: ControlEntry) -> bool:
        cut = self.cuts.get(entry.device)
        return cut is None or entry.seq <= cut.get(CONTROL, _NO_HEAD).seq

    def _confirm(self, device: DeviceRecord, invite_id: object) -> None:
        """An admin says which device used an invite: a claim that is put in the place of that
        device's counts no more.
        """
        if invite_id is None:
            return
        if not isinstance(invite_id, str) or invite_id not in self.invites:
            raise IntegrityError("it confirms an invite that there is not")
        void = self.void.get(device.device_id)
        if void is not None and void.sign_key == device.sign_key:
            raise IntegrityError("it confirms the use of an invite that was void")
        holder = self.devices.get(self.claimed.get(invite_id, device.device_id))
        who = (device.device_id, device.sign_key)
        if holder is not None and (holder.device_id, holder.sign_key) != who:
            if self.invites[invite_id].admit:
                self._oust(device)
                raise IntegrityError("another device was admitted with that invite")
            del self.devices[holder.device_id]
            self._make_void(holder, "its invite was used by another device")
        self.claimed[invite_id] = device.device_id
        self.confirmed.add(invite_id)

    def _oust(self, device: DeviceRecord) -> None:
        """Two admins admitted different devices with one invite: this is the later one.

        It is no member, and was given the keys.
        """
        if device.device_id not in self.devices:
            self.void[device.device_id] = device
            self.ousted.add(device.device_id)
        self.given_away |= {known[-1].epoch for known in self.epochs.values()}

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

    def _invite(self, entry: ControlEntry, claims: Mapping[str, Sequence[Claim]]) -> None:
        event = entry.event
        epochs = event.get("epochs")
        role = parse_role(event.get("role"))
        invite_id, expires = event.get("invite_id"), event.get("expires_at")
        if (
            not isinstance(invite_id, str)
            or not is_uuid(invite_id)
            or type(expires) is not int
            or not isinstance(epochs, dict)
            or not all(isinstance(epoch, str) for epoch in epochs.values())
            or invite_id in self.invites
            or not isinstance(event.get("attest", {}), dict)
            or type(event.get("admit", False)) is not bool
        ):
            raise IntegrityError("an invite's fields are not as they must be")
        invite = Invite(
            invite_id,
            key_of(event.get("public_key")),
            role,
            expires,
            dict(epochs),
            entry.device,
            event.get("attest"),
            event.get("admit", False),
        )
        self.invites[invite_id] = invite
        if invite.admit or not claims.get(invite_id):
            return
        claim = claims[invite_id][0]
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
        self.seniority.pop(device.device_id, None)
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
            space,
            EpochId(epoch),
            key_of(event.get("commitment")),
            frozenset(members),
            len(self.changes),
        )
        self.epochs[space] = (*known, record)
        # An invite ends with the epoch it was made for. A claim the author of the new epoch had not
        # seen came too late: its device is not among the members and holds no key of this epoch.
        # One that was revoked before is not among them either, and its claim counted.
        for invite_id, claim in list(self.pending.items()):
            invite = self.invites[invite_id]
            if invite.epochs.get(space) in {r.epoch for r in known}:
                del self.pending[invite_id]
                # One that an admin confirmed may only have lost the right to read this namespace.
                known_to_author = record.members | self.gone
                if (
                    invite_id not in self.confirmed
                    and claim.device.device_id not in known_to_author
                ):
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
            # Distrust outweighs absence, whichever was said first.
            if entry.event.get("expired") is True and known.device_id not in self.gone:
                self.expired.add(known.device_id)
            elif entry.event.get("expired") is not True:
                self.expired.discard(known.device_id)
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

    def _acl(self, entry: ControlEntry, author: Author | None) -> None:
        event = entry.event
        namespace, given = event.get("namespace"), event.get("permissions")
        path = from_json_field("path", dict(event))
        if (
            not isinstance(namespace, str)
            or not is_namespace(namespace)
            or path is None
            or not (given is None or isinstance(given, list))
            or not all(p in PERMISSIONS for p in given or ())
        ):
            raise IntegrityError("a rule's fields are not as they must be")
        try:
            subject = check_subject(str(event.get("subject")))
            check_pattern(path)
        except UsageError as error:
            raise IntegrityError(error.message) from None
        permissions: frozenset[Permission] | None = None
        if given is not None:
            permissions = frozenset(p for p in PERMISSIONS if p in given)
        self.changes.append(
            RuleChange(NamespaceId(namespace), subject, path, permissions, since_of(event), author)
        )

    def _group(self, entry: ControlEntry) -> None:
        name, members = entry.event.get("name"), entry.event.get("members")
        if (
            not isinstance(name, str)
            or not is_group(name)
            or not isinstance(members, list)
            or not all(isinstance(m, str) and is_uuid(m) for m in members)
        ):
            raise IntegrityError("a group's fields are not as they must be")
        self.changes.append(GroupChange(name, frozenset(members), since_of(entry.event)))

    def _epochs(self, kept: Sequence[Change]) -> dict[NamespaceId, tuple[EpochRecord, ...]]:
        """The epochs, each with how many of the changes that count stand before it."""
        counted = {id(change) for change in kept}
        before = [0]
        for change in self.changes:
            before.append(before[-1] + (id(change) in counted))
        return {
            space: tuple(replace(record, rules=before[record.rules]) for record in known)
            for space, known in self.epochs.items()
        }

    def _delegates(self) -> Ruleset:
        """The changes that count: a rule of whom no admin's rule gave that right does not.

        Judged when all changes are known, since an admin's may come later in the order and yet
        hold for what the delegate said before.
        """
        every = Ruleset(tuple(self.changes))
        kept: list[Change] = []
        for change in every.changes:
            author = change.author if isinstance(change, RuleChange) else None
            if (
                author is None
                or not isinstance(change, RuleChange)
                or every.is_delegate(change.namespace, author)
            ):
                kept.append(change)
            else:
                self.refused.append(Refusal(author.device, author.seq, _NO_DELEGATE, author.index))
        return Ruleset(tuple(kept))

    def _requests(self, claims: Mapping[str, Sequence[Claim]]) -> Iterator[Claim]:
        """Claims that wait for an admin: of open invites with which nobody was admitted yet."""
        for invite_id, invite in sorted(self.invites.items()):
            ended = any(self._current(ns) != epoch for ns, epoch in invite.epochs.items())
            if not invite.admit or ended or invite_id in self.confirmed:
                continue
            seen: set[tuple[DeviceId, bytes]] = set()
            for claim in claims.get(invite_id, ()):
                device = claim.device
                who = (device.device_id, device.sign_key)
                taken = device.device_id in self.devices or device.device_id in self.void
                if who not in seen and not taken and claim.claimed_at <= invite.expires_at:
                    seen.add(who)
                    yield replace(claim, device=replace(device, role=invite.role))

    def done(self, claims: Mapping[str, Sequence[Claim]]) -> ControlState:
        devices = {
            name: replace(device, cut=self.cuts[name], expired=name in self.expired)
            if name in self.gone
            else device
            for name, device in self.devices.items()
        }
        rules = self._delegates()
        given_away = self.given_away | {
            record.epoch
            for known in self.epochs.values()
            for record in known
            if record.members & self.ousted
        }
        return ControlState(
            devices=devices,
            invites=self.invites,
            epochs=self._epochs(rules.changes),
            policies=self.policies,
            claimed=self.claimed,
            void=self.void,
            unconfirmed=tuple(sorted(self.claimed.keys() - self.confirmed)),
            requests=tuple(self._requests(claims)),
            given_away=frozenset(given_away),
            rules=rules,
            refused=tuple(self.refused),
            upkeep=self.upkeep.done(),
        )
