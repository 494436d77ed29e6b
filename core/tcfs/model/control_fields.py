"""Fields that several control events have, as they must be. See FORMAT.md, *Control events*."""

from __future__ import annotations

from collections.abc import Mapping

from tcfs.errors import IntegrityError
from tcfs.model.ids import DeviceId, NamespaceId
from tcfs.model.rules import Since


def since_of(event: Mapping[str, object]) -> Since:
    """Where a change of rules begins to hold, chain by chain. Raises IntegrityError."""
    found = event.get("since")
    since: dict[NamespaceId, dict[DeviceId, int]] = {}
    if not isinstance(found, dict):
        raise IntegrityError("a rule does not say since where it holds")
    for namespace, chains in found.items():
        if not isinstance(chains, dict) or not all(
            type(seq) is int and seq >= 0 for seq in chains.values()
        ):
            raise IntegrityError("a rule does not say since where it holds")
        since[NamespaceId(str(namespace))] = {DeviceId(str(d)): s for d, s in chains.items()}
    return since


def key_of(text: object) -> bytes:
    """A key or commitment, 32 bytes from hex. Raises IntegrityError."""
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != 32:
        raise IntegrityError("a key or commitment has not 32 bytes")
    return key
