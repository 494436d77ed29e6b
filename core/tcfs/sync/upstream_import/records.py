"""What an imported version remembers of upstream, and what a later import makes of that.

Our own clocks count what our devices wrote, and say nothing of upstream's. So upstream's clock of
a file is kept beside them, as it was, in the field ``imported`` of the version's manifest. Which of
two upstream versions is newer follows from these clocks alone, by upstream's own rule
(``compare_clocks``): equal content is up to date whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from tcfs.model.clock import MAX_COUNTER, Ordering, VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import DeviceId, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import show

FIELD: Final = "imported"
MOST_DEVICES: Final = 256
MOST_TEXT: Final = 256
_SHOWN: Final = 10

Standing = Literal["new", "up_to_date", "newer", "older", "conflict"]


class Imported(Struct, frozen=True):
    """What upstream said of a version.

    Attributes:
        manifest_hash: BLAKE3 of its content, hex: upstream's name of its manifest.
        clocks: how often each of upstream's devices had written it; a version 1 manifest has none.
        written_at: unix seconds; 0 where it does not say.
    """

    manifest_hash: str
    clocks: tuple[tuple[str, int], ...] = ()
    written_by: str = ""
    written_at: int = 0

    @property
    def usable(self) -> bool:
        """Whether it is small enough to be carried in a manifest."""
        return (
            len(self.clocks) <= MOST_DEVICES
            and all(len(d) <= MOST_TEXT and 0 <= n <= MAX_COUNTER for d, n in self.clocks)
            and len(self.written_by) <= MOST_TEXT
            and 0 <= self.written_at <= MAX_COUNTER
        )

    @property
    def clock(self) -> VectorClock:
        """Upstream's vector clock. Its devices are none of ours: never mix the two."""
        return VectorClock({DeviceId(device): count for device, count in self.clocks})

    def to_json(self) -> dict[str, Any]:
        """The field of the manifest."""
        return {
            "manifest_hash": self.manifest_hash,
            "vclock": {"clocks": dict(self.clocks)},
            "written_by": self.written_by,
            "written_at": self.written_at,
        }

    def text(self) -> str:
        """For people, on one line."""
        clock = ", ".join(f"{show(d.encode())} {n}" for d, n in self.clocks[:_SHOWN])
        by = f" by {show(self.written_by.encode())}" if self.written_by else ""
        return f"written{by} in the Rust tcfs" + (f", clock {clock}" if clock else "")


def imported_of(manifest: SyncManifest) -> Imported | None:
    """What a version remembers of upstream; None where nothing, or nothing usable, is there."""
    data = manifest.extra.get(FIELD)
    vclock = data.get("vclock") if isinstance(data, dict) else None
    clocks = vclock.get("clocks") if isinstance(vclock, dict) else None
    if not isinstance(data, dict) or not isinstance(clocks, dict):
        return None
    digest, by, at = data.get("manifest_hash"), data.get("written_by"), data.get("written_at")
    if (
        not isinstance(digest, str)
        or not isinstance(by, str)
        or type(at) is not int
        or not all(type(count) is int for count in clocks.values())
    ):
        return None
    found = Imported(digest, tuple(sorted(clocks.items())), by, at)
    return found if found.usable else None


def without_record(manifest: SyncManifest) -> dict[str, Any]:
    """The extra fields of a manifest for a version that is no longer what upstream had."""
    return {name: value for name, value in manifest.extra.items() if name != FIELD}


def latest(versions: Sequence[Version]) -> list[tuple[Version, Imported]]:
    """Of a path's imported versions those whose upstream clock no other's is beyond."""
    found = [(version, record) for version in versions if (record := imported_of(version.manifest))]
    return [
        (version, record)
        for version, record in found
        if not any(record.clock.compare(other.clock) is Ordering.BEFORE for _, other in found)
    ]


def standing(
    upstream: Imported, known: Sequence[tuple[Version, Imported]]
) -> tuple[Standing, tuple[VersionId, ...]]:
    """How upstream's version stands to what was imported before, and what it would replace.

    Args:
        known: ``latest`` of the path's versions.
    """
    if not known:
        return "new", ()
    if any(record.manifest_hash == upstream.manifest_hash for _, record in known):
        return "up_to_date", ()
    orders = [(version.id, upstream.clock.compare(record.clock)) for version, record in known]
    if any(order is Ordering.BEFORE for _, order in orders):
        return "older", ()
    replaced = tuple(version for version, order in orders if order is Ordering.AFTER)
    return ("newer" if len(replaced) == len(orders) else "conflict"), replaced
