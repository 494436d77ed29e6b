"""How what this device writes to a namespace is sealed now: packs and segments alike."""

from __future__ import annotations

from typing import NamedTuple

from tcfs.content.keys import KeyRing
from tcfs.content.seal import NO_EPOCH, Cipher, preferred_cipher
from tcfs.errors import AccessError
from tcfs.model.ids import EpochId, NamespaceId
from tcfs.sync.context import Context


class Sealing(NamedTuple):
    """The cipher, the epoch, and whose keys hold it; None where nothing is sealed."""

    keyring: KeyRing | None
    epoch: EpochId
    cipher: Cipher


def sealing(context: Context, namespace: NamespaceId) -> Sealing:
    """How a namespace is sealed now. Raises AccessError if it has no key yet."""
    if not context.format.encryption:
        return Sealing(None, NO_EPOCH, Cipher.NONE)
    epoch = context.control.current_epoch(namespace)
    if epoch is None:
        raise AccessError(f"the namespace {namespace} has no key")
    return Sealing(context.keys(namespace), epoch.epoch, preferred_cipher())
