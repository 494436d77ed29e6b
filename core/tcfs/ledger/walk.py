"""Following the chains of a namespace, each from its known head, in causal order.

No gap, ``prev`` the hash of the segment before, a Lamport time that follows from what the segment
had seen. A segment is released when everything its writer had seen is known too. What is wrong with
one chain stops that chain alone.

Some segments are verified and yet not part of the tree: those past a fork or a revocation. They
stop their own chain, but an honest device may have built on them before anyone knew. So they are
fetched when another segment's ``seen`` names them, and kept in *quarantine*: they count as known,
their chunk addresses can be used, their events are never folded. What is merely not listed, or was
damaged on its way, will be part of the tree: who had seen it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.chain import (
    Finding,
    KnownSegment,
    Lookup,
    Problem,
    SegmentSource,
    Severity,
    behind,
    chain_refs,
)
from tcfs.ledger.keys import SegmentRef, is_device, key_of, namespace_prefix
from tcfs.ledger.segment import Segment
from tcfs.model.abridged import as_told
from tcfs.model.access import ControlState
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId, SegmentHash, StoreKey
from tcfs.store.base import ObjectMissing

Opener = Callable[[StoreKey, bytes], Segment]
"""Verifies a segment; raises IntegrityError, or AccessError where a key is missing."""

MAX_LEAP: Final = 1 << 32
"""How far a Lamport time may lie above all that its segment had seen: with no bound, one device
could leave no higher time for any other."""
NO_HEAD: Final = ChainHead(0, SegmentHash(""))
"""The head of a chain without segments."""

_AHEAD = 4
"""Segments of one chain that are held verified and not yet released."""
AHEAD_BYTES: Final = 1 << 20
"""Bytes of segment objects, of all chains, up to which more of them are held so."""


class FetchResult(Struct, frozen=True):
    """What is new in a namespace.

    Attributes:
        segments: accepted ones, in causal order, each chain's in its own order.
        quarantined: verified ones that do not count; see the module's docstring.
        heads: the accepted head of every chain, unchanged ones included.
        known: what to remember of each segment of both kinds, by device and place.
        findings: whatever is not as it should be.
        more: the budget ended first: persist this, then go on.
        astray: revoked devices whose chain was followed along another branch than their revocation
            names, and the last seq that stands: take back what comes after, then fetch again.
    """

    segments: tuple[Segment, ...]
    quarantined: tuple[Segment, ...]
    heads: Mapping[DeviceId, ChainHead]
    known: Mapping[tuple[DeviceId, ChainHead], KnownSegment]
    findings: tuple[Finding, ...]
    more: bool
    astray: Mapping[DeviceId, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Chain:
    """One chain's state while it is walked."""

    device: DeviceId
    head: ChainHead | None
    lamport: int = 0
    last: int = 0
    refs: dict[int, list[SegmentRef]] = field(default_factory=dict)
    sizes: dict[SegmentRef, int] = field(default_factory=dict)
    ready: list[Segment] = field(default_factory=list)
    problem: Problem | None = None
    relisted: bool = False
    named: dict[int, SegmentHash] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        return self.problem is not None

    @property
    def next_seq(self) -> int:
        return (self.head.seq if self.head else 0) + len(self.ready) + 1


