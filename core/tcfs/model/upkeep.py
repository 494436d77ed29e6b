"""What the fleet has agreed on about its store: marks, acknowledgements, retention, snapshots.

Pure, and part of the fold of the control ledger (``tcfs.model.membership``). A *mark* names packs
that its author found to be of no more use. From then on nobody counts on them for anything new; a
marked pack is deleted once every active device has said, in what it signed, that it had seen the
mark. No clock takes part. See FORMAT.md, sections *Control events* and *Garbage*.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, field

from tcfs.errors import IntegrityError, UsageError
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.event import ChainHead
from tcfs.model.ids import (
    CONTROL,
    ROOT_DEVICE,
    DeviceId,
    NamespaceId,
    PackId,
    SegmentHash,
    VersionId,
    is_namespace,
    is_uuid,
)
from tcfs.model.retention import MAX_DAYS, MAX_VERSIONS, Hold, RetentionPolicy, check_tag

MAX_MARKED: Final = 10_000
"""Packs that one mark names."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
Heads = Mapping[DeviceId, ChainHead]


class Mark(Struct, frozen=True):
    """Packs that are to go.

    Attributes:
        author, seq: the control segment that carries it.
        marked_at: unix seconds by its author's clock, for people alone.
    """

    author: DeviceId
    seq: int
    namespace: NamespaceId
    packs: tuple[PackId, ...]
    marked_at: int


class Acknowledgement(Struct, frozen=True):
    """What a device had seen when it last said so: of the control ledger and of each namespace."""

    seq: int
    control: Heads
    heads: Mapping[NamespaceId, Heads]


class SnapshotRecord(Struct, frozen=True):
    """A snapshot that an admin signed for: its object, and the chain heads it covers."""

    author: DeviceId
    seq: int
    namespace: NamespaceId
    id: str
    heads: Heads
    taken_at: int


class UpkeepState(Struct, frozen=True):
    """The fold of all upkeep events.

    Attributes:
        acks: the last acknowledgement of each device.
        holds: by namespace and tag.
        dismissed: losers of conflicts that somebody has let go.
        snapshots: of each namespace, in the order of the fold.
        compacted: ids of snapshots whose segments an admin has let go.
    """

    marks: tuple[Mark, ...] = ()
    acks: Mapping[DeviceId, Acknowledgement] = field(default_factory=dict)
    retention: Mapping[NamespaceId, RetentionPolicy] = field(default_factory=dict)
    holds: Mapping[tuple[NamespaceId, str], Hold] = field(default_factory=dict)
    dismissed: Mapping[NamespaceId, frozenset[VersionId]] = field(default_factory=dict)
    snapshots: Mapping[NamespaceId, tuple[SnapshotRecord, ...]] = field(default_factory=dict)
    compacted: frozenset[str] = frozenset()


