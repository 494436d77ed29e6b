"""Reading what is new in a namespace's chains, and believing it only in causal order.

No reader ever acts on half of a history. How the chains are followed is in ``tcfs.ledger.walk``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from tcfs.ledger.chain import Lookup, SegmentSource
from tcfs.ledger.walk import FetchResult, Opener, Walk
from tcfs.model.access import ControlState
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, NamespaceId

DEFAULT_BUDGET: Final = 1 << 20
"""Bytes of segment objects that are released together. Opened they take twenty times as much
memory."""
DEFAULT_WORKERS: Final = 8


def fetch(
    source: SegmentSource,
    namespace: NamespaceId,
    heads: Mapping[DeviceId, ChainHead],
    open_segment: Opener,
    *,
    known: Lookup,
    state: ControlState | None,
    control_known: Callable[[DeviceId, ChainHead], bool] = lambda device, head: True,
    budget: int = DEFAULT_BUDGET,
    workers: int = DEFAULT_WORKERS,
) -> FetchResult:
    """Read and verify what is new after ``heads``.

    Args:
        heads: accepted heads as an earlier fetch returned them; empty to read everything.
        known: what was remembered of earlier segments; knows all of ``heads``.
        state: who may write; None while the control chains themselves are read.
        control_known: whether a control segment is known with this hash.
        budget: bytes of segments after which it returns with ``more`` set; at least one segment
            is released, if any can be.
        workers: downloads at once.

    Raises:
        StoreError: a listing or download failed; nothing was learned.
        ValueError: a head is not known to ``known``.
    """
    parts = fetch_in_parts(
        source,
        namespace,
        heads,
        open_segment,
        known=known,
        state=state,
        control_known=control_known,
        budget=budget,
        workers=workers,
    )
    with closing(parts):
        return next(parts)


def fetch_in_parts(
    source: SegmentSource,
    namespace: NamespaceId,
    heads: Mapping[DeviceId, ChainHead],
    open_segment: Opener,
    *,
    known: Lookup,
    state: ControlState | None,
    control_known: Callable[[DeviceId, ChainHead], bool] = lambda device, head: True,
    budget: int = DEFAULT_BUDGET,
    workers: int = DEFAULT_WORKERS,
) -> Generator[FetchResult, None, None]:
    """``fetch`` to the end: a result for each budget, all but the last with ``more``.

    Chains are listed once. What is in one result is not in the next, but for ``heads`` and
    ``known``.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        # A thread costs more than a segment that is at hand.
        parallel = pool if workers > 1 else None
        walk = Walk(source, namespace, open_segment, known, state, control_known, parallel)
        walk.start(heads)
        more = True
        while more:
            result = walk.run(budget)
            more = result.more
            yield result
            del result
