"""What garbage collection answers; see ``tcfs.sync.results`` for the conventions."""

from __future__ import annotations

from dataclasses import dataclass, field

from tcfs.sync.results import Problem


@dataclass(frozen=True, slots=True)
class Amount:
    """Packs, and the bytes of their objects."""

    packs: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.packs + other.packs, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Awaited:
    """A device that has not acknowledged a mark. Times are unix seconds, by its own clock."""

    device_id: str
    name: str
    last_written_at: int
    """When it last wrote anything; 0 if it never did."""
    marks: int
    """How many marks wait for it."""


@dataclass(frozen=True, slots=True)
class GcResult:
    """What a collection did, or would do. ``plan`` names exactly this in this state of the world.

    Attributes:
        orphans: packs that no segment names, and none can name any more; and objects of snapshots
            that no event leads to.
        unused: packs that nothing in them is needed of.
        repacked: packs of which little is needed: that is moved, then they are marked too.
        moved_bytes: plaintext that is moved for that.
        swept: marked packs, and such objects, that all have acknowledged: deleted.
        waiting: marked packs that some device has not acknowledged.
        kept: marked packs that something turned out to need: it is moved first, they go later.
        forgotten_versions: old versions whose content the retention policy lets go.
        gone_versions: old versions that the policy keeps, whose content was let go by an earlier
            one and deleted.
    """

    dry_run: bool
    plan: str
    orphans: Amount = field(default_factory=Amount)
    unused: Amount = field(default_factory=Amount)
    repacked: Amount = field(default_factory=Amount)
    moved_bytes: int = 0
    swept: Amount = field(default_factory=Amount)
    waiting: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    forgotten_versions: int = 0
    gone_versions: int = 0
    waiting_for: tuple[Awaited, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldInfo:
    """A moment that is kept."""

    tag: str
    segments: int


@dataclass(frozen=True, slots=True)
class RetentionInfo:
    """How much history is kept. None: that rule keeps nothing by itself; both None: everything.

    Attributes:
        old_versions: replaced versions with content that the history knows.
        let_go: how many of them the next collection lets go of.
    """

    keep_days: int | None
    keep_versions: int | None
    holds: tuple[HoldInfo, ...]
    old_versions: int
    let_go: int


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A snapshot that was taken, and what compaction removed. Sizes are bytes."""

    id: str
    versions: int
    segments: int
    chunks: int
    size: int
    removed_segments: int = 0
    waiting_for: tuple[str, ...] = ()
    """Names of devices that have not acknowledged the snapshot that compaction would rest on."""
