"""How much of the history is kept: which old versions' content a policy lets go.

Pure. The default keeps everything. What is live is kept whatever a policy says, and so is what a
hold names, and the losing side of a conflict until somebody dismisses it. A policy's rules add up:
what any of them keeps is kept. Times are those of ``EffectiveTimes``, which a wrong clock can only
make later, so that it can only keep more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from tcfs.errors import UsageError
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, VersionId

DAY: Final = 86_400
"""Seconds."""
MAX_DAYS: Final = 36_500
MAX_VERSIONS: Final = 1_000_000

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class RetentionPolicy(Struct, frozen=True):
    """What is kept besides the live versions. With neither rule, everything.

    Attributes:
        keep_days: versions that were replaced in so many last days.
        keep_versions: so many newest versions of each path, the live ones included.
    """

    keep_days: int | None = None
    keep_versions: int | None = None

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is ever let go."""
        return self.keep_days is None and self.keep_versions is None


class Hold(Struct, frozen=True):
    """A moment of a namespace that is kept, by name: what was live up to these segments."""

    tag: str
    heads: Mapping[DeviceId, ChainHead]

    def covers(self, device: DeviceId, seq: int) -> bool:
        """Whether a segment belongs to that moment's past."""
        head = self.heads.get(device)
        return head is not None and seq <= head.seq


class Old(Struct, frozen=True):
    """What a policy looks at of one version of a path.

    Attributes:
        order: as of ``Version.order``.
        at: effective unix seconds when it was written.
        content: equal for versions with equal bytes; None for a tombstone.
    """

    id: VersionId
    order: tuple[int, str, int]
    seq: int
    live: bool
    at: int
    parents: tuple[VersionId, ...]
    content: tuple[str, bytes, bytes] | None


class Rules(Struct, frozen=True):
    """A policy with its exceptions, at a moment (unix seconds)."""

    policy: RetentionPolicy
    now: int
    holds: Sequence[Hold] = ()
    dismissed: Collection[VersionId] = field(default_factory=frozenset)


def let_go(versions: Sequence[Old], rules: Rules) -> list[VersionId]:
    """The versions of one path whose content the rules let go, in no order.

    Args:
        versions: every accepted version of the path.
    """
    policy = rules.policy
    # Whoever settles a conflict may want what both sides began from.
    if policy.keeps_everything or len({v.content for v in versions if v.live and v.content}) > 1:
        return []
    children: dict[VersionId, list[Old]] = {}
    for version in versions:
        for parent in version.parents:
            children.setdefault(parent, []).append(version)
    by_id = {version.id: version for version in versions}
    contents = sorted((v for v in versions if v.content), key=lambda v: v.order, reverse=True)
    newest = {v.id for v in contents[: policy.keep_versions or 0]}
    found = []
    for version in contents:
        after = children.get(version.id, [])
        # What nobody here replaced was not replaced.
        if version.live or not after or version.id in newest:
            continue
        replaced_at = max(child.at for child in after)
        if policy.keep_days is not None and rules.now - replaced_at < policy.keep_days * DAY:
            continue
        if any(_held(version, after, hold) for hold in rules.holds):
            continue
        if version.id not in rules.dismissed and _lost(version, after, by_id):
            continue
        found.append(version.id)
    return found


def _held(version: Old, after: Iterable[Old], hold: Hold) -> bool:
    return hold.covers(version.id.device, version.seq) and not any(
        hold.covers(child.id.device, child.seq) for child in after
    )


def _lost(version: Old, after: Iterable[Old], by_id: Mapping[VersionId, Old]) -> bool:
    """Whether a conflict was settled against this version."""
    for child in after:
        if child.content == version.content:
            continue
        for parent in child.parents:
            rival = by_id.get(parent)
            if rival is None and parent != version.id:
                return True  # What it was up against is not known any more.
            if rival is not None and rival.content not in (None, version.content):
                return True
    return False


def is_exempt(path: bytes) -> bool:
    """Whether no policy applies to a path: to what git repositories are made of.

    A bundle holds objects that other bundles and refs build on, whichever version is live.
    """
    return b"/.git/tcfs/" in b"/" + path


def effective_times(written: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Lamport time to unix seconds that no clock behind the others' can make earlier.

    Nothing that was written later in causal order counts as older than what came before it.

    Args:
        written: (Lamport time, unix seconds) of every segment.
    """
    found: dict[int, int] = {}
    latest = 0
    for lamport, at in sorted(written):
        latest = max(latest, at)
        found[lamport] = latest
    return found


def present(clock: float, newest: int) -> int:
    """The time by which ages are counted: this clock, unless it runs ahead of all that is signed.

    Args:
        clock: unix seconds here.
        newest: of the newest segment, by whatever clock.
    """
    return min(int(clock), newest + DAY)


def make_policy(keep_days: int | None, keep_versions: int | None) -> RetentionPolicy:
    """A policy as a person asks for it.

    Raises:
        UsageError: a number is out of bounds.
    """
    for name, value, most in (
        ("keep-days", keep_days, MAX_DAYS),
        ("keep-versions", keep_versions, MAX_VERSIONS),
    ):
        if value is not None and not 0 < value <= most:
            raise UsageError(
                f"{name} must be 1 to {most}, not {value}",
                remedy="Leave it out to let that rule keep nothing by itself.",
            )
    return RetentionPolicy(keep_days, keep_versions)


def check_tag(tag: str) -> str:
    """Validate a hold's name, which anyone who can list the store can read. Raises UsageError."""
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"not a tag: {tag!r}",
            remedy="Use 1-63 letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
    return tag
