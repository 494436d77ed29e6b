"""What devices tell each other: one JSON object for each change, as users of tcfs know them.

``type`` is one of ``file_synced``, ``file_deleted``, ``file_renamed``, ``device_online``,
``device_offline`` and ``conflict_resolved``; every event has ``device_id`` and ``timestamp``, and
besides what belongs to its type ``head``: where the sender's chain ends, which is all that a
receiver acts on. In an encrypted repository an event does not say what the server of the bus must
not learn: paths, hashes and sizes are empty, unless the configuration lets them be told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tcfs.live.base import MAX_EVENT, Message
from tcfs.model.event import ChainHead, Version
from tcfs.model.ids import DeviceId, NamespaceId, SegmentHash, VersionId, is_uuid
from tcfs.model.paths import show

MAX_EVENTS: Final = 1000
"""Events for one segment. A larger push tells of its first paths and how many it left out."""

Lookup = Callable[[VersionId], Version | None]


@dataclass(frozen=True, slots=True)
class Announcement:
    """A segment of this device that the others are to be told of."""

    device: DeviceId
    namespace: NamespaceId
    head: ChainHead
    versions: Sequence[Version]
    timestamp: int


def messages_of(made: Announcement, lookup: Lookup, *, tell_paths: bool) -> list[Message]:
    """The events of one segment. Each has an id of its own, the same every time.

    Args:
        lookup: finds a version by its id, to say how a conflict was settled.
        tell_paths: whether the bus may learn paths, hashes and sizes.
    """
    moved = {v.moved_from for v in made.versions if v.moved_from is not None}
    told: dict[str, dict[str, Any]] = {}
    total = 0
    for version in made.versions:
        if version.op == "delete" and version.manifest.rel_path in moved:
            continue
        event = _event(version, lookup, made, tell_paths=tell_paths)
        total += 1
        # Events that hide their paths say no more than the first of their kind.
        name = str(version.id.counter) if tell_paths else event["type"]
        if len(told) < MAX_EVENTS:
            told.setdefault(name, event)
    prefix = f"{made.namespace}/{made.device}/{made.head.seq}"
    messages = []
    for name, event in told.items():
        event |= {
            "device_id": made.device,
            "timestamp": made.timestamp,
            "head": _head(made.namespace, made.head),
        }
        if total > len(told):
            event["left_out"] = total - len(told)
        messages.append(_message(made.device, event, f"{prefix}/{name}"))
    return messages


def presence(
    kind: str, device: DeviceId, namespace: NamespaceId, head: ChainHead | None, now: float
) -> Message:
    """``device_online`` or ``device_offline``."""
    event: dict[str, Any] = {"type": kind, "device_id": device, "timestamp": int(now)}
    event["last_seq"] = head.seq if head else 0
    if head is not None:
        event["head"] = _head(namespace, head)
    return _message(device, event, f"{kind}/{device}/{int(now * 1000)}")


def _event(
    version: Version, lookup: Lookup, made: Announcement, *, tell_paths: bool
) -> dict[str, Any]:
    m = version.manifest
    path = show(m.rel_path) if tell_paths else ""
    clock = {"clocks": dict(m.vclock.clocks)}
    if len(m.parents) > 1:
        resolution = _resolution(version, lookup)
        if resolution:
            return {
                "type": "conflict_resolved",
                "rel_path": path,
                "resolution": resolution,
                "merged_vclock": clock,
            }
    if version.op == "delete":
        return {"type": "file_deleted", "rel_path": path, "vclock": clock}
    if version.moved_from is not None:
        old = show(version.moved_from) if tell_paths else ""
        return {"type": "file_renamed", "old_path": old, "new_path": path, "vclock": clock}
    segment = f"ledger/{made.namespace}/{made.device}/{made.head.seq}"
    return {
        "type": "file_synced",
        "rel_path": path,
        "blake3": m.file_hash.hex() if tell_paths else "",
        "size": m.file_size if tell_paths else 0,
        "vclock": clock,
        "manifest_path": f"{segment}#{version.id.counter}" if tell_paths else "",
    }


def _resolution(version: Version, lookup: Lookup) -> str:
    """How a version with several parents settled them; empty if they said the same anyway."""
    parents = [found for parent in version.manifest.parents if (found := lookup(parent))]
    contents = {parent.manifest.content for parent in parents}
    if len(contents) < 2:
        return ""
    for parent in parents:
        if parent.manifest.content == version.manifest.content:
            own = parent.id.device == version.id.device
            return "keep_local" if own else "keep_remote"
    return "merge"


def _head(namespace: NamespaceId, head: ChainHead) -> dict[str, Any]:
    return {"namespace": namespace, "seq": head.seq, "hash": head.hash}


def _message(device: DeviceId, event: dict[str, Any], identity: str) -> Message:
    data = json.dumps(event, separators=(",", ":"), sort_keys=True).encode("ascii")
    return Message(f"STATE.{device}.{event['type']}", data, identity)


@dataclass(frozen=True, slots=True)
class Heard:
    """What is taken from an event: who says to have something, and up to where.

    ``head`` is None where the event does not tell, or tells nothing that makes sense.
    """

    device: DeviceId
    kind: str
    namespace: str = ""
    head: ChainHead | None = None


def hear(subject: str, data: bytes) -> Heard | None:
    """Read an event of a stranger; None if it is none.

    The device is the one in the subject, which a server can restrict by rights.
    """
    parts = subject.split(".")
    if len(parts) != 3 or parts[0] != "STATE" or not is_uuid(parts[1]):
        return None
    device, kind = DeviceId(parts[1]), parts[2]
    if len(data) > MAX_EVENT:
        return None
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("device_id") != device:
        return None
    head = event.get("head")
    if not isinstance(head, dict):
        return Heard(device, kind)
    namespace, seq, digest = head.get("namespace"), head.get("seq"), head.get("hash")
    if not isinstance(namespace, str) or not isinstance(digest, str):
        return Heard(device, kind)
    if type(seq) is not int or not 0 < seq < 1 << 63:
        return Heard(device, kind)
    return Heard(device, kind, namespace, ChainHead(seq, SegmentHash(digest)))
