"""What a pull does with one register: the rules, apart from git and from the ledger.

A register has three sides, like a file: what it is here, what it was when both sides were last the
same (the base), and the versions that stand in the fleet. Where both changed, one value may contain
all others - a branch that only went on - and then there is nothing to choose. Everything else is a
conflict between versions, which somebody settles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tcfs.model.ids import VersionId
from tcfs.model.tree import Head
from tcfs.state.git import RegisterBase
from tcfs.sync.git.names import FORMAT, HEAD, INDEX, STASH, TAGS
from tcfs.sync.git.registers import is_held, value_of

Forward = Callable[[bytes, bytes], bool]
"""Whether the first commit is the second or one of its ancestors."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one register.

    Attributes:
        local: its value here.
        moves: whether the value here is to become ``target`` (None: the ref goes).
        base: what is recorded once that is done.
        write: a version to commit first, as (value, parents); the base then rests on it.
        conflict: it stays undecided.
        held: the version only says that this device keeps its value for now.
    """

    name: bytes
    local: bytes | None
    base: RegisterBase | None
    moves: bool = False
    target: bytes | None = None
    write: tuple[bytes, tuple[VersionId, ...]] | None = None
    conflict: bool = False
    held: bool = False

    def stays(self) -> Decision:
        """The same without doing anything now."""
        return replace(self, moves=False, target=None, write=None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What deciding needs to ask.

    Attributes:
        device: this device's id.
        common: the value from which conflicting versions of a head departed, if they have one.
        preferred: of a conflict, the value that the namespace's strategy prefers.
    """

    device: str
    forward: Forward
    common: Callable[[Head], bytes | None]
    preferred: Callable[[Head], bytes]


def decide(
    rules: Rules, name: bytes, local: bytes | None, base: RegisterBase | None, head: Head | None
) -> Decision:
    """What to do with a register."""
    if head is None or not head.ids:
        return Decision(name, local, base)
    if head.absent:
        return _gone(name, local, base, head)
    if local is not None and base is not None and base.value == local:
        return _unchanged(rules, name, local, base, head)
    if local is None:
        return _missing(rules, name, base, head)
    return _changed(rules, name, local, base, head)


def _gone(name: bytes, local: bytes | None, base: RegisterBase | None, head: Head) -> Decision:
    if local is None:
        return Decision(name, None, None)
    if base is not None and base.value == local and not _shares(base, head):
        return Decision(name, local, None, moves=True, target=None)
    return Decision(name, local, base)


def _unchanged(rules: Rules, name: bytes, local: bytes, base: RegisterBase, head: Head) -> Decision:
    if not head.conflicted:
        if _shares(base, head):
            return Decision(name, local, base)
        return _take(name, local, _values(head)[0], head.ids)
    return _conflicted(rules, name, local, base, head)


def _missing(rules: Rules, name: bytes, base: RegisterBase | None, head: Head) -> Decision:
    if base is not None and _shares(base, head) and not head.conflicted:
        return Decision(name, None, base)  # deleted here; the next push says so
    if not head.conflicted:
        return _take(name, None, _values(head)[0], head.ids)
    return _conflicted(rules, name, None, base, head)


def _conflicted(
    rules: Rules, name: bytes, local: bytes | None, base: RegisterBase | None, head: Head
) -> Decision:
    """Versions conflict, and nothing happened to the register here."""
    groups = [g for g in head.groups if not _held_by(g, rules.device)]
    values = [value_of(g[0]) for g in groups]
    if not any(all(is_held(v) for v in g) for g in groups):
        winner = merge_values(name, rules.common(head), values, rules.forward)
        if winner is not None:
            return _settle(name, local, winner, head)
    if local is None:
        # It must be something: what the strategy prefers, until somebody decides.
        chosen = rules.preferred(head)
        group = next(g for g in head.groups if value_of(g[0]) == chosen)
        taken = _take(name, None, chosen, tuple(v.id for v in group))
        return replace(taken, conflict=True)
    for group in head.groups:
        if value_of(group[0]) == local:
            base = RegisterBase(local, tuple(v.id for v in group))
    return Decision(name, local, base, conflict=True)


def _changed(
    rules: Rules, name: bytes, local: bytes, base: RegisterBase | None, head: Head
) -> Decision:
    for group in head.groups:
        if value_of(group[0]) == local:
            ids = head.ids if not head.conflicted else tuple(v.id for v in group)
            known = RegisterBase(local, ids)
            if head.conflicted:
                return _conflicted(rules, name, local, known, head)
            return Decision(name, local, known)
    if base is not None and _shares(base, head):
        # The next push sends it; where a conflict stands, this device is a side of it.
        return Decision(name, local, base, conflict=head.conflicted)
    parents = base.ids if base is not None else ()
    if name == INDEX:
        # What is staged here is newer than what arrives.
        return Decision(name, local, RegisterBase(_values(head)[0], head.ids))
    if not any(all(is_held(v) for v in g) for g in head.groups):
        before = base.value if base is not None else None
        winner = merge_values(name, before, [*_values(head), local], rules.forward)
        if winner is not None and winner != local:
            if head.conflicted or winner not in _values(head):
                return _settle(name, local, winner, head)
            return _take(name, local, winner, head.ids)
        if winner == local and not head.conflicted:
            # What the fleet has is part of what is here: as if it had been pulled before.
            return Decision(name, local, RegisterBase(_values(head)[0], head.ids))
    return Decision(name, local, RegisterBase(local, ()), write=(local, parents), conflict=True)


def _take(name: bytes, local: bytes | None, value: bytes, ids: tuple[VersionId, ...]) -> Decision:
    base = RegisterBase(value, ids)
    return Decision(name, local, base, moves=value != local, target=value)


def _settle(name: bytes, local: bytes | None, winner: bytes, head: Head) -> Decision:
    return Decision(
        name,
        local,
        RegisterBase(winner, head.ids),
        moves=winner != local,
        target=winner,
        write=(winner, head.ids),
    )


def merge_values(
    name: bytes, before: bytes | None, values: Sequence[bytes], forward: Forward
) -> bytes | None:
    """The value that contains all of these; None if one has to be chosen.

    Args:
        before: what they were made from. A value that does not contain it was rewound or rewritten
            on purpose, and is not undone because another one went on.
    """
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return distinct[0]
    if name == STASH:
        return _merge_stashes(before, distinct)
    if name == INDEX:
        return max(distinct)
    if name in (HEAD, FORMAT) or name.startswith(TAGS):
        return None
    if before is not None and not all(forward(before, value) for value in distinct):
        return None
    for candidate in distinct:
        if all(forward(value, candidate) for value in distinct):
            return candidate
    return None


def _merge_stashes(before: bytes | None, values: Sequence[bytes]) -> bytes | None:
    """Every entry that some side has and no side dropped; the same in whatever order they come."""
    lists = [value.split(b",") for value in sorted(values)]
    dropped = {
        oid
        for oid in (before.split(b",") if before else [])
        if any(oid not in one for one in lists)
    }
    merged = dict.fromkeys(oid for one in lists for oid in one if oid not in dropped)
    # With nothing left, one side's dropping all is answered by the other's: a choice.
    return b",".join(merged) if 0 < len(merged) <= 60 else None


def _values(head: Head) -> list[bytes]:
    return [value_of(version) for version in head.siblings]


def _shares(base: RegisterBase, head: Head) -> bool:
    return not set(base.ids).isdisjoint(head.ids)


def _held_by(group: Sequence[object], device: str) -> bool:
    return all(is_held(v) and v.id.device == device for v in group)  # type: ignore[arg-type, attr-defined]
