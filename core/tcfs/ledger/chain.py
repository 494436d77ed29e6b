"""Chains of segments: what is known of them, and where the next one goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from tcfs.errors import AccessError, IdentityError, IntegrityError
from tcfs.ledger.keys import SegmentRef, after_key, chain_prefix, key_of, parse_key
from tcfs.ledger.segment import Place
from tcfs.model.event import ChainHead
from tcfs.model.ids import CONTROL, DeviceId, NamespaceId, StoreKey
from tcfs.store.base import ObjectInfo

Severity = Literal["info", "warning", "error"]
Problem = Literal[
    "fork", "rollback", "gap", "damaged", "refused", "revoked", "no-key", "held", "stray"
]


class KnownSegment(NamedTuple):
    """What has to be remembered of every verified segment, quarantined ones included.

    ``last`` is the highest version counter in its chain up to and including it; ``accepted`` is
    not set for one in quarantine.
    """

    lamport: int
    last: int
    accepted: bool = True


BEHIND: Final = 32
"""How many segments before its known head a chain is listed again.

A clone that had looked at the chain may put its segment when the original is some segments further:
nobody who starts at the head would ever see it. How many is bounded by how long a writer trusts its
last look (``sync.chains.LOOK_AGAIN_S``), and a listing of so many keys is still one small answer.
"""

Lookup = Callable[[DeviceId, ChainHead], KnownSegment | None]
"""What is remembered of the segment at this seq with this hash; None if it was never verified."""


class Finding(Struct, frozen=True):
    """Something about a chain that is not as it should be. Nothing local changes because of it.

    Attributes:
        problem: ``fork``: two segments with one seq, a cloned identity; the chain stops before it.
            ``rollback``: the store lost or rewrote history that was known. ``gap``: a segment is
            missing. ``damaged``: a segment does not verify. ``refused``: it verifies and breaks a
            rule. ``revoked``: it lies past its device's revocation. ``no-key``: this device was
            not given its epoch. ``held``: it waits for history it had seen. ``stray``: an object
            that is no part of the history.
        seq: of the first segment concerned; 0 if it is about the whole chain.
        reason: one sentence for people; names keys and ids, never content.
    """

    problem: Problem
    namespace: NamespaceId
    device: DeviceId
    seq: int
    reason: str
    severity: Severity


class SegmentSource(Protocol):
    """The part of a store that reading history needs; every ``BlobStore`` is one."""

    def get(self, key: StoreKey) -> bytes:
        """The whole object. Raises ObjectMissing, StoreError."""
        ...

    def list_dirs(self, prefix: str) -> list[str]:
        """The distinct names directly below ``prefix``."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix`` and is greater than ``after``."""
        ...


def next_place(
    namespace: NamespaceId,
    device: DeviceId,
    *,
    heads: Mapping[DeviceId, ChainHead],
    known: Lookup,
    control: Mapping[DeviceId, ChainHead] | None = None,
) -> Place:
    """Where this device's next segment stands.

    Args:
        heads: the accepted head of every chain of the namespace, the device's own included.
        known: knows all of ``heads``.
        control: the accepted heads of the control chains; None for a control segment.

    Raises:
        ValueError: a head is not known, or ``control`` does not fit the namespace.
    """
    if (namespace == CONTROL) != (control is None):
        raise ValueError("segments of a namespace, and they alone, say what control they had seen")
    own = heads.get(device)
    lamport = 0
    for chain, head in heads.items():
        found = known(chain, head)
        if found is None:
            raise ValueError(f"the head of chain {chain} is not known")
        lamport = max(lamport, found.lamport)
    return Place(
        namespace=namespace,
        seq=own.seq + 1 if own else 1,
        prev=own.hash if own else "",
        lamport=lamport + 1,
        seen={chain: head for chain, head in heads.items() if chain != device},
        control=dict(control or {}),
    )


def check_own_chain(
    source: SegmentSource,
    namespace: NamespaceId,
    device: DeviceId,
    head: ChainHead | None,
    open_segment: Callable[[StoreKey, bytes], object],
    outbox: Collection[StoreKey] = (),
    *,
    known: Lookup,
) -> None:
    """Make sure that this device's chain is in the store as this device knows it.

    Args:
        head: the last segment known to be in the store.
        known: what is remembered of the segments before it.
        open_segment: verifies a segment; raises IntegrityError if this device did not sign it, so
            that junk under its name does not pass for another identity.
        outbox: keys of finished segments that may or may not have arrived there.

    Raises:
        IdentityError: the chain goes on without this device, or did so a little before the head:
            a cloned or restored identity.
        IntegrityError: the store has lost or replaced the chain's known head.
        StoreError: the store failed.
    """
    refs, _, _ = chain_refs(source, namespace, device, behind(head))
    listed = {ref.key: ref for found in refs.values() for ref in found}
    expected = {*outbox, key_of(namespace, device, *head)} if head else set(outbox)
    for key in sorted(listed.keys() - expected):
        found = known(device, listed[key].head) if head and listed[key].seq < head.seq else None
        if found is not None and found.accepted:
            continue
        try:
            open_segment(key, source.get(key))
        except IntegrityError:
            continue
        except AccessError:
            pass  # Signed with our key, and sealed with one that we were never given.
        raise IdentityError(
            f"this device's history in {namespace!r} goes on at {listed[key].seq} without it",
            details={"namespace": namespace, "device": device, "key": key},
        )
    # After that: what goes on without this device may have been compacted up to its own head.
    if head and key_of(namespace, device, *head) not in listed:
        raise IntegrityError(
            f"the store no longer has segment {head.seq} of this device in {namespace!r}",
            details={"namespace": namespace, "device": device, "seq": head.seq},
        )


def behind(head: ChainHead | None) -> int:
    """The seq from which a chain with this known head is listed."""
    return max(head.seq - BEHIND, 0) if head else 0


def chain_refs(
    source: SegmentSource, namespace: NamespaceId, device: DeviceId, seq: int
) -> tuple[dict[int, list[SegmentRef]], list[str], dict[SegmentRef, int]]:
    """A chain's listed segments from ``seq`` on, by seq; the keys that are none; bytes of each."""
    refs: dict[int, list[SegmentRef]] = {}
    sizes: dict[SegmentRef, int] = {}
    strays: list[str] = []
    prefix = chain_prefix(namespace, device)
    for info in source.list(prefix, after_key(namespace, device, seq)):
        try:
            ref = parse_key(info.key)
        except IntegrityError:
            strays.append(info.key)
            continue
        refs.setdefault(ref.seq, []).append(ref)
        sizes[ref] = info.size
    return refs, strays, sizes
