"""Epoch secrets: made, sealed with age to each member, and believed only by a signed commitment.

Formats are those of FORMAT.md, section Keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import pyrage
from blake3 import blake3
from pyrage import x25519

from tcfs.content.seal import KEY_SIZE
from tcfs.errors import AccessError, IntegrityError
from tcfs.host.base import Entropy
from tcfs.ledger.strict import canonical, hex_bytes, parse_object
from tcfs.model.access import ControlState, EpochRecord
from tcfs.model.ids import EpochId, NamespaceId, StoreKey
from tcfs.store.base import BlobStore

NO_COMMITMENT: Final = bytes(32)
"""The commitment of an epoch without secrets, in a repository that does not encrypt."""
MAX_SEALED: Final = 16 << 20
"""Bytes of the largest sealed object: room for 150,000 epochs."""

_CONTEXT = "tcfs epoch commitment v1"


@dataclass(frozen=True, slots=True)
class EpochSecrets:
    """What is sealed to a member. ``previous`` holds the older epochs' keys, newest first."""

    namespace: NamespaceId
    epoch: EpochId
    key: bytes = field(repr=False)
    chunk_key: bytes = field(repr=False)
    previous: tuple[tuple[EpochId, bytes], ...] = field(default=(), repr=False)

    @property
    def commitment(self) -> bytes:
        """What the epoch's control event says these secrets hash to."""
        return commitment(self.key, self.chunk_key)


@dataclass(frozen=True, slots=True)
class SealedObject:
    """Secrets sealed to one recipient: these bytes under this key."""

    key: StoreKey
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NamespaceKeys:
    """All secrets of one namespace that this device was given; a ``KeyRing``."""

    namespace: NamespaceId
    keys: Mapping[EpochId, bytes] = field(default_factory=dict, repr=False)
    chunk_key: bytes | None = field(default=None, repr=False)

    @property
    def epochs(self) -> frozenset[EpochId]:
        """The epochs whose keys are here."""
        return frozenset(self.keys)

    def epoch_key(self, epoch: EpochId) -> bytes:
        """The 32-byte key of an epoch. Raises AccessError if it is not here."""
        try:
            return self.keys[epoch]
        except KeyError:
            raise AccessError(
                f"this device has no key for epoch {epoch} of {self.namespace!r}",
                remedy="Ask an admin whether this device was revoked: tcfs device list",
                details={"namespace": self.namespace, "epoch": epoch},
            ) from None

    def holds_current(self, state: ControlState) -> bool:
        """Whether the current epoch's secrets are here."""
        current = state.current_epoch(self.namespace)
        return current is not None and current.epoch in self.keys and self.chunk_key is not None

    def secrets(self, state: ControlState) -> EpochSecrets:
        """What a new member is to be given: the current epoch, and every older one that is here.

        Raises:
            AccessError: the current epoch's key is not here.
        """
        known = state.epochs.get(self.namespace, ())
        if not known or self.chunk_key is None:
            raise AccessError(f"this device holds no keys of {self.namespace!r}")
        older = [record.epoch for record in reversed(known[:-1])]
        return EpochSecrets(
            self.namespace,
            known[-1].epoch,
            self.epoch_key(known[-1].epoch),
            self.chunk_key,
            tuple((epoch, self.keys[epoch]) for epoch in older if epoch in self.keys),
        )


def new_epoch_id(entropy: Entropy) -> EpochId:
    """A fresh random epoch id."""
    return EpochId(entropy.token(16).hex())


def commitment(key: bytes, chunk_key: bytes) -> bytes:
    """What binds a signed epoch event to its secrets, 32 bytes."""
    return blake3(key + chunk_key, derive_key_context=_CONTEXT).digest()


def first_epoch(namespace: NamespaceId, entropy: Entropy) -> EpochSecrets:
    """The secrets of a new namespace."""
    return EpochSecrets(
        namespace, new_epoch_id(entropy), entropy.token(KEY_SIZE), entropy.token(KEY_SIZE)
    )


def next_epoch(keys: NamespaceKeys, state: ControlState, entropy: Entropy) -> EpochSecrets:
    """The secrets of the epoch after the current one: a new key, the same chunk-id key.

    Raises:
        AccessError: this device does not hold the current epoch.
    """
    now = keys.secrets(state)
    return EpochSecrets(
        now.namespace,
        new_epoch_id(entropy),
        entropy.token(KEY_SIZE),
        now.chunk_key,
        ((now.epoch, now.key), *now.previous),
    )


def keys_prefix(namespace: NamespaceId, epoch: EpochId) -> str:
    """The prefix of an epoch's sealed objects."""
    return f"keys/{namespace}/{epoch}/"


def seal(repo: UUID, secrets: EpochSecrets, recipient_id: str, recipient: str) -> SealedObject:
    """Seal secrets to one recipient.

    Args:
        recipient_id: a device's or invite's uuid, or ``recovery``.
        recipient: its age X25519 recipient.

    Raises:
        IntegrityError: age does not take the recipient.
    """
    plain = canonical(
        {
            "format": 1,
            "repo": str(repo),
            "namespace": secrets.namespace,
            "epoch": secrets.epoch,
            "key": secrets.key.hex(),
            "chunk_key": secrets.chunk_key.hex(),
            "previous": [{"epoch": epoch, "key": key.hex()} for epoch, key in secrets.previous],
        }
    )
    try:
        data = pyrage.encrypt(plain, [x25519.Recipient.from_str(recipient)])
    except (pyrage.RecipientError, pyrage.EncryptError):
        raise IntegrityError(f"cannot seal to {recipient_id}: not an age recipient") from None
    prefix = keys_prefix(secrets.namespace, secrets.epoch)
    return SealedObject(StoreKey(f"{prefix}{recipient_id}-{blake3(data).hexdigest()}"), data)


