"""The control ledger: who belongs to the repository, read from nothing but the root's public key.

The key of a control chain comes from an event in another control chain; the root's from
``format.json``. So chains are verified in rounds: the root's first, then those of the devices that
became known, until a round teaches nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from blake3 import blake3

from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.chain import Finding, KnownSegment, next_place
from tcfs.ledger.claim import CLAIMS_PREFIX, invite_of, parse_claim
from tcfs.ledger.fetch import fetch
from tcfs.ledger.keys import namespace_prefix, parse_key
from tcfs.ledger.segment import (
    SealedSegment,
    Segment,
    SegmentDraft,
    Signer,
    open_segment,
    seal_segment,
)
from tcfs.ledger.walk import FetchResult
from tcfs.model.access import (
    Claim,
    ControlEntry,
    ControlState,
    DeviceRecord,
    Invite,
)
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, ROOT_DEVICE, DeviceId, StoreKey
from tcfs.model.membership import fold_control
from tcfs.model.paths import to_json_field
from tcfs.store.base import BlobStore, ETag, ObjectInfo, ObjectMissing


@dataclass(frozen=True, slots=True)
class ControlView:
    """The control ledger as it was read.

    Attributes:
        heads: accepted heads of the control chains.
        known: what to know of each accepted segment, to append after them.
        verified: every control segment whose signature held, those past a fork included.
        fresh: verified objects that were read from the store and are not in the cache yet. What
            does not verify is read again each time, since it may have been damaged on its way.
        findings: whatever is not as it should be, in the objects or in the store's listing of them.
        segments: the accepted ones, in causal order.
        objects: all of what it was read from.
        doubts: of the findings those that follow from the objects alone.
        opened: segments whose signatures held, by key and public key.
    """

    state: ControlState
    heads: Mapping[DeviceId, ChainHead]
    known: Mapping[tuple[DeviceId, ChainHead], KnownSegment] = field(repr=False)
    verified: frozenset[tuple[DeviceId, ChainHead]] = field(repr=False)
    fresh: Mapping[StoreKey, bytes] = field(repr=False)
    findings: tuple[Finding, ...]
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    objects: Mapping[StoreKey, bytes] = field(default_factory=dict, repr=False)
    doubts: tuple[Finding, ...] = field(default=(), repr=False)
    opened: Mapping[tuple[StoreKey, bytes], Segment] = field(default_factory=dict, repr=False)

    def knows(self, device: DeviceId, head: ChainHead) -> bool:
        """Whether this control segment is here, for ``fetch(control_known=...)``."""
        return (device, head) in self.verified


def load_control(
    store: BlobStore | None,
    *,
    repo: UUID,
    root_key: bytes,
    cached: Mapping[StoreKey, bytes] | None = None,
    last: ControlView | None = None,
) -> ControlView:
    """Read and verify the whole control ledger.

    Args:
        store: None to go by ``cached`` alone, without any traffic.
        root_key: the root's public key, from ``format.json``.
        cached: objects that earlier calls returned as ``fresh``; never read again. They count
            even if the store lost them, since a revocation must not vanish; that is a finding.
        last: what an earlier call returned, which stands for as long as the objects are the same;
            the signatures of segments that are the same are not checked again.

    Raises:
        StoreError: the store failed.
    """
    before = {} if last is None else last.objects
    objects = {
        key: data
        for key, data in (cached or {}).items()
        if before.get(key) == data or _whole(key, data)
    }
    fresh: dict[StoreKey, bytes] = {}
    findings: list[Finding] = []
    if store is not None:
        listed = {
            info.key: info.size
            for prefix in (namespace_prefix(CONTROL), CLAIMS_PREFIX)
            for info in store.list(prefix)
        }
        for key in listed.keys() - objects.keys():
            fresh[key] = store.get(key)
        findings += [_vanished(key) for key in sorted(objects.keys() - listed.keys())]
    if last is not None and not fresh and objects == before:
        return replace(last, fresh={}, findings=(*findings, *last.doubts))
    objects |= fresh
    reader = _Reader(objects, repo)
    if last is not None:
        same = {key for key, data in objects.items() if before.get(key) == data}
        reader.opened |= {place: found for place, found in last.opened.items() if place[0] in same}
    keys: dict[DeviceId, bytes] = {ROOT_DEVICE: root_key}
    claims: list[Claim] = []
    # A round teaches the keys of devices, and the invites by which claims are verified; what can be
    # learned is bounded by the objects at hand.
    for _ in range(len(objects) + 2):
        result = reader.read(keys)
        state = fold_control(_entries(result.segments), claims)
        signers = {name: state.sign_key(name) for name in reader.devices}
        learned = {name: found for name, found in signers.items() if found is not None}
        learned[ROOT_DEVICE] = root_key
        believed, doubts = reader.claims(state.invites)
        if learned == keys and believed == claims:
            trusted = reader.believed(keys)
            strangers = [_stranger(name) for name in sorted(reader.devices - keys.keys())]
            doubts = [*doubts, *strangers, *result.findings]
            return ControlView(
                state=state,
                heads=result.heads,
                known=result.known,
                verified=reader.verified(keys),
                fresh={key: data for key, data in fresh.items() if key in trusted},
                findings=(*findings, *doubts),
                segments=result.segments,
                objects=objects,
                doubts=tuple(doubts),
                opened={
                    place: found
                    for place, found in reader.opened.items()
                    if isinstance(found, Segment)
                },
            )
        keys, claims = learned, believed
    raise IntegrityError("the control ledger contradicts itself: its members cannot be told")


class _Reader:
    """The control segments at hand, as a source for ``fetch``."""

    def __init__(self, objects: Mapping[StoreKey, bytes], repo: UUID) -> None:
        self._repo = repo
        self._objects = {
            key: data
            for key, data in sorted(objects.items())
            if key.startswith(namespace_prefix(CONTROL))
        }
        self._claims = {
            key: data for key, data in sorted(objects.items()) if key.startswith(CLAIMS_PREFIX)
        }
        self.opened: dict[tuple[StoreKey, bytes], Segment | IntegrityError] = {}
        self._read: dict[tuple[StoreKey, bytes], Claim | IntegrityError] = {}
        self._keys: Mapping[DeviceId, bytes] = {}
        self.devices = {DeviceId(key.split("/")[2]) for key in self._objects}

    def read(self, keys: Mapping[DeviceId, bytes]) -> FetchResult:
        self._keys = keys
        return fetch(
            self,
            CONTROL,
            {},
            self._open,
            known=lambda device, head: None,
            state=None,
            budget=1 << 62,
            workers=1,
        )

    def verified(self, keys: Mapping[DeviceId, bytes]) -> frozenset[tuple[DeviceId, ChainHead]]:
        self._keys = keys
        found: set[tuple[DeviceId, ChainHead]] = set()
        for key, data in self._objects.items():
            try:
                segment = self._open(key, data)
            except (IntegrityError, AccessError):
                continue
            found.add((segment.header.device, segment.head))
        return frozenset(found)

    def claims(self, invites: Mapping[str, Invite]) -> tuple[list[Claim], list[Finding]]:
        """The claims whose signatures hold, and what is wrong with the others."""
        found: list[Claim] = []
        doubts: list[Finding] = []
        for key, data in self._claims.items():
            invite = invites.get(invite_of(key))
            if invite is None:
                doubts.append(_doubt(f"{key}: no invite is known for it"))
                continue
            claim = self._read.get((key, invite.public_key))
            if claim is None:
                try:
                    claim = parse_claim(
                        key,
                        data,
                        self._repo,
                        invite.public_key,
                        invite.attest,
                        admit=invite.admit,
                    )
                except IntegrityError as error:
                    claim = error
                self._read[key, invite.public_key] = claim
            if isinstance(claim, Claim):
                found.append(claim)
            else:
                doubts.append(_doubt(claim.message))
        return found, doubts

    def believed(self, keys: Mapping[DeviceId, bytes]) -> set[StoreKey]:
        """The keys of the objects whose signatures hold."""
        places = self.verified(keys)
        found = {key for key in self._objects if _place(key) in places}
        return found | {key for (key, _), claim in self._read.items() if isinstance(claim, Claim)}

    def _open(self, key: StoreKey, data: bytes) -> Segment:
        device = parse_key(key).device
        sign_key = self._keys.get(device)
        if sign_key is None:
            raise AccessError(f"{key}: its device is not known")
        known = self.opened.get((key, sign_key))
        if known is None:
            try:
                known = open_segment(
                    key, data, repo=self._repo, sign_key=sign_key, encryption=False, keyring=None
                )
            except IntegrityError as error:
                known = error
            self.opened[key, sign_key] = known
        if isinstance(known, IntegrityError):
            raise known
        return known

    # -- SegmentSource: only the chains whose keys are known so far ----------------------------

    def get(self, key: StoreKey) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectMissing(f"no object {key}") from None

    def list_dirs(self, prefix: str) -> list[str]:
        return sorted(self.devices & self._keys.keys())

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        for key, data in self._objects.items():
            if key.startswith(prefix) and key > after:
                yield ObjectInfo(key, len(data), ETag(""))


def _entries(segments: Iterable[Segment]) -> list[ControlEntry]:
    return [
        ControlEntry(segment.header.lamport, segment.header.device, segment.header.seq, i, event)
        for segment in segments
        for i, event in enumerate(segment.control_events)
    ]


def _whole(key: StoreKey, data: bytes) -> bool:
    """Whether what was cached under a segment's key is still what the key names."""
    place = _place(key)
    return place is None or blake3(data).hexdigest() == place[1].hash