class Walk:
    """One look at a namespace: what chains have that was not taken up. ``start``, then ``run``."""

    def __init__(
        self,
        source: SegmentSource,
        namespace: NamespaceId,
        open_segment: Opener,
        known: Lookup,
        state: ControlState | None,
        control_known: Callable[[DeviceId, ChainHead], bool],
        pool: ThreadPoolExecutor | None,
    ) -> None:
        self._source = source
        self._namespace = namespace
        self._open = open_segment
        self._known_before = known
        self._state = state
        self._control_known = control_known
        self._pool = pool
        self._chains: dict[DeviceId, _Chain] = {}
        self._known: dict[tuple[DeviceId, ChainHead], KnownSegment] = {}
        self._released: list[Segment] = []
        self._quarantined: list[Segment] = []
        self._findings: dict[tuple[Problem, DeviceId, int], Finding] = {}
        self._hopeless: set[tuple[DeviceId, ChainHead]] = set()
        self._astray: dict[DeviceId, int] = {}

    # -- listing -------------------------------------------------------------------------------

    def start(self, heads: Mapping[DeviceId, ChainHead]) -> None:
        """List every chain from its known head. Raises StoreError, ValueError."""
        names = set(self._source.list_dirs(namespace_prefix(self._namespace)))
        for name in sorted(names | set(heads)):
            device = DeviceId(name)
            if not is_device(name):
                self._find("stray", device, 0, "no device has this name", "warning")
                continue
            head = heads.get(device)
            chain = _Chain(device, head)
            if head:
                before = self._known_before(device, head)
                if before is None:
                    raise ValueError(f"the head of chain {device} is not known")
                chain.lamport, chain.last = before.lamport, before.last
            self._chains[device] = chain
            self._list_chain(chain)

    def _list_chain(self, chain: _Chain) -> None:
        device = chain.device
        chain.refs, strays, chain.sizes = chain_refs(
            self._source, self._namespace, device, behind(chain.head)
        )
        for key in strays[:1]:
            self._find("stray", device, 0, f"{len(strays)} such as {key!r}", "warning")
        if chain.head:
            self._check_passed(chain, chain.head)
        self._cut_off(chain)

    def _check_passed(self, chain: _Chain, head: ChainHead) -> None:
        """What is listed up to the head is what was taken up, and nothing beside it."""
        passed = [ref for seq in sorted(chain.refs) if seq <= head.seq for ref in chain.refs[seq]]
        chain.refs = {seq: refs for seq, refs in chain.refs.items() if seq > head.seq}
        if head not in [ref.head for ref in passed]:
            self._stop(chain, "rollback", head.seq, "the store no longer has what was known")
        cut = self._cut(chain.device)
        if cut is not None:
            # The revocation says which of two branches stands.
            if head.seq >= cut.seq and head != cut:
                self._leave_branch(chain, cut)
            return
        for ref in passed:
            known = self._lookup(chain.device, ref.head)
            beside = not known.accepted if known else _signed(self._download(ref))
            if beside:
                self._stop(chain, "fork", ref.seq, "two segments have this seq")

    def _cut(self, device: DeviceId) -> ChainHead | None:
        """The last segment of a revoked device that counts."""
        record = self._state.devices.get(device) if self._state else None
        if record is None or record.cut is None:
            return None
        return record.cut.get(self._namespace, NO_HEAD)

    def _leave_branch(self, chain: _Chain, cut: ChainHead) -> bool:
        """Find where the branch that a revocation names leaves the one that was taken up.

        Returns whether it does, as far as can be told.
        """
        place = cut
        while place.seq:
            known = self._lookup(chain.device, place)
            if known is not None and known.accepted:
                break
            segment = self._download(SegmentRef(self._namespace, chain.device, *place))
            if isinstance(segment, Exception):
                return False
            place = ChainHead(place.seq - 1, SegmentHash(segment.header.prev))
        if chain.head is None or place.seq >= chain.head.seq:
            return False
        self._astray[chain.device] = place.seq
        chain.problem = "held"
        chain.ready.clear()
        return True

    def _cut_off(self, chain: _Chain) -> None:
        """Stop before what the control state does not let this device say."""
        if self._state is None or not chain.refs:
            return
        first = min(chain.refs)
        record = self._state.devices.get(chain.device)
        if record is None:
            self._stop(chain, "refused", first, "its device is no member")
        elif record.role == "reader":
            self._stop(chain, "refused", first, "its device may only read")
        elif (cut := self._cut(chain.device)) is not None:
            last = max(chain.refs)
            if last > cut.seq:
                reason = f"segments up to {last} lie past its device's revocation"
                self._find("revoked", chain.device, max(first, cut.seq + 1), reason, "info")
            chain.refs = {seq: refs for seq, refs in chain.refs.items() if seq <= cut.seq}
            if cut.seq in chain.refs:
                # The revocation says which of two branches stands.
                named = [ref for ref in chain.refs[cut.seq] if ref.hash == cut.hash]
                if named:
                    chain.refs[cut.seq] = named
                else:
                    del chain.refs[cut.seq]
                    reason = "it is not the segment that its device's revocation names"
                    self._find("refused", chain.device, cut.seq, reason, "error")

    # -- following the chains ------------------------------------------------------------------

    def run(self, budget: int) -> FetchResult:
        """What can be released of it, about so many bytes of segments. Raises StoreError."""
        spent, stuck = 0, False
        while spent < budget:
            downloaded = self._advance(beyond=stuck)
            released, before = len(self._released), self._progress()
            for chain in sorted(self._chains.values(), key=lambda chain: chain.device):
                self._release(chain)
            spent += sum(segment.size for segment in self._released[released:])
            if downloaded or self._progress() != before:
                stuck = False
            elif stuck:
                break
            else:
                # All that is held waits for what there was no room for.
                stuck = True
        more = spent >= budget and any(
            chain.ready or (chain.next_seq in chain.refs and not chain.stopped)
            for chain in self._chains.values()
        )
        if not more:
            self._report_rest()
        result = FetchResult(
            segments=tuple(self._released),
            quarantined=tuple(self._quarantined),
            heads={c.device: c.head for c in self._chains.values() if c.head},
            known=self._known,
            findings=tuple(self._findings.values()),
            more=more,
            astray=self._astray,
        )
        self._released, self._quarantined, self._findings, self._astray = [], [], {}, {}
        return result

    def _progress(self) -> tuple[int, ...]:
        stopped = sum(chain.stopped for chain in self._chains.values())
        return len(self._released), len(self._quarantined), stopped, len(self._hopeless)

    def _advance(self, *, beyond: bool) -> bool:
        """Download and verify the next few segments of every chain that goes on.

        Args:
            beyond: one of each chain that has none, whether or not there is room.
        """
        wanted: list[tuple[_Chain, int, SegmentRef]] = []
        room = AHEAD_BYTES - sum(s.size for c in self._chains.values() for s in c.ready)
        for chain in self._chains.values():
            if chain.stopped:
                continue
            for seq in range(chain.next_seq, chain.next_seq + _AHEAD - len(chain.ready)):
                if seq not in chain.refs or (room <= 0 and (not beyond or seq != chain.next_seq)):
                    break
                wanted += [(chain, seq, ref) for ref in chain.refs[seq]]
                room -= sum(chain.sizes.get(ref, 0) for ref in chain.refs[seq])
        refs = [ref for _, _, ref in wanted]
        run = self._pool.map if self._pool is not None and len(refs) > 1 else map
        opened = list(run(self._download, refs))
        rounds: dict[tuple[DeviceId, int], list[tuple[SegmentRef, Segment | Exception]]] = {}
        for (chain, seq, ref), result in zip(wanted, opened, strict=True):
            rounds.setdefault((chain.device, seq), []).append((ref, result))
        for (device, seq), results in rounds.items():
            chain = self._chains[device]
            if not chain.stopped:
                self._append(chain, seq, results)
        return bool(wanted)

    def _download(self, ref: SegmentRef) -> Segment | Exception:
        """The verified segment, or why not. A failure of the store is raised."""
        try:
            return self._open(ref.key, self._source.get(ref.key))
        except (IntegrityError, AccessError, ObjectMissing) as error:
            return error

    def _append(
        self, chain: _Chain, seq: int, results: list[tuple[SegmentRef, Segment | Exception]]
    ) -> None:
        real = [(ref, result) for ref, result in results if _signed(result)]
        if len(real) > 1:
            named = self._branch_of_cut(chain, seq)
            if named is None:
                self._stop(chain, "fork", seq, "two segments have this seq")
                return
            real = [(ref, result) for ref, result in real if ref.hash == named]
        good = [result for _, result in real if isinstance(result, Segment)]
        for ref, error in results:
            if isinstance(error, AccessError):
                if not good:
                    self._stop(chain, "no-key", seq, error.message, "warning")
            elif isinstance(error, Exception):
                if real:
                    self._find("stray", chain.device, seq, f"damaged: {ref.key}", "warning")
                else:
                    self._stop(chain, "damaged", seq, str(error))
        if not good or chain.stopped:
            return
        tip = chain.ready[-1].head if chain.ready else chain.head
        if good[0].header.prev != (tip.hash if tip else ""):
            cut = self._cut(chain.device)
            if cut is not None and self._leave_branch(chain, cut):
                return
            self._stop(chain, "refused", seq, "it does not follow the segment before it")
            return
        chain.ready.append(good[0])

    def _branch_of_cut(self, chain: _Chain, seq: int) -> SegmentHash | None:
        """Which segment with this seq leads to the one that the device's revocation names."""
        place = self._cut(chain.device)
        if place is None:
            return None
        while place.seq > seq and seq not in chain.named:
            segment = self._download(SegmentRef(self._namespace, chain.device, *place))
            if isinstance(segment, Exception):
                return None
            place = ChainHead(place.seq - 1, SegmentHash(segment.header.prev))
            chain.named[place.seq] = place.hash
        return place.hash if place.seq == seq else chain.named.get(seq)

    # -- causal order --------------------------------------------------------------------------

    def _release(self, chain: _Chain) -> None:
        while chain.ready:
            segment = chain.ready[0]
            header = segment.header
            seen = {device: self._resolve(device, head) for device, head in header.seen.items()}
            if None in seen.values() or not self._control_seen(segment):
                return
            facts = {device: found for device, found in seen.items() if found is not None}
            problem = _problem(segment, facts, chain.lamport, chain.last)
            if problem:
                chain.ready.clear()
                self._stop(chain, "refused", header.seq, problem)
                return
            chain.ready.pop(0)
            chain.refs.pop(header.seq, None)
            chain.head = segment.head
            chain.lamport, chain.last = header.lamport, header.last or chain.last
            self._known[chain.device, segment.head] = KnownSegment(chain.lamport, chain.last)
            self._released.append(segment)

    def _control_seen(self, segment: Segment) -> bool:
        return all(self._control_known(d, head) for d, head in segment.header.control.items())

    def _lookup(self, device: DeviceId, head: ChainHead) -> KnownSegment | None:
        return self._known.get((device, head)) or self._known_before(device, head)

    def _resolve(self, device: DeviceId, head: ChainHead) -> KnownSegment | None:
        """What is known of a segment that another had seen; None if it has to wait."""
        found = self._lookup(device, head)
        if found or (device, head) in self._hopeless:
            return found
        chain = self._chains.get(device)
        if chain is None or (not chain.relisted and head.seq not in chain.refs):
            # It may have been written since the chain was listed.
            chain = self._chains.setdefault(device, _Chain(device, None))
            chain.relisted = True
            if not chain.stopped:
                self._list_chain(chain)
        if self._on_its_way(chain, head) or not self._leads_past(chain, head):
            return None
        return self._quarantine(chain, head)

    def _on_its_way(self, chain: _Chain, head: ChainHead) -> bool:
        if chain.stopped or head.seq <= (chain.head.seq if chain.head else 0):
            return False
        first = chain.head.seq + 1 if chain.head else 1
        return all(seq in chain.refs for seq in range(first, head.seq + 1)) and any(
            ref.hash == head.hash for ref in chain.refs[head.seq]
        )

    def _leads_past(self, chain: _Chain, head: ChainHead) -> bool:
        """Whether a chain, as far as can be known, will never lead to this segment."""
        if head.seq <= (chain.head.seq if chain.head else 0):
            return True
        if self._state is not None:
            record = self._state.devices.get(chain.device)
            if record is None or record.role == "reader":
                return True
            cut = self._cut(chain.device)
            if cut is not None and head.seq >= cut.seq:
                return True
        if chain.problem == "rollback":
            # A listing that is not up to date looks the same, but for what lies past the head.
            return any(ref.hash == head.hash for ref in chain.refs.get(head.seq, ()))
        return chain.problem in ("fork", "refused")

    def _is_to_come(self, chain: _Chain, place: ChainHead) -> bool:
        """Whether a chain, as far as can be known, is yet to lead to this segment."""
        if any(segment.head == place for segment in chain.ready):
            return True
        listed = [ref.hash for ref in chain.refs.get(place.seq, ())]
        if chain.stopped or place.seq < chain.next_seq or place.hash not in listed:
            return False
        return len(listed) == 1 or self._branch_of_cut(chain, place.seq) == place.hash

    def _quarantine(self, chain: _Chain, head: ChainHead) -> KnownSegment | None:
        """Verify a segment, and those before it, that its own chain does not lead to.

        It waits for those before it that the chain is yet to lead to: they are no part of a branch.
        """
        device = chain.device
        branch: list[Segment] = []
        place = head
        found: KnownSegment | None = None
        while found is None:
            if self._is_to_come(chain, place):
                return None
            ref = SegmentRef(self._namespace, device, *place)
            segment = self._download(ref)
            if isinstance(segment, Exception):
                self._hopeless.add((device, head))
                return None
            branch.append(segment)
            if place.seq == 1:
                found = KnownSegment(0, 0)
                break
            place = ChainHead(place.seq - 1, SegmentHash(segment.header.prev))
            found = self._lookup(device, place)
        accepted = chain.head
        for segment in reversed(branch):
            header = segment.header
            if header.lamport <= found.lamport or 0 < header.first <= found.last:
                self._hopeless.add((device, head))
                return None
            found = KnownSegment(header.lamport, header.last or found.last, accepted=False)
            self._known[device, segment.head] = found
            self._quarantined.append(segment)
            if accepted and header.seq <= accepted.seq and self._cut(device) is None:
                self._stop(chain, "fork", header.seq, "two segments have this seq")
        return found

    # -- findings ------------------------------------------------------------------------------

    def _report_rest(self) -> None:
        for chain in self._chains.values():
            if chain.stopped:
                continue
            if chain.ready:
                seq, reason = chain.ready[0].header.seq, self._waits_for(chain)
                self._find("held", chain.device, seq, reason, "warning")
            elif chain.refs and chain.next_seq not in chain.refs:
                later = min(chain.refs)
                reason = f"segment {later} is there, and {chain.next_seq} is not"
                self._find("gap", chain.device, chain.next_seq, reason, "error")

    def _waits_for(self, chain: _Chain) -> str:
        header = chain.ready[0].header
        for device, head in header.seen.items():
            if self._lookup(device, head) is None:
                return f"it had seen {key_of(self._namespace, device, *head)}, which is not here"
        for device, head in header.control.items():
            if not self._control_known(device, head):
                return f"it had seen {key_of(CONTROL, device, *head)}, which is not here"
        return "it waits for another chain"

    def _stop(
        self,
        chain: _Chain,
        problem: Problem,
        seq: int,
        reason: str,
        severity: Severity = "error",
    ) -> None:
        chain.problem = problem
        chain.ready = [segment for segment in chain.ready if segment.header.seq < seq]
        self._find(problem, chain.device, seq, reason, severity)

    def _find(
        self, problem: Problem, device: DeviceId, seq: int, reason: str, severity: Severity
    ) -> None:
        finding = Finding(problem, self._namespace, device, seq, reason, severity)
        self._findings.setdefault((problem, device, seq), finding)


def _signed(result: Segment | Exception) -> bool:
    """Whether the chain's device made it: keys are asked for only once the signature holds."""
    return isinstance(result, Segment | AccessError)


def _problem(
    segment: Segment,
    seen: Mapping[DeviceId, KnownSegment],
    lamport: int,
    last: int,
) -> str | None:
    """The rule that a segment breaks, given what it follows and what it had seen."""
    header = segment.header
    highest = max(lamport, *(found.lamport for found in seen.values()), 0)
    if not highest < header.lamport <= highest + MAX_LEAP:
        return "its Lamport time does not follow from what it had seen"
    if 0 < header.first <= last:
        return "its counters were used before"
    reach = {device: found.last for device, found in seen.items()}
    reach[header.device] = header.last
    for event in map(as_told, segment.events):
        for device, count in event.manifest.vclock.clocks.items():
            if count > reach.get(device, 0):
                return f"its version {event.counter} knows of more than it had seen"
    return None
