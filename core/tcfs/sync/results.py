"""What the engine answers: plain values that print, turn into JSON, and have a schema.

Paths are text as ``tcfs.model.paths.show`` writes it, so that any byte can be shown and given back.
Sizes are bytes. Times are unix seconds. Every list that can grow is bounded by its producer, and a
count says how many there are in all.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

Action = Literal[
    "add", "change", "attributes", "delete", "move", "fetch", "remove", "conflict", "adopt"
]
Resolution = Literal["keep_local", "keep_remote", "keep_both", "merge", "defer"]
SyncState = Literal[
    "up_to_date", "local_newer", "remote_newer", "conflict", "not_tracked", "not_present"
]
LIST_LIMIT = 1000


class Problem(Struct, frozen=True):
    """One path that could not be handled; the rest of the tree was."""

    path: str
    code: str
    message: str
    remedy: str = ""


class PlannedChange(Struct, frozen=True):
    """One step of a plan."""

    action: Action
    path: str
    size: int = 0
    moved_from: str = ""
    note: str = ""


class Plan(Struct, frozen=True):
    """What a push or pull would do. ``hash`` names exactly this plan in this state of the world."""

    hash: str
    counts: dict[str, int]
    bytes: int
    total: int
    changes: tuple[PlannedChange, ...]
    """At most ``LIST_LIMIT`` of ``total``."""
    warnings: tuple[str, ...] = ()


class Transfer(Struct, frozen=True):
    """What travelled and what was stored, in bytes and objects."""

    files: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packs: int = 0
    segments: int = 0
    seconds: float = 0.0


class ConflictInfo(Struct, frozen=True):
    """A path with more than one live version."""

    path: str
    versions: tuple[VersionInfo, ...]
    local_version: str = ""
    """Id of the version this device's copy is based on; empty if none."""
    would_win: str = ""
    """Id of the version that the namespace's strategy prefers."""


class VersionInfo(Struct, frozen=True):
    """One version of one path."""

    id: str
    path: str
    op: str
    kind: str
    size: int
    file_hash: str
    mode: int
    mtime_ns: int
    device_id: str
    device: str
    actor: str
    written_at: int
    lamport: int
    segment: str
    """``<device id>/<seq>`` of the segment that carries it."""
    parents: tuple[str, ...] = ()
    moved_from: str = ""
    live: bool = False
    vclock: dict[str, int] = field(default_factory=dict)
    imported: str = ""
    """What the Rust tcfs said of it, if it was imported from there: by whom, and its clock."""


class SyncResult(Struct, frozen=True):
    """The outcome of a push, pull or sync."""

    plan: Plan
    dry_run: bool
    transfer: Transfer = field(default_factory=Transfer)
    conflicts: tuple[ConflictInfo, ...] = ()
    """Conflicts that stand now in what was pushed or pulled (at most ``LIST_LIMIT``)."""
    resolved: tuple[str, ...] = ()
    """Paths whose conflict this run settled."""
    conflict_copies: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    """What a person should know of it, though nothing is wrong."""
    segment: str = ""
    """The last segment this run committed; empty if none."""
    remote: str = ""
    """Where it went to or came from: ``remote/namespace/path``."""
    local: str = ""


class ConflictPage(Struct, frozen=True):
    """Conflicts in path order. ``next`` is given back as ``after`` for more; empty at the end."""

    conflicts: tuple[ConflictInfo, ...]
    total: int
    next: str = ""


class Side(Struct, frozen=True):
    """One side of a conflict with its text, if it is text. ``text`` is escaped and bounded."""

    version: VersionInfo | None
    text: str = ""
    binary: bool = False
    truncated: bool = False


class ConflictDetail(Struct, frozen=True):
    """A conflict as an object: common ancestor, both sides, and a proposed three-way merge."""

    path: str
    base: Side
    ours: Side
    theirs: Side
    others: tuple[VersionInfo, ...] = ()
    merge_possible: bool = False
    merge_reason: str = ""
    """Why it does not merge cleanly; empty if it does."""
    proposed_merge: str = ""
    proposed_truncated: bool = False


class ResolveResult(Struct, frozen=True):
    """What settling a conflict did."""

    path: str
    resolution: Resolution
    version: str = ""
    conflict_copies: tuple[str, ...] = ()
    dry_run: bool = False
    message: str = ""