def _place(key: StoreKey) -> tuple[DeviceId, ChainHead] | None:
    try:
        ref = parse_key(key)
    except IntegrityError:
        return None
    return ref.device, ChainHead(ref.seq, ref.hash)


def _vanished(key: StoreKey) -> Finding:
    reason = f"the store no longer has {key}"
    try:
        ref = parse_key(key)
    except IntegrityError:
        return Finding("rollback", CONTROL, ROOT_DEVICE, 0, reason, "error")
    return Finding("rollback", CONTROL, ref.device, ref.seq, reason, "error")


def _stranger(device: DeviceId) -> Finding:
    return Finding("refused", CONTROL, device, 0, "its device was never admitted", "warning")


def _doubt(reason: str) -> Finding:
    return Finding("refused", CONTROL, ROOT_DEVICE, 0, reason, "warning")


# -- writing -----------------------------------------------------------------------------------


def control_segment(
    view: ControlView,
    events: Sequence[Mapping[str, Any]],
    *,
    repo: UUID,
    signer: Signer,
    salt: bytes,
    written_at: int,
) -> SealedSegment:
    """The signer's next control segment. Nothing is written; put it after its key objects.

    Args:
        salt: 32 fresh random bytes.
        written_at: unix seconds, for people.
    """
    place = next_place(
        CONTROL,
        signer.device_id,
        heads=view.heads,
        known=lambda device, head: view.known.get((device, head)),
    )
    draft = SegmentDraft(place, written_at, control_events=events)
    return seal_segment(draft, repo=repo, signer=signer, salt=salt)


