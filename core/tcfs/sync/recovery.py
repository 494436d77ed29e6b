"""The recovery phrase on this machine: there until a person has confirmed the words, then gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tcfs.errors import UsageError
from tcfs.sync.private_files import read_private, remove_private, write_private

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig

PHRASE: Final = "recovery-phrase"
"""The file that holds the phrase's entropy, beside the identity."""


def keep_phrase(loaded: LoadedConfig, entropy: bytes) -> None:
    """Keep the phrase until it is confirmed. Raises LocalFileError."""
    write_private(loaded.identity_dir / PHRASE, entropy.hex().encode())


def phrase_entropy(loaded: LoadedConfig) -> bytes | None:
    """The phrase's 32 bytes, while nobody has confirmed the words; None afterwards."""
    data = read_private(loaded.identity_dir / PHRASE)
    return None if data is None else bytes.fromhex(data.decode("ascii"))


def pending_phrase(loaded: LoadedConfig) -> str | None:
    """The 24 words, while nobody has confirmed them; None afterwards."""
    from tcfs.device.phrase import words_of

    entropy = phrase_entropy(loaded)
    return None if entropy is None else words_of(entropy)


def confirm_phrase(loaded: LoadedConfig, phrase: str) -> None:
    """A person has the words: they are removed from this machine.

    Raises:
        UsageError: these are not the words.
    """
    from tcfs.device.phrase import entropy_of

    entropy = phrase_entropy(loaded)
    if entropy is None:
        return
    if entropy_of(phrase) != entropy:
        raise UsageError(
            "these are not the words of this repository", remedy="Compare them word by word."
        )
    remove_private(loaded.identity_dir / PHRASE)
