"""Versions kept in memory since they were added, so that a first pull need not read them back.

What is live, and which versions there are, the database alone says: these are their contents, which
never change for an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tcfs.model.event import ContentEvent, SegmentHeader, Version
from tcfs.model.ids import NamespaceId, VersionId

MOST: Final = 100_000
"""Versions; of more none is kept, for the sake of memory."""


class Fresh:
    """The versions, by namespace and id, until somebody says to let go of them."""

    def __init__(self) -> None:
        self._versions: dict[NamespaceId, dict[VersionId, Version]] = {}

    def of(self, namespace: NamespaceId) -> Mapping[VersionId, Version]:
        """Those of a namespace."""
        return self._versions.get(namespace, {})

    def keep(
        self, namespace: NamespaceId, header: SegmentHeader, events: Sequence[ContentEvent]
    ) -> None:
        """Remember what a segment added, all of it new."""
        kept = self._versions.setdefault(namespace, {})
        if len(kept) + len(events) > MOST:
            self.forget()
            return
        device, lamport, seq = header.device, header.lamport, header.seq
        for event in events:
            made = VersionId(device, event.counter)
            kept[made] = Version(made, lamport, seq, event.op, event.manifest, event.moved_from)

    def forget(self) -> None:
        """Let go of all."""
        self._versions.clear()
