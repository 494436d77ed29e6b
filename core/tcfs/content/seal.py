"""Sealing: key derivation and AEAD with what each key and each nonce is bound to.

Formats are those of FORMAT.md, section Keys. Nothing here draws randomness: salts are passed in.
"""

from __future__ import annotations

import platform
from enum import IntEnum
from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from tcfs.errors import IntegrityError
from tcfs.model.ids import EpochId, NamespaceId

PACK_KIND: Final = b"tcfs/pack/v1"
SEGMENT_KIND: Final = b"tcfs/segment/v1"
KEY_SIZE: Final = 32
SALT_SIZE: Final = 32
TAG_SIZE: Final = 16
NO_EPOCH: Final = EpochId("")


class Cipher(IntEnum):
    """The AEAD of an object, as written in its header."""

    NONE = 0
    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


@lru_cache(maxsize=1)
def preferred_cipher() -> Cipher:
    """AES-256-GCM where the processor has AES instructions, else ChaCha20-Poly1305."""
    if platform.machine() in ("arm64", "aarch64") and platform.system() == "Darwin":
        return Cipher.AES_256_GCM
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        # x86 Macs have had AES instructions since 2010.
        return Cipher.AES_256_GCM if platform.system() == "Darwin" else Cipher.CHACHA20_POLY1305
    return Cipher.AES_256_GCM if " aes" in flags else Cipher.CHACHA20_POLY1305


class Binding(Struct, frozen=True):
    """What an object's key is derived for; a key of one object opens no other."""

    kind: bytes
    repo: UUID
    namespace: NamespaceId
    epoch: EpochId
    cipher: Cipher

    def encode(self) -> bytes:
        """The ``bind`` bytes of FORMAT.md."""
        space = self.namespace.encode()
        epoch = bytes.fromhex(self.epoch) if self.epoch else bytes(16)
        return b"".join(
            (
                self.kind,
                b"\0",
                self.repo.bytes,
                bytes((len(space),)),
                space,
                epoch,
                bytes((self.cipher,)),
            )
        )


class Sealer:
    """Seals and opens the parts of one object under a key derived from the epoch's and a salt.

    The caller owns the nonces: within one object each index is sealed once.
    """

    def __init__(self, binding: Binding, epoch_key: bytes, salt: bytes) -> None:
        self.cipher = binding.cipher
        self.bound = binding.encode()
        self._aead: AESGCM | ChaCha20Poly1305 | None = None
        if self.cipher is Cipher.NONE:
            return
        if len(epoch_key) != KEY_SIZE or len(salt) != SALT_SIZE:
            raise ValueError("an epoch key and a salt have 32 bytes each")
        key = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=salt, info=self.bound).derive(
            epoch_key
        )
        kind = AESGCM if self.cipher is Cipher.AES_256_GCM else ChaCha20Poly1305
        self._aead = kind(key)

    @property
    def overhead(self) -> int:
        """Bytes that sealing adds."""
        return TAG_SIZE if self._aead else 0

    def seal(self, index: int, aad: bytes, plaintext: bytes | bytearray | memoryview) -> bytes:
        """The sealed bytes of part ``index``; ``aad`` is appended to what the key is bound to."""
        if self._aead is None:
            return bytes(plaintext)
        return self._aead.encrypt(index.to_bytes(12, "big"), plaintext, self.bound + aad)

    def open(self, index: int, aad: bytes, sealed: bytes | bytearray | memoryview) -> bytes:
        """The plaintext of part ``index``.

        Raises:
            IntegrityError: damaged, truncated, moved, or sealed under another key.
        """
        if self._aead is None:
            return bytes(sealed)
        try:
            return self._aead.decrypt(index.to_bytes(12, "big"), sealed, self.bound + aad)
        except (InvalidTag, ValueError):
            raise _unopened() from None

    def open_into(self, index: int, aad: bytes, sealed: memoryview, into: memoryview) -> int:
        """As ``open``, into memory that is there; how many bytes the plaintext has.

        Memory that was used before is ten times as fast to fill as new memory.
        """
        size = len(sealed) - self.overhead
        if self._aead is None:
            into[:size] = sealed
            return size
        try:
            nonce = index.to_bytes(12, "big")
            return self._aead.decrypt_into(nonce, sealed, self.bound + aad, into[:size])
        except (InvalidTag, ValueError):
            raise _unopened() from None


def _unopened() -> IntegrityError:
    return IntegrityError("sealed bytes do not open: damaged, or of another key")


def derive(secret: bytes, info: bytes) -> bytes:
    """32 bytes derived with HKDF-SHA256 and no salt, for the purpose that ``info`` names."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=info).derive(secret)
