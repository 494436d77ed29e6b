"""Receiving what live events told of: the segments they name, without asking the store for lists.

A hint is not believed: what it names is fetched and verified like anything else, in causal order,
with the membership as it was last read. What a listing alone can show - forks, gaps, revocations -
is seen by the next full ``receive``, which comes at the latest after ``sync.poll_interval``.

Nobody has anything to tell this device of its own chain: what it sent it takes up by way of its
outbox, and what somebody else put there is another machine's with this identity. Taken up, that
would hide from ``check_own`` that the chain forks there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tcfs.ledger.keys import chain_prefix, key_of
from tcfs.model.event import ChainHead
from tcfs.model.ids import DeviceId, NamespaceId, StoreKey
from tcfs.store.base import BlobStore, ETag, ObjectInfo
from tcfs.sync.context import Context
from tcfs.sync.receive import take_all


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that a chain of this namespace has this segment."""

    namespace: NamespaceId
    device: DeviceId
    head: ChainHead


class _Named:
    """A store that has the known heads, and what hints name."""

    def __init__(
        self, store: BlobStore, namespace: NamespaceId, chains: dict[DeviceId, list[ChainHead]]
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._chains = chains

    def get(self, key: StoreKey) -> bytes:
        return self._store.get(key)

    def list_dirs(self, prefix: str) -> list[str]:
        return list(self._chains)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        for device, heads in self._chains.items():
            if chain_prefix(self._namespace, device) == prefix:
                for head in sorted(heads):
                    key = key_of(self._namespace, device, *head)
                    if key > after:
                        yield ObjectInfo(key, 0, ETag(""))


def receive_hinted(context: Context, hints: Sequence[Hint]) -> int:
    """Take up the segments that hints name, as far as they follow what is known.

    Returns the number of new segments. What is not known after it needs a full ``receive``.

    Raises:
        StoreError: the store failed.
    """
    history, count = context.state.history, 0
    me = context.identity.device_id
    hints = [hint for hint in hints if hint.device != me]
    for namespace in dict.fromkeys(hint.namespace for hint in hints):
        known = history.heads(namespace)
        chains = {device: [head] for device, head in known.items()}
        useful = False
        for hint in sorted(hints, key=lambda hint: hint.head.seq):
            heads = chains.setdefault(hint.device, [])
            follows = hint.head.seq == (heads[-1].seq if heads else 0) + 1
            if hint.namespace == namespace and hint.device in context.control.devices and follows:
                heads.append(hint.head)
                useful = True
        if useful:
            source = _Named(context.store, namespace, {d: h for d, h in chains.items() if h})
            count += take_all(context, namespace, source)
    return count
