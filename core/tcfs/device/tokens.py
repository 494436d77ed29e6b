"""The file that keeps what a provider gave when somebody signed in.

It is sealed with a key derived from the device's own, so that whatever guards those (a passphrase,
the system's keyring, the TPM) guards the tokens as well, also after that was changed. A device that
has no keys yet keeps them in a file of mode 0600 alone, as it would its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tcfs.content.seal import derive
from tcfs.device.identity import DeviceIdentity
from tcfs.device.protection import open_envelope, seal_envelope
from tcfs.errors import AccessError, IntegrityError
from tcfs.host.base import Entropy
from tcfs.ledger.strict import canonical, parse_object

WHAT: Final = "the file of the sign-in"
_DEVICE: Final = "device"
_PURPOSE: Final = b"tcfs sign-in tokens 1"


def seal_tokens(
    record: Mapping[str, Any], identity: DeviceIdentity | None, entropy: Entropy
) -> bytes:
    """The file's bytes. The issuer can be read in them, nothing else."""
    if identity is None:
        return canonical({"format": 1, **record})
    params = {"device": identity.device_id, "issuer": record["issuer"]}
    key = derive(identity.signing_seed, _PURPOSE)
    return seal_envelope(canonical(record), key, _DEVICE, params, entropy.token(12))


def head_of(data: bytes) -> dict[str, Any]:
    """What stands in the file in the clear: ``issuer``, and ``device`` if it is sealed.

    Raises:
        IntegrityError: it is not such a file.
    """
    found = parse_object(data, WHAT)
    sealed = found.get("format") == 2 and found.get("protection") == _DEVICE
    if not isinstance(found.get("issuer"), str) or not (sealed or found.get("format") == 1):
        raise IntegrityError(f"{WHAT} is not of a kind that this version knows")
    return {"issuer": found["issuer"], **({"device": found.get("device")} if sealed else {})}


def open_tokens(data: bytes, identity: DeviceIdentity | None) -> dict[str, Any]:
    """What was sealed.

    Raises:
        AccessError: another device's keys sealed it.
        IntegrityError: it is damaged.
    """
    head = head_of(data)
    found = parse_object(data, WHAT)
    if "device" not in head:
        return found
    if identity is None or head["device"] != identity.device_id:
        raise AccessError(
            "the sign-in was kept by another identity of this machine",
            remedy="Sign in again with: tcfs auth login",
        )
    try:
        opened = open_envelope(found, derive(identity.signing_seed, _PURPOSE))
    except AccessError:
        raise IntegrityError(
            f"{WHAT} is damaged", remedy="Sign in again with: tcfs auth login"
        ) from None
    return parse_object(opened, WHAT)
