"""Content events that tell a list of chunks by what differs from an earlier one.

The list of a large file is long, and an edit changes little of it: told in full it would be more
bytes than the edit itself. So a version may say which of its device's earlier versions its list
begins and ends like, and name the chunks in between alone. The format is in FORMAT.md, section
History. Only those who read and write segments know of this: whatever else there is has lists in
full, by types that do not mix.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tcfs.errors import IntegrityError
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.event import ContentEvent
from tcfs.model.ids import ChunkId

_FIELDS: Final = {"of", "front", "back", "between"}
MAX_LIST: Final = 1 << 24
"""More chunks than the list of any file has."""


class AbridgedEvent(Struct, frozen=True, gc=False):
    """An event whose manifest names only those of its chunks that lie between two known runs.

    Attributes:
        event: the event; its manifest's chunks are those between, at least one.
        of: the counter of the earlier version of the same device whose list it goes by.
        front, back: how many chunks at the front and at the back of that list it has, too.
    """

    event: ContentEvent
    of: int
    front: int
    back: int

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values."""
        data = self.event.to_json()
        between = data["manifest"]["chunks"]
        data["manifest"]["chunks"] = {
            "of": self.of,
            "front": self.front,
            "back": self.back,
            "between": between,
        }
        return data

    def in_full(self, earlier: Sequence[ChunkId]) -> ContentEvent:
        """The event with the whole list.

        Args:
            earlier: the list of the version that it goes by, at least ``front + back`` long.
        """
        manifest = self.event.manifest
        chunks = (
            *earlier[: self.front],
            *manifest.chunks,
            *earlier[len(earlier) - self.back :],
        )
        return replace(self.event, manifest=replace(manifest, chunks=chunks))


ToldEvent = ContentEvent | AbridgedEvent
"""An event as a segment has it."""


def as_told(event: ToldEvent) -> ContentEvent:
    """The event, its list of chunks perhaps abridged: for those who do not ask for its content."""
    return event.event if isinstance(event, AbridgedEvent) else event


def abridge(
    event: ContentEvent, of: int, earlier: Sequence[ChunkId], untold: Container[ChunkId]
) -> AbridgedEvent:
    """The event by what its list has of an earlier one.

    Args:
        of: the counter of the version with that list.
        untold: chunks that have to be named, since the segment tells where they are.
    """
    chunks = event.manifest.chunks
    # One at least is named: a file that is not empty has a chunk, abridged or not.
    room = min(len(chunks) - 1, len(earlier))
    front = _in_common(chunks, earlier, room, untold)
    back = _in_common(chunks[::-1], earlier[::-1], room - front, untold)
    between = chunks[front : len(chunks) - back]
    manifest = replace(event.manifest, chunks=between)
    return AbridgedEvent(replace(event, manifest=manifest), of, front, back)


def _in_common(
    one: Sequence[ChunkId], other: Sequence[ChunkId], most: int, untold: Container[ChunkId]
) -> int:
    count = 0
    while count < most and one[count] == other[count] and one[count] not in untold:
        count += 1
    return count


def read_told(data: object) -> ToldEvent:
    """Read and check an event of a stranger, as a segment has it. Raises IntegrityError."""
    manifest = data.get("manifest") if isinstance(data, dict) else None
    chunks = manifest.get("chunks") if isinstance(manifest, dict) else None
    if not isinstance(data, dict) or not isinstance(chunks, dict):
        return ContentEvent.from_json(data)
    between = chunks.get("between")
    if chunks.keys() != _FIELDS or not between:
        raise IntegrityError("a manifest's list of chunks is abridged in an unknown way")
    event = ContentEvent.from_json({**data, "manifest": {**data["manifest"], "chunks": between}})
    of, front, back = (
        _count(chunks["of"], 1, min(event.counter - 1, MAX_COUNTER)),
        _count(chunks["front"], 0, MAX_LIST),
        _count(chunks["back"], 0, MAX_LIST),
    )
    return AbridgedEvent(event, of, front, back)


def _count(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise IntegrityError("a manifest's abridged list of chunks has a count out of bounds")
    return value
