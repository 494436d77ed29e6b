"""Vector clocks: who had seen what when a version was written.

The partial order is that of Fidge and Mattern: one clock is at or before another if no entry of it
is higher. A missing entry is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from tcfs.errors import IntegrityError
from tcfs.model.ids import ROOT_DEVICE, DeviceId, VersionId, is_uuid

MAX_COUNTER = 2**63 - 1


class Ordering(Enum):
    """How two clocks stand to each other."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


class VectorClock:
    """An immutable map from device to the highest counter seen of it."""

    __slots__ = ("_clocks",)

    def __init__(self, clocks: Mapping[DeviceId, int] | None = None) -> None:
        self._clocks: dict[DeviceId, int] = dict(clocks) if clocks else {}

    @property
    def clocks(self) -> Mapping[DeviceId, int]:
        """The entries; treat as read-only."""
        return self._clocks

    def get(self, device: DeviceId) -> int:
        """The counter of a device; 0 if it was never seen."""
        return self._clocks.get(device, 0)

    def with_version(self, version: VersionId) -> VectorClock:
        """This clock with one version added."""
        device, counter = version
        made = VectorClock(self._clocks)
        if made._clocks.get(device, 0) < counter:
            made._clocks[device] = counter
        return made

    def compare(self, other: VectorClock) -> Ordering:
        """Where this clock stands relative to ``other``."""
        before = all(count <= other.get(device) for device, count in self._clocks.items())
        after = all(count <= self.get(device) for device, count in other._clocks.items())
        if before and after:
            return Ordering.EQUAL
        if before:
            return Ordering.BEFORE
        return Ordering.AFTER if after else Ordering.CONCURRENT

    def to_json(self) -> dict[str, Any]:
        """The form of SyncManifest v2."""
        return {"clocks": self._clocks}

    @classmethod
    def from_json(cls, data: object) -> VectorClock:
        """Read the form of SyncManifest v2. Raises IntegrityError."""
        clocks = data.get("clocks") if isinstance(data, dict) else None
        if not isinstance(clocks, dict):
            raise IntegrityError("a vector clock has no 'clocks'")
        for device, count in clocks.items():
            if not (type(count) is int and 0 <= count <= MAX_COUNTER):
                raise IntegrityError("a vector clock's entry is not a count")
            if not is_uuid(device) and device != ROOT_DEVICE:
                raise IntegrityError("a vector clock names no device")
        return cls.of(clocks)

    @classmethod
    def of(cls, clocks: dict[Any, int]) -> VectorClock:
        """The clock with these entries, which are valid and which nobody else will change."""
        clock = cls.__new__(cls)
        clock._clocks = clocks
        return clock

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorClock) and self.compare(other) is Ordering.EQUAL

    def __hash__(self) -> int:
        return hash(frozenset((d, c) for d, c in self._clocks.items() if c))

    def __repr__(self) -> str:
        return f"VectorClock({self._clocks!r})"


def merge(clocks: Iterable[VectorClock]) -> VectorClock:
    """The least clock that is at or after all of these."""
    merged: dict[DeviceId, int] = {}
    for clock in clocks:
        for device, count in clock.clocks.items():
            if count > merged.get(device, 0):
                merged[device] = count
    return VectorClock(merged)