class Upkeep:
    """Gathers upkeep events in the fold's order."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []
        self._acks: dict[DeviceId, Acknowledgement] = {}
        self._retention: dict[NamespaceId, RetentionPolicy] = {}
        self._holds: dict[tuple[NamespaceId, str], Hold] = {}
        self._dismissed: dict[NamespaceId, set[VersionId]] = {}
        self._snapshots: dict[NamespaceId, list[SnapshotRecord]] = {}
        self._compacted: set[str] = set()

    def apply(self, op: str, author: DeviceId, seq: int, event: Mapping[str, Any]) -> None:
        """Take one event whose author has the right to it. Raises IntegrityError."""
        if op == "ack":
            self._ack(author, seq, event)
            return
        namespace = _namespace(event.get("namespace"))
        if op == "mark":
            packs = event.get("packs")
            if not isinstance(packs, list) or not 0 < len(packs) <= MAX_MARKED:
                raise IntegrityError("a mark names no packs, or too many")
            ids = tuple(PackId(_digest(pack)) for pack in packs)
            self._marks.append(Mark(author, seq, namespace, ids, _time(event.get("marked_at"))))
        elif op == "retention":
            self._retention[namespace] = policy_from_json(event)
        elif op == "hold":
            hold = _hold(event)
            self._holds[namespace, hold.tag] = hold
        elif op == "release":
            self._holds.pop((namespace, str(event.get("tag"))), None)
        elif op == "dismiss":
            self._dismissed.setdefault(namespace, set()).update(_versions(event.get("versions")))
        elif op == "snapshot":
            record = SnapshotRecord(
                author,
                seq,
                namespace,
                _digest(event.get("id")),
                _heads(event.get("heads")),
                _time(event.get("taken_at")),
            )
            self._snapshots.setdefault(namespace, []).append(record)
        elif op == "compact":
            self._compacted.add(_digest(event.get("id")))
        else:
            raise IntegrityError("its kind is unknown to this version")

    def _ack(self, author: DeviceId, seq: int, event: Mapping[str, Any]) -> None:
        spaces = event.get("heads")
        if not isinstance(spaces, dict):
            raise IntegrityError("an acknowledgement has no heads")
        ack = Acknowledgement(
            seq,
            _heads(event.get("control")),
            {_namespace(space): _heads(heads) for space, heads in spaces.items()},
        )
        known = self._acks.get(author)
        if known is None or known.seq < seq:
            self._acks[author] = ack

    def done(self) -> UpkeepState:
        """The state so far."""
        return UpkeepState(
            marks=tuple(self._marks),
            acks=self._acks,
            retention=self._retention,
            holds=self._holds,
            dismissed={space: frozenset(found) for space, found in self._dismissed.items()},
            snapshots={space: tuple(found) for space, found in self._snapshots.items()},
            compacted=frozenset(self._compacted),
        )


class Progress(Struct, frozen=True):
    """What a device's last accepted segment of a namespace says that it had seen."""

    control: Heads = field(default_factory=dict)
    seen: Heads = field(default_factory=dict)


def is_past(
    device: DeviceId,
    author: DeviceId,
    seq: int,
    *,
    namespace: NamespaceId,
    progress: Progress,
    ack: Acknowledgement | None,
    heads: Heads,
    accepted: Container[tuple[DeviceId, ChainHead]],
) -> bool:
    """Whether a device has signed that it had seen a control segment, and all it wrote before is
    known here.

    Whatever it writes after that counts on no pack that the segment marks.

    Args:
        author, seq: the control segment.
        progress: what the device's last accepted segment of the namespace had seen.
        ack: the device's last acknowledgement.
        heads: the accepted heads of the namespace here.
        accepted: every accepted control segment, so that a branch that was cut off proves nothing.
    """
    if device == author:
        return True

    def covers(control: Heads) -> bool:
        head = control.get(author)
        return head is not None and head.seq >= seq and (author, head) in accepted

    if covers(progress.control):
        return True
    if ack is None or not covers(ack.control):
        return False
    own = ack.heads.get(namespace, {}).get(device)
    mine = heads.get(device)
    return own is None or (mine is not None and mine.seq >= own.seq)


# Events


def mark_event(namespace: NamespaceId, packs: Iterable[PackId], marked_at: int) -> dict[str, Any]:
    """These packs are to go. ``marked_at`` in unix seconds."""
    return {
        "op": "mark",
        "namespace": namespace,
        "packs": sorted(packs),
        "marked_at": marked_at,
    }


def ack_event(control: Heads, heads: Mapping[NamespaceId, Heads]) -> dict[str, Any]:
    """What a device had seen; only from a device that has acted on it."""
    return {
        "op": "ack",
        "control": heads_to_json(control),
        "heads": {space: heads_to_json(found) for space, found in sorted(heads.items())},
    }


def retention_event(namespace: NamespaceId, policy: RetentionPolicy) -> dict[str, Any]:
    """How much of the history of a namespace is kept."""
    return {
        "op": "retention",
        "namespace": namespace,
        "keep_days": policy.keep_days,
        "keep_versions": policy.keep_versions,
    }


