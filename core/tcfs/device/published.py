"""``tcfs-meta/settings/<device id>.json``: what settings a device runs with, as digests.

Signed by the device, written by it alone, and replaced when its settings change. A view for people
and tools: nothing is decided by it. Whoever holds the store can take it away or put an older one
back, but not make one. Format: FORMAT.md, *tcfs-meta/settings*.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from tcfs.config.digest import SettingsDigest
from tcfs.errors import IntegrityError
from tcfs.ledger.segment import Signer
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.ids import DeviceId, StoreKey

SETTINGS_PREFIX: Final = "tcfs-meta/settings/"
MAX_PUBLISHED: Final = 64 << 10
"""Bytes of the largest one that is read."""

_DOMAIN = b"tcfs settings v1\0"


class Published(Struct, frozen=True):
    """What a device said it runs with.

    Attributes:
        at: unix seconds, by that device's clock.
        version: of tcfs.
    """

    digest: SettingsDigest
    at: int
    version: str


def settings_key(device: DeviceId) -> StoreKey:
    """Where a device's digests are."""
    return StoreKey(f"{SETTINGS_PREFIX}{device}.json")


def make_published(published: Published, *, repo: UUID, device: DeviceId, signer: Signer) -> bytes:
    """The object's bytes."""
    data: dict[str, Any] = {
        "format": 1,
        "repo": str(repo),
        "device_id": device,
        "published_at": published.at,
        "version": published.version,
        "digest": published.digest.whole,
        "settings": published.digest.settings,
    }
    data["signature"] = signer.sign(_DOMAIN + canonical(data)).hex()
    return canonical(data)


def parse_published(data: bytes, *, repo: UUID, device: DeviceId, sign_key: bytes) -> Published:
    """Read and verify what a device published.

    Raises:
        IntegrityError: damaged, forged, or of another device or repository.
    """
    name = settings_key(device)
    if len(data) > MAX_PUBLISHED:
        raise IntegrityError(f"{name} is larger than any may be")
    found = parse_object(data, str(name))
    signature = hex_bytes(found.pop("signature", None), 64, "its signature")
    try:
        message = _DOMAIN + canonical(found)
        Ed25519PublicKey.from_public_bytes(sign_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise IntegrityError(f"{name}: its signature does not hold") from None
    if (found.get("format"), found.get("repo"), found.get("device_id")) != (1, str(repo), device):
        raise IntegrityError(f"{name} is of another device, repository or format")
    whole, each, version = found.get("digest"), found.get("settings"), found.get("version")
    if (
        not isinstance(whole, str)
        or not isinstance(version, str)
        or not isinstance(each, dict)
        or not all(isinstance(value, str) for value in each.values())
    ):
        raise IntegrityError(f"{name}: its fields are not as they must be")
    at = integer(found.get("published_at"), 0, MAX_COUNTER, "its time")
    return Published(SettingsDigest(whole, dict(each)), at, version)
