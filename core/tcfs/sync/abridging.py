"""Lists of chunks in segments: told by what changed, and taken up in full.

A version's list goes by one of the same device, further back in the same chain: who takes up a
segment has taken up all of its chain before, refused events included. Versions are never
forgotten, so that this holds for whoever begins from a snapshot as well.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, cast

from tcfs.ledger.body import MAX_SINGLE_BODY
from tcfs.model.abridged import AbridgedEvent, ToldEvent, abridge
from tcfs.model.event import ContentEvent, SegmentHeader
from tcfs.model.ids import ChunkId, DeviceId, NamespaceId, VersionId
from tcfs.model.manifest import HASH_SIZE
from tcfs.sync.context import Context

WORTH: Final = 16
"""Chunks that need not be named, for which an abridged list is worth looking for."""
MAX_LISTED: Final = MAX_SINGLE_BODY // (2 * HASH_SIZE + 3)
"""Chunks in the lists of a segment, told in full: no more than its body could have named."""


def abridged(
    context: Context,
    namespace: NamespaceId,
    events: Sequence[ContentEvent],
    untold: Container[ChunkId],
) -> list[ToldEvent]:
    """Events as this device's next segment will have them.

    Args:
        untold: chunks whose place the segment tells.
    """
    long = [len(e.manifest.chunks) for e in events if len(e.manifest.chunks) > WORTH]
    if not long or sum(long) > MAX_LISTED - len(events):
        return list(events)
    return [_abridged(context, namespace, event, untold) for event in events]


def _abridged(
    context: Context, namespace: NamespaceId, event: ContentEvent, untold: Container[ChunkId]
) -> ToldEvent:
    manifest = event.manifest
    if len(manifest.chunks) <= WORTH:
        return event
    device, history = context.identity.device_id, context.state.history
    for path in (manifest.rel_path, event.moved_from):
        last = history.last_of(namespace, device, path) if path is not None else None
        if last is not None:
            found = abridge(event, last.id.counter, last.manifest.chunks, untold)
            if found.front + found.back >= WORTH:
                return found
    return event


def in_full(
    context: Context, header: SegmentHeader, events: Sequence[ToldEvent]
) -> Sequence[ContentEvent]:
    """Events of a verified segment, once all of its chain before it was taken up.

    A list that goes by one that is not there or too short, or that makes the segment's lists
    longer than they may be, stays as it is: chunks that do not make up the content. Honest devices
    write none such; whoever asks for that content is told that it is damaged.
    """
    if AbridgedEvent not in set(map(type, events)):
        return cast(Sequence[ContentEvent], events)
    found: list[ContentEvent] = []
    room = MAX_LISTED
    for event in events:
        if not isinstance(event, AbridgedEvent):
            found.append(event)
            continue
        whole = event.event
        room -= event.front + event.back + len(whole.manifest.chunks)
        earlier = _list_of(context, header.namespace, header.device, event.of)
        if room >= 0 and event.front + event.back <= len(earlier):
            whole = event.in_full(earlier)
        found.append(whole)
    return found


def _list_of(
    context: Context, namespace: NamespaceId, device: DeviceId, counter: int
) -> tuple[ChunkId, ...]:
    version = VersionId(device, counter)
    state = context.state
    found = state.history.version(namespace, version) or state.refused.version(namespace, version)
    return found.manifest.chunks if found is not None else ()
