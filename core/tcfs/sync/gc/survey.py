"""Looking: which packs of a namespace are of no use, and which marked ones may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tcfs.content.pack import HEADER_READ, PackHeader
from tcfs.errors import AccessError, IntegrityError, LimitError, NotFoundError
from tcfs.model.ids import CONTROL, ChunkId, DeviceId, NamespaceId, PackId, StoreKey
from tcfs.model.paths import show
from tcfs.model.retention import RetentionPolicy, Rules, present
from tcfs.store.base import ObjectMissing
from tcfs.sync.context import Context
from tcfs.sync.gc.marks import waited_for
from tcfs.sync.results import LIST_LIMIT, Problem
from tcfs.sync.upload import pack_key

PACKS: Final = "packs/"
REPACK_BELOW: Final = 0.5
"""Share of a pack that is needed, below which what is needed is moved out of it."""
BLOCKING: Final = frozenset(("fork", "rollback", "gap", "damaged", "refused", "no-key", "held"))
"""Findings that say that a member's history is not all known here."""


@dataclass(slots=True)
class Survey:
    """What was found in one namespace. Packs with the bytes of their objects.

    ``unnamed`` and ``void`` are objects of snapshots, by their hash: those that are to be marked,
    and those that were and may go. ``stranded`` are needed chunks that marked packs alone hold;
    ``gone`` counts replaced versions whose content the policy keeps and an earlier one let go.
    """

    namespace: NamespaceId
    orphans: dict[PackId, int] = field(default_factory=dict)
    unused: dict[PackId, int] = field(default_factory=dict)
    repack: dict[PackId, int] = field(default_factory=dict)
    moved_size: int = 0
    sweep: dict[PackId, int] = field(default_factory=dict)
    unnamed: dict[PackId, int] = field(default_factory=dict)
    void: dict[PackId, int] = field(default_factory=dict)
    waiting: dict[PackId, int] = field(default_factory=dict)
    kept: dict[PackId, int] = field(default_factory=dict)
    stranded: list[ChunkId] = field(default_factory=list)
    forgotten: int = 0
    gone: int = 0
    awaited: dict[DeviceId, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def identity(self) -> object:
        """What a plan's hash covers."""
        return (
            self.namespace,
            sorted(self.orphans),
            sorted(self.unused),
            sorted(self.repack),
            sorted(self.sweep),
            sorted(self.unnamed),
            sorted(self.void),
            sorted(self.kept),
            sorted(self.stranded),
            self.forgotten,
        )


def list_packs(context: Context) -> dict[StoreKey, int]:
    """Every pack in the store with its size.

    Raises:
        StoreError: the listing failed: then nothing is known, and nothing may be decided.
    """
    return {info.key: info.size for info in context.store.list(PACKS)}


def rules_of(context: Context, namespace: NamespaceId) -> Rules:
    """The signed retention policy of a namespace, its holds, and the time it goes by."""
    upkeep = context.control.upkeep
    return Rules(
        policy=upkeep.retention.get(namespace, RetentionPolicy()),
        now=present(context.host.clock.now(), context.state.garbage.newest(namespace)),
        holds=[hold for (space, _), hold in upkeep.holds.items() if space == namespace],
        dismissed=upkeep.dismissed.get(namespace, frozenset()),
    )


def check_rules(context: Context, namespace: NamespaceId, rules: Rules) -> None:
    """Refuse a policy that would leave nothing of a history that there is.

    Raises:
        LimitError: it selects every replaced version.
    """
    if rules.policy.keeps_everything:
        return
    old, gone = context.state.garbage.kept_history(namespace, rules)
    if old and gone == old:
        raise LimitError(
            f"the retention policy of {namespace!r} would let go of all {old} replaced versions",
            remedy="Loosen it with: tcfs retention set; or keep a moment with: tcfs retention hold",
            details={"old_versions": old, "let_go": gone},
        )


def check_history(context: Context, namespace: NamespaceId) -> None:
    """Refuse to decide anything while what a member wrote is not all known here.

    Raises:
        IntegrityError: with the chain that stopped.
    """
    members = {d.device_id for d in context.control.active()}
    found = [
        (f.namespace, DeviceId(f.device), f.seq, f.kind, f.reason)
        for f in context.state.findings.all()
        if f.namespace == namespace
    ]
    found += [(CONTROL, f.device, f.seq, f.problem, f.reason) for f in context.view.findings]
    heads = context.state.history.heads(namespace)
    for record in context.control.devices.values():
        cut = (record.cut or {}).get(namespace)
        known = heads.get(record.device_id)
        if cut is not None and cut.seq and known != cut:
            reason = "what it wrote before its revocation is not all here"
            found.append((namespace, record.device_id, cut.seq, "gap", reason))
            members.add(record.device_id)
    for space, device, seq, kind, reason in found:
        if kind in BLOCKING and device in members:
            raise IntegrityError(
                f"nothing can be collected: the history of {device} in {space!r} stops at {seq}:"
                f" {reason}",
                remedy="Settle that first: tcfs verify; or revoke that device.",
                details={"namespace": space, "device": device, "seq": seq, "kind": kind},
            )


def survey(
    context: Context,
    namespace: NamespaceId,
    listed: Mapping[StoreKey, int],
    unnamed: Mapping[PackId, int],
    *,
    repack_below: float = REPACK_BELOW,
) -> Survey:
    """Look at a namespace; ``receive`` was called. Leaves ``find_needed``'s answer behind.

    Args:
        listed: every pack in the store, by a listing that was complete.
        unnamed: objects of snapshots that no event leads to.

    Raises:
        IntegrityError: not all history is known here.
        LimitError: the retention policy would keep none of it.
        StoreError: the store failed.
    """
    check_history(context, namespace)
    rules = rules_of(context, namespace)
    check_rules(context, namespace, rules)
    garbage = context.state.garbage
    found = Survey(namespace)
    found.forgotten = garbage.find_needed(namespace, rules)
    _used(context, found, listed, repack_below)
    _orphans(context, found, listed)
    _marked(context, found, listed, unnamed)
    return found


def _used(
    context: Context, found: Survey, listed: Mapping[StoreKey, int], repack_below: float
) -> None:
    for use in context.state.garbage.use(found.namespace):
        pack, size = use.location.id, listed.get(use.location.key)
        if size is None:
            found.problems.append(
                Problem(f"pack {pack}", IntegrityError.code, "is not in the store")
            )
            continue
        if not use.needed_chunks:
            target = found.unused
        elif use.needed_size < repack_below * use.size:
            target = found.repack
        else:
            continue
        if _settled(context, found, pack, use.location.key):
            target[pack] = size
            found.moved_size += use.needed_size


def _orphans(context: Context, found: Survey, listed: Mapping[StoreKey, int]) -> None:
    """Packs that nobody names, whose writer's chain has passed the segment they were for."""
    index, marked = context.state.index, context.state.garbage.marked()
    for key, size in sorted(listed.items()):
        pack = PackId(key.rpartition("/")[2])
        if pack in marked or key != pack_key(pack) or index.location(pack) is not None:
            continue
        if _settled(context, found, pack, key):
            found.orphans[pack] = size


def read_header(
    context: Context, namespace: NamespaceId, pack: PackId, key: StoreKey
) -> PackHeader | None:
    """A pack's header; None if it is gone, or no pack of this namespace that can be read.

    Of those that segments name ``verify`` tells.
    """
    try:
        head = context.store.get_range(key, 0, HEADER_READ)
        return PackHeader.parse(head, pack, context.scope(namespace))
    except (IntegrityError, AccessError, ObjectMissing):
        return None


def has_passed(context: Context, namespace: NamespaceId, header: PackHeader) -> bool:
    """Whether the accepted chain of a pack's writer has the segment that it was written for."""
    last = context.state.history.heads(namespace).get(header.device)
    return last is not None and last.seq >= header.seq


def _settled(context: Context, found: Survey, pack: PackId, key: StoreKey) -> bool:
    """Whether the segment that a pack was written for is part of its writer's accepted history.

    Until then that segment, or another in its place, may come to name the pack; of a device that
    was revoked none will.
    """
    header = read_header(context, found.namespace, pack, key)
    if header is None:
        return False
    record = context.control.devices.get(header.device)
    revoked = record is not None and record.revoked
    return revoked or has_passed(context, found.namespace, header)


def _marked(
    context: Context,
    found: Survey,
    listed: Mapping[StoreKey, int],
    unnamed: Mapping[PackId, int],
) -> None:
    namespace, keepers = found.namespace, _stranded(context, found, listed)
    found.unnamed.update(unnamed)
    waited: dict[tuple[DeviceId, int], list[DeviceId]] = {}
    for mark in context.control.upkeep.marks:
        if mark.namespace != namespace:
            continue
        there = {pack: listed[pack_key(pack)] for pack in mark.packs if pack_key(pack) in listed}
        loose = {pack: unnamed[pack] for pack in mark.packs if pack in unnamed}
        if not there and not loose:
            continue
        place = (mark.author, mark.seq)
        if place not in waited:
            records = waited_for(context, *place, namespace)
            waited[place] = [record.device_id for record in records]
            for device in waited[place]:
                found.awaited[device] = found.awaited.get(device, 0) + 1
        for pack, size in there.items():
            if waited[place]:
                found.waiting[pack] = size
            elif pack in keepers:
                found.kept[pack] = size
            else:
                found.sweep[pack] = size
        for pack, size in loose.items():
            found.unnamed.pop(pack, None)
            (found.waiting if waited[place] else found.void)[pack] = size
    # A pack that two marks name goes by the one that all have acknowledged.
    for pack in found.sweep.keys() | found.kept.keys() | found.void.keys():
        found.waiting.pop(pack, None)


def _stranded(context: Context, found: Survey, listed: Mapping[StoreKey, int]) -> set[PackId]:
    """Find the needed chunks that lie in marked packs alone. Returns the packs that stay for them.

    What is nowhere any more cannot be moved. Of replaced versions that is no fault: a policy let
    them go that has been loosened since. Should a listing have missed a pack, then it is not swept
    by this collection either.
    """
    garbage, namespace = context.state.garbage, found.namespace
    keepers: set[PackId] = set()
    gone: set[ChunkId] = set()
    for chunk in sorted(garbage.stranded(namespace)):
        homes = {
            home.id
            for home in garbage.marked_homes(namespace, chunk)
            if (context.store.head(home.key) is not None if home.offset else home.key in listed)
        }
        if homes:
            found.stranded.append(chunk)
            keepers |= homes
        else:
            gone.add(chunk)
    if gone:
        found.gone = garbage.replaced_with(namespace, gone)
        found.problems += [
            Problem(
                show(path),
                NotFoundError.code,
                "some of its content is in the store no longer",
                "A device that has the file sends it again: copy it to another name there, and "
                "push.",
            )
            for path in context.state.history.paths_using(namespace, gone, LIST_LIMIT)
        ]
    return keepers
