"""Claims: how a device that holds an invite says that it joins. Format: FORMAT.md, *Claim*."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pyrage import RecipientError, x25519

from tcfs.errors import IntegrityError
from tcfs.ledger.attestation import Required, verify_quote
from tcfs.ledger.segment import Signer
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object
from tcfs.model.access import Claim, DeviceRecord
from tcfs.model.clock import MAX_COUNTER
from tcfs.model.ids import StoreKey

CLAIMS_PREFIX: Final = "claims/"
MAX_CLAIM: Final = 64 << 10
"""Bytes of the largest claim."""
_UUID = 36

_DOMAIN = b"tcfs claim v1\0"
_SIGNATURES = ("invite_signature", "device_signature")


def claim_key(invite_id: str) -> StoreKey:
    """Where the use of an invite is written."""
    return StoreKey(f"{CLAIMS_PREFIX}{invite_id}")


def request_key(invite_id: str, data: bytes) -> StoreKey:
    """Where a claim that an admin has to admit is written.

    The hash in it lets any number stand side by side, on whatever store: none takes another's
    place, and which of them holds is said by an admin.
    """
    return StoreKey(f"{CLAIMS_PREFIX}{invite_id}-{blake3(data).hexdigest()}")


def invite_of(key: StoreKey) -> str:
    """The invite that a key below ``claims/`` is of; of whatever else, no invite's id."""
    return key[len(CLAIMS_PREFIX) :][:_UUID]


def make_claim(
    *,
    repo: UUID,
    invite_id: str,
    invite: Signer,
    device: DeviceRecord,
    signer: Signer,
    now: int,
    attestation: Mapping[str, str] | None = None,
) -> bytes:
    """The claim's bytes. ``now`` in unix seconds; ``device``'s role is the invite's to say."""
    record = device.to_json()
    del record["role"]
    data: dict[str, Any] = {
        "format": 1,
        "repo": str(repo),
        "invite_id": invite_id,
        "device": record,
        "claimed_at": now,
    }
    if attestation is not None:
        data["attestation"] = dict(attestation)
    message = _DOMAIN + canonical(data)
    data["invite_signature"] = invite.sign(message).hex()
    data["device_signature"] = signer.sign(message).hex()
    return canonical(data)


def parse_claim(
    key: StoreKey,
    data: bytes,
    repo: UUID,
    invite_key: bytes,
    attest: Mapping[str, Any] | None = None,
    *,
    admit: bool = False,
) -> Claim:
    """Read a claim and verify both of its signatures, and the quote that ``attest`` asks for.

    The role of the device it returns is ``reader``; the fold gives it the invite's.

    Args:
        admit: whether the invite's claims wait for an admin, and stand under ``request_key``.

    Raises:
        IntegrityError: damaged, forged, moved, or of another repository; names the key.
    """
    try:
        return _parse(key, data, repo, invite_key, attest, admit)
    except IntegrityError as error:
        raise IntegrityError(f"{key}: {error.message}", details={"key": key}) from None


def _parse(
    key: StoreKey,
    data: bytes,
    repo: UUID,
    invite_key: bytes,
    attest: Mapping[str, Any] | None,
    admit: bool,
) -> Claim:
    if len(data) > MAX_CLAIM:
        raise IntegrityError("it is larger than any claim may be")
    found = parse_object(data, "it")
    if found.get("format") != 1 or found.get("repo") != str(repo):
        raise IntegrityError("it is of another repository or format")
    invite_id = found.get("invite_id")
    if not isinstance(invite_id, str) or invite_of(key) != invite_id:
        raise IntegrityError("it is of another invite")
    if key != (request_key(invite_id, data) if admit else claim_key(invite_id)):
        raise IntegrityError("it is not where a claim of its invite has to be")
    device = DeviceRecord.from_json(found.get("device"), role="reader")
    try:
        x25519.Recipient.from_str(device.recipient)
    except RecipientError:
        # Later epochs are sealed to it: one that cannot be would stop every revocation.
        raise IntegrityError("its recipient is not one of age") from None
    claimed_at = integer(found.get("claimed_at"), 0, MAX_COUNTER, "its time")
    signatures = [hex_bytes(found.pop(name, None), 64, name) for name in _SIGNATURES]
    message = _DOMAIN + canonical(found)
    for public_key, signature in zip((invite_key, device.sign_key), signatures, strict=True):
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise IntegrityError("one of its signatures does not hold") from None
    if attest is not None:
        verify_quote(Required.from_json(attest), device.sign_key, found.get("attestation"))
    return Claim(invite_id, device, claimed_at)