def open_sealed(
    repo: UUID,
    key: StoreKey,
    data: bytes,
    identity: x25519.Identity,
    *,
    record: EpochRecord,
    older: Mapping[EpochId, EpochRecord],
) -> EpochSecrets:
    """Open an object sealed to us, and believe it only as far as signed events commit to it.

    Args:
        record: the epoch, from an accepted control event.
        older: the namespace's other epochs; a previous key that none of them commits to is
            dropped.

    Raises:
        IntegrityError: damaged, moved, sealed to another, or not what the event commits to.
    """
    prefix = keys_prefix(record.namespace, record.epoch)
    if len(data) > MAX_SEALED or key != f"{prefix}{key[len(prefix) :]}":
        raise IntegrityError(f"{key}: not a sealed object of this epoch")
    if not key.endswith(f"-{blake3(data).hexdigest()}"):
        raise IntegrityError(f"{key}: its bytes are not those its key names")
    try:
        plain = pyrage.decrypt(data, [identity])
    except pyrage.DecryptError:
        raise IntegrityError(f"{key}: it is not sealed to this identity") from None
    # From here on no error's text may hold anything of what was read.
    try:
        found = _parse(plain, repo, record)
    except IntegrityError as error:
        raise IntegrityError(f"{key}: {error.message}") from None
    previous = tuple(
        (epoch, old)
        for epoch, old in found.previous
        if epoch in older and commitment(old, found.chunk_key) == older[epoch].commitment
    )
    return EpochSecrets(found.namespace, found.epoch, found.key, found.chunk_key, previous)


def _parse(plain: bytes, repo: UUID, record: EpochRecord) -> EpochSecrets:
    found = parse_object(plain, "what it holds")
    place = (found.get("format"), found.get("repo"), found.get("namespace"), found.get("epoch"))
    if place != (1, str(repo), record.namespace, record.epoch):
        raise IntegrityError("it was made for another repository, namespace or epoch")
    previous = found.get("previous")
    if not isinstance(previous, list) or not all(isinstance(item, dict) for item in previous):
        raise IntegrityError("its older keys are not a list")
    secrets = EpochSecrets(
        record.namespace,
        record.epoch,
        hex_bytes(found.get("key"), KEY_SIZE, "its key"),
        hex_bytes(found.get("chunk_key"), KEY_SIZE, "its chunk key"),
        tuple(
            (
                EpochId(hex_bytes(item.get("epoch"), 16, "an older epoch").hex()),
                hex_bytes(item.get("key"), KEY_SIZE, "an older key"),
            )
            for item in previous
        ),
    )
    if secrets.commitment != record.commitment:
        raise IntegrityError("it is not what the signed event commits to")
    return secrets


def load_keys(
    store: BlobStore,
    state: ControlState,
    namespace: NamespaceId,
    *,
    repo: UUID,
    encryption: bool,
    recipient_id: str,
    identity: x25519.Identity,
    have: NamespaceKeys | None = None,
) -> NamespaceKeys:
    """All keys of a namespace that are sealed to us, newest epoch first.

    An epoch that was sealed to us in vain or not at all is left out: ``epoch_key`` then raises.

    Args:
        have: keys that are known already, and need no reading.

    Raises:
        StoreError: the store failed.
        IntegrityError: an object under our name is there, and none of that epoch holds.
    """
    if not encryption:
        return NamespaceKeys(namespace)
    records = {record.epoch: record for record in state.epochs.get(namespace, ())}
    keys = dict(have.keys) if have else {}
    chunk_key = have.chunk_key if have else None
    for epoch in reversed(records):
        if epoch in keys:
            continue
        secrets = _find(store, repo, records[epoch], records, recipient_id, identity)
        if secrets is None:
            continue
        if chunk_key not in (None, secrets.chunk_key):
            raise IntegrityError(f"two epochs of {namespace!r} disagree on the chunk key")
        chunk_key = secrets.chunk_key
        keys.update(((epoch, secrets.key), *secrets.previous))
    return NamespaceKeys(namespace, keys, chunk_key)


def _find(
    store: BlobStore,
    repo: UUID,
    record: EpochRecord,
    older: Mapping[EpochId, EpochRecord],
    recipient_id: str,
    identity: x25519.Identity,
) -> EpochSecrets | None:
    prefix = keys_prefix(record.namespace, record.epoch)
    failed: IntegrityError | None = None
    for info in store.list(prefix):
        if not info.key.startswith(f"{prefix}{recipient_id}-") or info.size > MAX_SEALED:
            continue
        try:
            return open_sealed(
                repo, info.key, store.get(info.key), identity, record=record, older=older
            )
        except IntegrityError as error:
            # Anyone who can write to the store can put junk beside the true one.
            failed = error
    if failed:
        raise failed
    return None


def missing(keys: NamespaceKeys, records: Iterable[EpochRecord]) -> list[EpochId]:
    """The epochs whose keys are not here."""
    return [record.epoch for record in records if record.epoch not in keys.keys]
