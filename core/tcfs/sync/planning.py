"""Plans: what would happen, counted, bounded, and named by a hash.

The hash covers every step with the state of the world it was decided on, so that ``plan=<hash>``
applies exactly that plan or refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from blake3 import blake3
from msgspec import msgpack
from msgspec.structs import replace

from tcfs.errors import LimitError, PlanChangedError
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.sync.context import Context
from tcfs.sync.facade import Limits
from tcfs.sync.results import LIST_LIMIT, Action, Plan, PlannedChange

_encode: Final = msgpack.Encoder().encode
_AT_ONCE: Final = 4096
"""Steps that are hashed together."""
DELETIONS: Final[frozenset[Action]] = frozenset(("delete", "remove"))


class PlanBuilder:
    """Gathers the steps of a plan, in their order."""

    def __init__(self, kind: str, namespace: NamespaceId, remote: RelPath) -> None:
        self._hash = blake3(_encode((kind, namespace, remote)))
        self._unhashed: list[tuple[str, str, int, object]] = []
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        # What is told of: with removals, of which some are told as moves in the end, apart.
        self._changes: list[tuple[bytes, PlannedChange]] = []
        self._kept: Counter[bool] = Counter()
        self._removed: dict[bytes, Action] = {}
        self._added: dict[bytes, Action] = {}

    def add(
        self,
        action: Action,
        path: str,
        *,
        size: int = 0,
        moved_from: str = "",
        note: str = "",
        identity: object = None,
        pair: bytes = b"",
    ) -> None:
        """Add a step.

        Args:
            identity: what it was decided on: tuples, text, bytes and numbers.
            moved_from: of an addition, where it was before if that is removed.
            pair: a name for a removal and an addition that are one move if both are there,
                whichever comes first. Of several additions the first counts.
        """
        self._unhashed.append((action, path, size, identity))
        if len(self._unhashed) >= _AT_ONCE:
            self._take_in()
        self._counts[action] += 1
        self._bytes += size
        removal = action in DELETIONS
        paired = self._removed if removal else self._added
        if pair and pair in paired:
            pair, moved_from = b"", ""
        elif pair:
            paired[pair] = action
        if self._kept[removal] < LIST_LIMIT:
            self._kept[removal] += 1
            change = PlannedChange(action, path, size, moved_from, note)
            self._changes.append((pair, change))

    def _take_in(self) -> None:
        self._hash.update(_encode(self._unhashed))
        self._unhashed.clear()

    def done(self, warnings: Sequence[str] = ()) -> Plan:
        """The plan."""
        self._take_in()
        counts = self._counts.copy()
        moves = self._added.keys() & self._removed.keys()
        for pair in moves:
            counts[self._added[pair]] -= 1
            counts[self._removed[pair]] -= 1
            counts["move"] += 1
        return Plan(
            hash=self._hash.hexdigest()[:32],
            counts={action: count for action, count in sorted(counts.items()) if count},
            bytes=self._bytes,
            total=sum(counts.values()),
            changes=tuple(self._told(moves))[:LIST_LIMIT],
            warnings=tuple(warnings),
        )

    def _told(self, moves: Collection[bytes]) -> Iterator[PlannedChange]:
        for pair, change in self._changes:
            if pair not in moves:
                yield replace(change, moved_from="") if pair else change
            elif change.action not in DELETIONS:
                yield replace(change, action="move")


def check_plan(plan: Plan, wanted: str) -> None:
    """Refuse unless the plan is the one that was looked at. Raises PlanChangedError."""
    if wanted and wanted != plan.hash:
        raise PlanChangedError(
            "what there is to do is no longer what that plan says",
            details={"wanted": wanted, "now": plan.hash},
        )


def check_limits(context: Context, plan: Plan, tracked: int, limits: Limits) -> None:
    """Refuse more deletions or bytes in one go than were allowed.

    Args:
        tracked: how many paths there are to delete from.

    Raises:
        LimitError: with what is planned and what was allowed.
    """
    deletions = sum(plan.counts.get(action, 0) for action in DELETIONS)
    config = context.config.sync
    allowed = deletions
    if not limits.confirmed:
        allowed = max(config.max_delete_floor, int(config.max_delete_share * tracked))
    if limits.max_delete is not None:
        allowed = min(allowed, limits.max_delete)
    if deletions > allowed:
        raise LimitError(
            f"{deletions} of {tracked} paths would be deleted; {allowed} are allowed in one go",
            remedy="Look at them with --dry-run. If they are meant, say --yes.",
            details={"deletions": deletions, "allowed": allowed, "plan": plan.hash},
        )
    if limits.max_bytes is not None and plan.bytes > limits.max_bytes:
        raise LimitError(
            f"{plan.bytes} bytes would be moved; {limits.max_bytes} are allowed in one go",
            details={"bytes": plan.bytes, "allowed": limits.max_bytes, "plan": plan.hash},
        )


def join_plans(plans: Sequence[Plan]) -> Plan:
    """Several plans as one; one alone is itself."""
    if len(plans) == 1:
        return plans[0]
    counts: dict[str, int] = {}
    for one in plans:
        for action, count in one.counts.items():
            counts[action] = counts.get(action, 0) + count
    return Plan(
        hash=blake3("\n".join(p.hash for p in plans).encode()).hexdigest()[:32],
        counts=counts,
        bytes=sum(p.bytes for p in plans),
        total=sum(p.total for p in plans),
        changes=tuple(c for p in plans for c in p.changes)[:LIST_LIMIT],
        warnings=tuple(w for p in plans for w in p.warnings),
    )
