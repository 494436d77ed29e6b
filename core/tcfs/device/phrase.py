"""The recovery phrase: 24 words that are the root of trust, and the keys derived from them.

Formats are those of FORMAT.md, section Keys. No word of a phrase ever reaches an error's text.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import bech32
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyrage import x25519

from tcfs.content.seal import derive
from tcfs.errors import UsageError
from tcfs.model.ids import ROOT_DEVICE, DeviceId

if TYPE_CHECKING:
    from mnemonic import Mnemonic

ENTROPY_SIZE: Final = 32
WORDS: Final = 24

_ROOT_INFO = b"tcfs root signing v1"
_RECOVERY_INFO = b"tcfs recovery identity v1"


class SigningKey:
    """An Ed25519 key that signs one chain. ``repr`` shows the device alone."""

    __slots__ = ("_key", "device_id", "public_key")

    def __init__(self, device_id: DeviceId, seed: bytes) -> None:
        self.device_id = device_id
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of a message that names its own domain."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.device_id})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a signing key does not travel between processes")


def words_of(entropy: bytes) -> str:
    """The 24 words, separated by spaces, for 32 bytes of entropy."""
    if len(entropy) != ENTROPY_SIZE:
        raise ValueError("a recovery phrase holds 32 bytes")
    words: str = _list().to_mnemonic(entropy)
    return words


def entropy_of(phrase: str) -> bytes:
    """The 32 bytes that a phrase holds, however it is spaced and whatever its case.

    Raises:
        UsageError: not 24 words, a word is not in the list (says which place), or they do not
            belong together.
    """
    words = unicodedata.normalize("NFKD", phrase).lower().split()
    if len(words) != WORDS:
        raise UsageError(
            f"a recovery phrase has {WORDS} words, and this one {len(words)}",
            remedy="Type all the words in order, separated by spaces.",
        )
    known = set(_list().wordlist)
    wrong = [place for place, word in enumerate(words, 1) if word not in known]
    if wrong:
        places = ", ".join(map(str, wrong))
        raise UsageError(
            f"not in the list of words: word {places}",
            remedy="Compare that word with what you wrote down; four letters tell each apart.",
            details={"words": wrong},
        )
    try:
        return bytes(_list().to_entropy(words))
    except ValueError:
        raise UsageError(
            "each word is in the list, but together they fail their checksum",
            remedy="A word is another one of the list, or two changed places: compare them all.",
        ) from None


def root_signer(entropy: bytes) -> SigningKey:
    """The key that signs the root chain."""
    return SigningKey(ROOT_DEVICE, derive(entropy, _ROOT_INFO))


def recovery_identity(entropy: bytes) -> x25519.Identity:
    """The age identity that every epoch is sealed to as well."""
    return identity_of(derive(entropy, _RECOVERY_INFO))


def identity_of(scalar: bytes) -> x25519.Identity:
    """The age X25519 identity with this 32-byte scalar."""
    return x25519.Identity.from_str(identity_text(scalar))


def identity_text(scalar: bytes) -> str:
    """The form in which ``age`` itself keeps an identity: a secret."""
    data = bech32.convertbits(scalar, 8, 5)
    if len(scalar) != ENTROPY_SIZE or data is None:
        raise ValueError("an age identity has 32 bytes")
    text: str = bech32.bech32_encode("age-secret-key-", data)
    return text.upper()


@lru_cache(maxsize=1)
def _list() -> Mnemonic:
    # 2,048 words that most commands never need.
    from mnemonic import Mnemonic

    return Mnemonic("english")