def hold_event(namespace: NamespaceId, hold: Hold) -> dict[str, Any]:
    """A moment of the namespace is kept, by name."""
    return {
        "op": "hold",
        "namespace": namespace,
        "tag": hold.tag,
        "heads": heads_to_json(hold.heads),
    }


def release_event(namespace: NamespaceId, tag: str) -> dict[str, Any]:
    """A hold ends."""
    return {"op": "release", "namespace": namespace, "tag": tag}


def dismiss_event(namespace: NamespaceId, versions: Iterable[VersionId]) -> dict[str, Any]:
    """Somebody has looked at these losers of conflicts: they may go like any old version."""
    return {
        "op": "dismiss",
        "namespace": namespace,
        "versions": [[version.device, version.counter] for version in sorted(versions)],
    }


def snapshot_event(
    namespace: NamespaceId, snapshot_id: str, heads: Heads, taken_at: int
) -> dict[str, Any]:
    """An admin vouches for a snapshot. ``taken_at`` in unix seconds."""
    return {
        "op": "snapshot",
        "namespace": namespace,
        "id": snapshot_id,
        "heads": heads_to_json(heads),
        "taken_at": taken_at,
    }


def compact_event(namespace: NamespaceId, snapshot_id: str) -> dict[str, Any]:
    """The segments that a snapshot covers may go: it stands for them from now on."""
    return {"op": "compact", "namespace": namespace, "id": snapshot_id}


def heads_to_json(heads: Heads) -> dict[str, Any]:
    """Chain heads as an event carries them."""
    return {device: [head.seq, head.hash] for device, head in sorted(heads.items())}


def policy_from_json(event: Mapping[str, Any]) -> RetentionPolicy:
    """The policy of a ``retention`` event. Raises IntegrityError."""
    days, versions = event.get("keep_days"), event.get("keep_versions")
    for value, most in ((days, MAX_DAYS), (versions, MAX_VERSIONS)):
        if value is not None and not (type(value) is int and 0 < value <= most):
            raise IntegrityError("a retention policy's numbers are not as they must be")
    return RetentionPolicy(days, versions)


def _hold(event: Mapping[str, Any]) -> Hold:
    tag = event.get("tag")
    try:
        check_tag(tag if isinstance(tag, str) else "")
    except UsageError:
        raise IntegrityError("a hold's tag is not usable") from None
    return Hold(str(tag), _heads(event.get("heads")))


def _versions(value: object) -> list[VersionId]:
    if not isinstance(value, list):
        raise IntegrityError("an event names no versions")
    found = []
    for item in value:
        if (
            not isinstance(item, list)
            or len(item) != 2
            or not isinstance(item[0], str)
            or not is_uuid(item[0])
            or type(item[1]) is not int
            or not 0 < item[1] <= MAX_COUNTER
        ):
            raise IntegrityError("an event names something that is no version")
        found.append(VersionId(DeviceId(item[0]), item[1]))
    return found


def _namespace(value: object) -> NamespaceId:
    if not isinstance(value, str) or not is_namespace(value) or value == CONTROL:
        raise IntegrityError("an event names no namespace")
    return NamespaceId(value)


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise IntegrityError("an event names something that is no hash")
    return value


def _time(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNTER:
        raise IntegrityError("an event's time is none")
    return value


def _heads(value: object) -> dict[DeviceId, ChainHead]:
    if not isinstance(value, dict):
        raise IntegrityError("an event's heads are not an object")
    found: dict[DeviceId, ChainHead] = {}
    for device, head in value.items():
        if (
            not isinstance(device, str)
            or not (is_uuid(device) or device == ROOT_DEVICE)
            or not isinstance(head, list)
            or len(head) != 2
            or type(head[0]) is not int
            or not 0 < head[0] <= 9_999_999_999
        ):
            raise IntegrityError("an event's heads name something that is no chain's head")
        found[DeviceId(device)] = ChainHead(head[0], SegmentHash(_digest(head[1])))
    return found