def admit_event(device: DeviceRecord, invite_id: str | None = None) -> dict[str, Any]:
    """A device belongs to the repository, with its role; ``invite_id`` if it used that invite."""
    data = {"op": "admit", "device": device.to_json()}
    return data if invite_id is None else data | {"invite_id": invite_id}


def confirmations(state: ControlState) -> list[dict[str, Any]]:
    """The events that confirm who used which invite.

    A claim is signed with the invite's key, which whoever has seen the code holds. Until an admin
    confirmed it, such a person who can write to the store could put another in its place.
    """
    return [
        admit_event(device, invite_id)
        for invite_id in state.unconfirmed
        if (device := state.devices.get(state.claimed[invite_id])) and not device.revoked
    ]


def invite_event(
    invite_id: str,
    public_key: bytes,
    role: str,
    expires_at: int,
    epochs: Mapping[Any, Any],
    attest: Mapping[str, Any] | None = None,
    *,
    admit: bool = False,
) -> dict[str, Any]:
    """Whoever holds the invite's key may join once, until ``expires_at`` (unix seconds).

    ``attest``: only with a TPM's quote; see ``ledger.attestation``. ``admit``: only once an admin
    has admitted the device.
    """
    asked: dict[str, Any] = {} if attest is None else {"attest": dict(attest)}
    if admit:
        asked["admit"] = True
    return {
        **asked,
        "op": "invite",
        "invite_id": invite_id,
        "public_key": public_key.hex(),
        "role": role,
        "expires_at": expires_at,
        "epochs": dict(epochs),
    }


def epoch_event(
    namespace: str, epoch: str, commitment: bytes, members: Iterable[DeviceId]
) -> dict[str, Any]:
    """A namespace's new epoch: what its secrets hash to, and who was given them."""
    return {
        "op": "epoch",
        "namespace": namespace,
        "epoch": epoch,
        "commitment": commitment.hex(),
        "members": sorted(members),
    }


def revoke_event(
    device_id: DeviceId, cut: Mapping[Any, ChainHead], reason: str, *, expired: bool = False
) -> dict[str, Any]:
    """A device belongs no more; ``cut`` has the last accepted head of each of its chains.

    ``expired``: it was away too long, and is not distrusted.
    """
    heads = {space: [head.seq, head.hash] for space, head in sorted(cut.items())}
    event = {"op": "revoke", "device_id": device_id, "cut": heads, "reason": reason}
    return event | {"expired": True} if expired else event


def policy_event(namespace: str, strategy: str) -> dict[str, Any]:
    """How mode ``auto`` settles conflicts in a namespace."""
    return {"op": "policy", "namespace": namespace, "strategy": strategy}


def acl_event(
    namespace: str,
    subject: str,
    path: bytes,
    permissions: Iterable[str] | None,
    since: Mapping[Any, Mapping[Any, int]],
) -> dict[str, Any]:
    """A rule, or the end of one (None); ``since`` has the last seq that it does not concern."""
    return {
        "op": "acl",
        "namespace": namespace,
        "subject": subject,
        **to_json_field("path", path),
        "permissions": None if permissions is None else sorted(permissions),
        "since": {space: dict(chains) for space, chains in since.items()},
    }


def group_event(
    name: str, members: Iterable[DeviceId], since: Mapping[Any, Mapping[Any, int]]
) -> dict[str, Any]:
    """Who belongs to a group from here on."""
    return {
        "op": "group",
        "name": name,
        "members": sorted(members),
        "since": {space: dict(chains) for space, chains in since.items()},
    }