class LogPage(Struct, frozen=True):
    """Versions, newest first. ``next`` is given back as ``before`` for more; empty at the end."""

    versions: tuple[VersionInfo, ...]
    next: str = ""


class WhyStep(Struct, frozen=True):
    """One signed entry that made a path what it is."""

    version: VersionInfo
    role: Literal["current", "conflicting", "superseded", "lost", "deleted"]
    explanation: str
    kept_at: str = ""
    """Where a lost version's bytes are: a conflict copy, or ``history``."""


class Why(Struct, frozen=True):
    """The chain of entries behind a path, newest first."""

    path: str
    state: SyncState
    steps: tuple[WhyStep, ...]


class UndoResult(Struct, frozen=True):
    """Changes reverted as a unit; paths changed since are skipped and listed."""

    reverted: tuple[str, ...]
    skipped: tuple[Problem, ...]
    dry_run: bool
    plan: Plan
    segment: str = ""


class VerifyReport(Struct, frozen=True):
    """What was checked and what was wrong."""

    ok: bool
    segments: int
    packs: int
    bytes_read: int
    files: int
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    repaired: tuple[str, ...] = ()


class DeviceInfo(Struct, frozen=True):
    """A device of the fleet."""

    device_id: str
    name: str
    role: str
    revoked: bool
    enrolled_at: int
    this_device: bool
    description: str = ""
    sign_key: str = ""
    head: int = 0
    """Sequence number of its last verified segment in the default namespace."""


class PendingDevice(Struct, frozen=True):
    """A device that asked to join, and waits until an admin admits it."""

    device_id: str
    name: str
    role: str
    fingerprint: str
    """Of its key; it is the same wherever it is shown, on the device itself too."""
    invite_id: str
    claimed_at: int
    rivals: int = 0
    """Other devices that used the same invite: at most one of them is ever admitted."""
    this_device: bool = False
    description: str = ""


class RootInfo(Struct, frozen=True):
    """A local directory or file and its place in the fleet."""

    local: str
    remote: str
    is_sync_root: bool
    tracked: int
    waiting: int
    """Remote changes known here and not yet materialised."""


class KeptRootInfo(Struct, frozen=True):
    """A directory that is enrolled: the daemon keeps it in sync."""

    local: str
    remote: str
    exclude: tuple[str, ...]
    is_sync_root: bool
    """The configured one; it needs no enrolling."""
    present: bool
    tracked: int


class Status(Struct, frozen=True):
    """This device at a glance."""

    device_id: str
    device_name: str
    endpoint: str
    repo: str
    encryption: bool
    namespace: str
    role: str
    revoked: bool
    devices: int
    conflicts: int
    roots: tuple[RootInfo, ...]
    outbox: int
    """Finished segments not yet in the store."""
    warnings: tuple[str, ...] = ()
    store_reached: bool = True
    strategy: str = "device-name"
    """How mode ``auto`` settles conflicts in the namespace."""


class PathStatus(Struct, frozen=True):
    """How one local or remote path stands."""

    path: str
    remote: str
    state: SyncState
    message: str
    size: int = 0
    file_hash: str = ""
    chunks: int = 0
    device: str = ""
    vclock: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class InitResult(Struct, frozen=True):
    """A new or joined repository. ``phrase`` is there only when it is to be shown to a person."""

    device_id: str
    device_name: str
    endpoint: str
    repo: str
    phrase: str = ""
    messages: tuple[str, ...] = ()
    waiting: bool = False
    """It asked to join, and waits until an admin admits it."""
    fingerprint: str = ""
    """Of the device's key, for that admin to compare."""


class InviteResult(Struct, frozen=True):
    """An invite. ``code`` is a secret: show it once, log it never."""

    code: str
    invite_id: str
    role: str
    expires_at: int
    admit: bool = False
    """The device that uses it waits until an admin admits it."""


class EnrollmentResult(Struct, frozen=True):
    """Enrollment by passphrase is open, for so many devices, until then (unix seconds)."""

    uses: int
    role: str
    expires_at: int


class RebuildResult(Struct, frozen=True):
    """What ``rebuild-index`` found in the store."""

    segments: int
    versions: int
    chunks: int
    packs: int
    messages: tuple[str, ...] = ()
