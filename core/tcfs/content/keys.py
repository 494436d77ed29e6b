"""The secrets that content needs, as whoever holds them offers them."""

from __future__ import annotations

from typing import Protocol

from tcfs.model.ids import EpochId


class KeyRing(Protocol):
    """The secrets of one namespace. Implementations never show them in ``repr``."""

    @property
    def chunk_key(self) -> bytes | None:
        """The 32-byte chunk-id key; None where the repository does not encrypt."""
        ...

    def epoch_key(self, epoch: EpochId) -> bytes:
        """The 32-byte key of an epoch.

        Raises:
            AccessError: this device was not given that epoch.
        """
        ...
