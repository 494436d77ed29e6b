"""Enrollment by passphrase: a few single-use invites, sealed under it in the store.

An admin opens it, for so many devices and so long. Whoever has the passphrase opens the object and
uses one of the invites in it, so that everything said of invites holds: each works once, expires,
ends with the next change of keys, and carries the hash of the repository that it is for. Whoever
can read the store can try passphrases on it at leisure: Argon2id makes each try costly, and
nothing else does.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from blake3 import blake3

from tcfs.device.change import ControlChange, prepare
from tcfs.device.enroll import Enrolled, claim
from tcfs.device.epochs import NamespaceKeys, SealedObject
from tcfs.device.format import RepositoryFormat, load_format
from tcfs.device.identity import DeviceIdentity
from tcfs.device.invite import InviteCode, draw_invite, parse_code
from tcfs.device.protection import (
    LANES,
    MEMORY_KIB,
    PASSES,
    derive,
    open_envelope,
    seal_envelope,
)
from tcfs.errors import AccessError, IntegrityError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.control import ControlView, load_control
from tcfs.ledger.strict import canonical, hex_bytes, integer, parse_object
from tcfs.model.access import Role
from tcfs.model.ids import NamespaceId, StoreKey
from tcfs.store.base import BlobStore

POOL_PREFIX: Final = "enroll/"
PASSPHRASE_VARIABLE: Final = "TCFS_PASSPHRASE"
SHORTEST: Final = 8
"""Characters of a passphrase: a shorter one is guessed, whatever is made of it."""
MOST_USES: Final = 100
_MOST_POOLS: Final = 8
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Pool:
    """An opened enrollment: publish the change, then put the object."""

    change: ControlChange
    sealed: SealedObject
    uses: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class _Opened:
    codes: Sequence[InviteCode] = field(repr=False)


def open_pool(
    view: ControlView,
    fmt: RepositoryFormat,
    identity: DeviceIdentity,
    keys: Mapping[NamespaceId, NamespaceKeys],
    passphrase: str,
    *,
    uses: int,
    role: Role,
    expires_at: int,
    endpoint: str,
    entropy: Entropy,
    now: float,
    admit: bool = False,
) -> Pool:
    """Prepare invites for ``uses`` devices under a passphrase. Times in unix seconds.

    Raises:
        AccessError: this device is no admin, or lacks a namespace's keys.
        UsageError: the passphrase is too short, or the number of uses is none.
    """
    if len(passphrase) < SHORTEST:
        raise UsageError(
            f"a passphrase to enroll with has at least {SHORTEST} characters",
            remedy="Take several words: whoever can read the store can try to guess it.",
        )
    if not 1 <= uses <= MOST_USES:
        raise UsageError(f"between 1 and {MOST_USES} devices can enroll with one passphrase")
    codes: list[str] = []
    events: list[dict[str, Any]] = []
    objects: list[SealedObject] = []
    for _ in range(uses):
        code, event, sealed = draw_invite(
            view,
            fmt,
            identity,
            keys,
            role=role,
            expires_at=expires_at,
            endpoint=endpoint,
            entropy=entropy,
            admit=admit,
        )
        codes.append(code.encode())
        events.append(event)
        objects += sealed
    salt = entropy.token(16)
    data = seal_envelope(
        canonical({"codes": codes}),
        derive(passphrase, salt),
        "enrollment",
        {"salt": salt.hex(), "memory_kib": MEMORY_KIB, "passes": PASSES, "lanes": LANES},
        entropy.token(12),
    )
    key = StoreKey(f"{POOL_PREFIX}{uuid.UUID(bytes=entropy.token(16), version=4)}")
    change = prepare(view, fmt, identity, events, objects, entropy=entropy, now=now)
    return Pool(change, SealedObject(key, data), uses, expires_at)


def enroll(store: BlobStore, passphrase: str, identity: DeviceIdentity, now: float) -> Enrolled:
    """Use an invite that is sealed under a passphrase.

    Raises:
        AccessError: no enrollment is open, none takes this passphrase, or all its uses are used up.
        RepositoryError, IntegrityError, StoreError: as ``enroll.claim``.
    """
    found = sorted(store.list(POOL_PREFIX), key=lambda info: info.key)
    if not found:
        raise AccessError(
            "this repository does not let devices enroll by a passphrase now",
            remedy="Ask an admin to open it: tcfs device passphrase; or for an invite.",
        )
    refused: AccessError | None = None
    for info in found[:_MOST_POOLS]:
        if info.size > _MOST_BYTES:
            continue
        try:
            opened = _open(store.get(info.key), passphrase)
        except (AccessError, IntegrityError):
            continue
        for code in _unused(store, opened.codes, identity):
            try:
                return claim(store, code, identity, now)
            except AccessError as error:
                refused = error
        refused = refused or AccessError(
            "all uses of this passphrase are used up",
            remedy="Ask an admin to open it anew: tcfs device passphrase; or for an invite.",
        )
    if refused is not None:
        raise refused
    raise AccessError(
        "the passphrase is not that of this repository, or the enrollment it was for has ended",
        remedy="Try again, or ask an admin to open it anew: tcfs device passphrase",
    )


def _unused(
    store: BlobStore, codes: Sequence[InviteCode], identity: DeviceIdentity
) -> list[InviteCode]:
    """The invites that nobody else has used, one that this device used first."""
    if not codes:
        return []
    fmt = load_format(store, codes[0].format_hash)
    state = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key).state
    own = identity.device_id
    users = {request.invite_id: request.device.device_id for request in state.requests}
    users |= state.claimed
    free = [code for code in codes if users.get(code.invite_id, own) == own]

    def order(code: InviteCode) -> tuple[bool, bytes]:
        # Devices that enroll at once begin at different ones: where invites wait for an admin,
        # two that took the same could not both be admitted.
        return code.invite_id not in users, blake3((own + code.invite_id).encode()).digest()

    return sorted(free, key=order)


def _open(data: bytes, passphrase: str) -> _Opened:
    params = parse_object(data, "an enrollment")
    key = derive(
        passphrase,
        hex_bytes(params.get("salt"), 16, "its salt"),
        # Anyone who can write to the store could ask for more than this machine has.
        memory_kib=integer(params.get("memory_kib"), MEMORY_KIB, 4 * MEMORY_KIB, "its memory"),
        passes=integer(params.get("passes"), PASSES, 4 * PASSES, "its passes"),
        lanes=integer(params.get("lanes"), 1, 16, "its lanes"),
    )
    inner = parse_object(open_envelope(params, key), "an enrollment")
    codes = inner.get("codes")
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise IntegrityError("an enrollment's codes are not a list")
    return _Opened([parse_code(code) for code in codes])
