"""Where segments lie: ``ledger/<namespace>/<device>/<seq>-<hash>`` and back."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tcfs.errors import IntegrityError
from tcfs.model.event import ChainHead
from tcfs.model.ids import (
    CONTROL,
    ROOT_DEVICE,
    DeviceId,
    NamespaceId,
    SegmentHash,
    StoreKey,
    is_uuid,
)

MAX_SEQ: Final = 9_999_999_999

_KEY = re.compile(
    r"ledger/(_control|[a-z0-9][a-z0-9._-]{0,62})/([0-9a-f-]{36}|root)/([0-9]{10})-([0-9a-f]{64})"
)


class SegmentRef(NamedTuple):
    """What a segment's key says of it."""

    namespace: NamespaceId
    device: DeviceId
    seq: int
    hash: SegmentHash

    @property
    def key(self) -> StoreKey:
        """The key itself."""
        return key_of(*self)

    @property
    def head(self) -> ChainHead:
        """Its place in its chain."""
        return ChainHead(self.seq, self.hash)


def key_of(namespace: NamespaceId, device: DeviceId, seq: int, digest: SegmentHash) -> StoreKey:
    """The key of a segment."""
    return StoreKey(f"{chain_prefix(namespace, device)}{seq:010d}-{digest}")


def parse_key(key: str) -> SegmentRef:
    """What a listed key says. Raises IntegrityError if it is no segment's key."""
    found = _KEY.fullmatch(key)
    if not found or not is_device(found[2]) or found[3] == "0" * 10:
        raise IntegrityError(f"not the key of a segment: {key!r}")
    if found[2] == ROOT_DEVICE and found[1] != CONTROL:
        raise IntegrityError(f"the root key signs control segments alone: {key!r}")
    return SegmentRef(
        NamespaceId(found[1]), DeviceId(found[2]), int(found[3]), SegmentHash(found[4])
    )


def namespace_prefix(namespace: NamespaceId) -> str:
    """The prefix of all chains of a namespace."""
    return f"ledger/{namespace}/"


def chain_prefix(namespace: NamespaceId, device: DeviceId) -> str:
    """The prefix of one chain."""
    return f"ledger/{namespace}/{device}/"


def after_key(namespace: NamespaceId, device: DeviceId, seq: int) -> str:
    """Where a listing starts that is to show segment ``seq`` itself and all later ones."""
    return f"{chain_prefix(namespace, device)}{seq:010d}" if seq else ""


def is_device(text: str) -> bool:
    """Whether this names a chain's device: a uuid, or the root."""
    return is_uuid(text) or text == ROOT_DEVICE
