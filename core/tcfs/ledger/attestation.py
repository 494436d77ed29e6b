"""Verifying that a claim was made on a machine with a certain TPM 2.0. Needs no TPM itself.

A quote is a structure that only a TPM makes (it begins with TPM_GENERATED), signed with a
restricted key, which signs nothing else. It carries the nonce that it was asked with: here a hash
of the invite's own nonce and of the device's signing key, so that it is fresh and belongs to this
claim. Structures as in the TPM 2.0 library specification, part 2: TPMT_PUBLIC, TPMS_ATTEST,
TPMT_SIGNATURE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct

from tcfs.errors import IntegrityError

_GENERATED: Final = 0xFF544347
_QUOTE: Final = 0x8018
_ECC, _SHA256, _ECDSA, _NULL, _P256 = 0x0023, 0x000B, 0x0018, 0x0010, 0x0003
_RESTRICTED_SIGNING: Final = 1 << 16 | 1 << 18 | 1 << 1 | 1 << 4 | 1 << 5
"""restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin: the TPM made and keeps the key."""
_DECRYPT: Final = 1 << 17
_LONGEST: Final = 4096


class Required(Struct, frozen=True):
    """What a claim of an invite must prove.

    Attributes:
        nonce: 32 random bytes of the invite's own.
        keys: fingerprints of the attestation keys that are taken.
        pcrs: the registers of the SHA-256 bank that the quote is over.
        digest: SHA-256 over their values; empty: any.
    """

    nonce: bytes
    keys: frozenset[str]
    pcrs: tuple[int, ...]
    digest: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """As an ``invite`` event carries it."""
        return {
            "nonce": self.nonce.hex(),
            "keys": sorted(self.keys),
            "pcrs": list(self.pcrs),
            "digest": self.digest.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Required:
        """Read what an admin asked for. Raises IntegrityError."""
        nonce, keys, pcrs = data.get("nonce"), data.get("keys"), data.get("pcrs")
        try:
            made = cls(
                bytes.fromhex(str(nonce)),
                frozenset(map(str, keys or ())),
                tuple(int(pcr) for pcr in pcrs or ()),
                bytes.fromhex(str(data.get("digest") or "")),
            )
        except (ValueError, TypeError):
            raise IntegrityError("what an invite asks of a TPM cannot be read") from None
        if len(made.nonce) != 32 or len(made.digest) not in (0, 32):
            raise IntegrityError("what an invite asks of a TPM cannot be read")
        return made


def qualifying(nonce: bytes, sign_key: bytes) -> bytes:
    """What a quote must carry: it was asked for by this invite, for this device."""
    return hashlib.sha256(b"tcfs attestation v1\0" + nonce + sign_key).digest()


def fingerprint(public: bytes) -> str:
    """The name by which an attestation key is put on an allow-list: of its TPMT_PUBLIC."""
    return hashlib.sha256(public).hexdigest()


def verify_quote(required: Required, sign_key: bytes, proof: object) -> None:
    """Check what a claim says of its machine.

    Args:
        sign_key: the claiming device's.
        proof: the claim's ``attestation``.

    Raises:
        IntegrityError: there is none, or it does not hold.
    """
    if not isinstance(proof, dict):
        raise IntegrityError("its invite asks for a TPM's quote, and it has none")
    try:
        public, quote, signature = (
            bytes.fromhex(str(proof.get(name))) for name in ("key", "quote", "signature")
        )
    except ValueError:
        raise IntegrityError("its TPM's quote cannot be read") from None
    if max(len(public), len(quote), len(signature)) > _LONGEST:
        raise IntegrityError("its TPM's quote is too long")
    if fingerprint(public) not in required.keys:
        raise IntegrityError("its TPM's key is not on the list of its invite")
    try:
        key = _public_key(_Reader(public))
        r, s = _signature(_Reader(signature))
        key.verify(encode_dss_signature(r, s), quote, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise IntegrityError("its TPM's quote is not signed with that key") from None
    _check(_Reader(quote), required, qualifying(required.nonce, sign_key))


class _Reader:
    """Big-endian structures, front to back. Raises ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("too short")
        self._at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        return self.take(self.number(2))

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("too long")


def _public_key(public: _Reader) -> ec.EllipticCurvePublicKey:
    kind, name = public.number(2), public.number(2)
    attributes = public.number(4)
    public.sized()  # its policy
    parameters = [public.number(2) for _ in range(5)]
    if (kind, name, parameters) != (_ECC, _SHA256, [_NULL, _ECDSA, _SHA256, _P256, _NULL]):
        raise ValueError("not an ECDSA P-256 key")
    if attributes & _RESTRICTED_SIGNING != _RESTRICTED_SIGNING or attributes & _DECRYPT:
        raise ValueError("not a restricted signing key")
    x, y = int.from_bytes(public.sized(), "big"), int.from_bytes(public.sized(), "big")
    public.end()
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _signature(signature: _Reader) -> tuple[int, int]:
    if (signature.number(2), signature.number(2)) != (_ECDSA, _SHA256):
        raise ValueError("not ECDSA with SHA-256")
    r, s = int.from_bytes(signature.sized(), "big"), int.from_bytes(signature.sized(), "big")
    signature.end()
    return r, s


def _check(quote: _Reader, required: Required, wanted: bytes) -> None:
    try:
        magic, kind = quote.number(4), quote.number(2)
        quote.sized()  # who signed
        extra = quote.sized()
        quote.take(17 + 8)  # clock and firmware version
        pcrs: list[int] = []
        for _ in range(quote.number(4)):
            bank, bitmap = quote.number(2), quote.take(quote.number(1))
            if bank != _SHA256:
                raise ValueError("another bank")
            pcrs += [i for i in range(8 * len(bitmap)) if bitmap[i // 8] >> (i % 8) & 1]
        digest = quote.sized()
        quote.end()
    except ValueError:
        raise IntegrityError("its TPM's quote cannot be read") from None
    if (magic, kind) != (_GENERATED, _QUOTE):
        raise IntegrityError("what its TPM signed is no quote")
    if extra != wanted:
        raise IntegrityError("its TPM's quote was made for another invite or device")
    if tuple(pcrs) != tuple(sorted(required.pcrs)):
        raise IntegrityError("its TPM's quote is over other PCRs")
    if required.digest and digest != required.digest:
        raise IntegrityError("its machine's PCRs are not those that its invite asks for")
