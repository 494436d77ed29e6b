"""Making a repository, and getting back into one with its recovery phrase."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tcfs.content.seal import derive
from tcfs.device.change import ControlChange, prepare, publish
from tcfs.device.epochs import (
    NO_COMMITMENT,
    EpochSecrets,
    NamespaceKeys,
    SealedObject,
    first_epoch,
    load_keys,
    seal,
)
from tcfs.device.format import FORMAT_KEY, RepositoryFormat, load_format, make_format
from tcfs.device.identity import DeviceIdentity
from tcfs.device.phrase import recovery_identity, root_signer
from tcfs.device.registry import update_registry
from tcfs.errors import AccessError, IntegrityError, RepositoryError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.control import ControlView, admit_event, epoch_event, load_control
from tcfs.model.ids import DEFAULT_NAMESPACE, RECOVERY, ROOT_DEVICE, NamespaceId
from tcfs.store.base import IF_ABSENT, BlobStore, PreconditionFailed
from tcfs.store.wrappers.conditions import PROBES

__all__ = [
    "Created",
    "RepositoryFormat",
    "create_repository",
    "load_format",
    "recover",
    "recovery_keys",
]

_CREATION_INFO: Final = b"tcfs creation v1"


@dataclass(frozen=True, slots=True)
class Created:
    """A new repository, complete in the store."""

    format: RepositoryFormat
    view: ControlView
    keys: NamespaceKeys


def create_repository(
    store: BlobStore,
    identity: DeviceIdentity,
    entropy: bytes,
    *,
    encryption: bool = True,
    created_by: str = "tcfs",
) -> Created:
    """Make a repository whose first admin is this device.

    Order: ``format.json``, the sealed keys, the root's first segment, ``devices.json``. Everything
    follows from the arguments, so a second run with the same ones, after a crash at any point and
    whatever arrived late, writes the same segment and ends with the same repository. The caller
    has saved ``identity`` and ``entropy`` before, and holds the device's lock.

    Args:
        entropy: the 32 bytes of the recovery phrase.

    Raises:
        RepositoryError: something else is in the store already.
        StoreError: the store failed; run it again.
    """
    root = root_signer(entropy)
    source = _Derived(entropy)
    repo = UUID(bytes=source.token(16), version=4)
    secrets = first_epoch(DEFAULT_NAMESPACE, source)
    fmt = _write_format(
        store,
        make_format(
            repo,
            encryption=encryption,
            root_public_key=root.public_key,
            recovery_recipient=str(recovery_identity(entropy).to_public()),
            created_by=created_by,
        ),
    )
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key)
    if ROOT_DEVICE not in view.heads:
        committed = secrets.commitment if encryption else NO_COMMITMENT
        events = [
            admit_event(identity.record("admin")),
            epoch_event(DEFAULT_NAMESPACE, secrets.epoch, committed, [identity.device_id]),
        ]
        objects = _sealed(fmt, secrets, identity) if encryption else []
        change = prepare(view, fmt, root, events, objects, entropy=source, now=identity.created_at)
        publish(store, change)
        view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key)
    if identity.device_id not in view.state.devices:
        raise RepositoryError(
            f"the repository at {store.endpoint} was made by another device with this phrase",
            remedy="Join it with: tcfs init --recover",
        )
    update_registry(
        store, lambda: load_control(store, repo=fmt.repo, root_key=fmt.root_public_key).state
    )
    keys = load_keys(
        store,
        view.state,
        DEFAULT_NAMESPACE,
        repo=fmt.repo,
        encryption=fmt.encryption,
        recipient_id=identity.device_id,
        identity=identity.age,
    )
    return Created(fmt, view, keys)


class _Derived:
    """Bytes that follow from the phrase, for what must come out alike in a second run.

    They are as secret as the phrase, which opens all that they protect anyway.
    """

    def __init__(self, entropy: bytes) -> None:
        self._entropy = entropy
        self._count = 0

    def token(self, size: int) -> bytes:
        self._count += 1
        return derive(self._entropy, _CREATION_INFO + self._count.to_bytes(4, "big"))[:size]


def _write_format(store: BlobStore, wanted: RepositoryFormat) -> RepositoryFormat:
    if store.head(FORMAT_KEY) is None:
        # What a probe of the server left behind, if it was cut off, is nobody's.
        others = (info for info in store.list("") if not info.key.startswith(PROBES))
        other = next(others, None)
        if other is not None and other.key != FORMAT_KEY:
            raise RepositoryError(
                f"{store.endpoint} is not empty and holds no repository: there is {other.key}",
                remedy="Use an empty bucket, or a prefix of its own.",
            )
        # If somebody was faster, whether it was us is seen below.
        with suppress(PreconditionFailed):
            store.put(FORMAT_KEY, wanted.raw, IF_ABSENT)
    found = load_format(store)
    ours = (wanted.repo, wanted.encryption, wanted.root_public_key, wanted.recovery_recipient)
    if (found.repo, found.encryption, found.root_public_key, found.recovery_recipient) != ours:
        raise RepositoryError(
            f"there is another repository at {store.endpoint} already",
            remedy="Join it with an invite: tcfs device enroll --invite CODE",
        )
    return found


def _sealed(
    fmt: RepositoryFormat, secrets: EpochSecrets, identity: DeviceIdentity
) -> list[SealedObject]:
    return [
        seal(fmt.repo, secrets, RECOVERY, fmt.recovery_recipient),
        seal(fmt.repo, secrets, identity.device_id, identity.recipient),
    ]


def recover(
    store: BlobStore,
    fmt: RepositoryFormat,
    entropy: bytes,
    identity: DeviceIdentity,
    *,
    source: Entropy,
    now: float,
) -> ControlChange | None:
    """Prepare the admission of a new device, as an admin, by the recovery phrase alone.

    The current epoch of every namespace, with all older keys, is sealed to the device. Save the
    change in the outbox, ``publish`` it, then load the control view again. One recovery at a time:
    two at once would fork the root chain.

    Args:
        entropy: the 32 bytes of the recovery phrase.
        identity: a new identity, saved already.
        now: unix seconds.

    Returns:
        None if an earlier run has admitted this device; its keys are then complete.

    Raises:
        AccessError: the phrase is another repository's, or does not open an epoch.
        UsageError: this device was revoked.
        IntegrityError, StoreError: the store is damaged, its ``format.json`` was changed, or it
            failed.
    """
    root = root_signer(entropy)
    if root.public_key != fmt.root_public_key:
        raise AccessError(
            "this recovery phrase is not that of this repository",
            remedy="Compare the words with what you wrote down, and the endpoint with its place.",
        )
    view = load_control(store, repo=fmt.repo, root_key=fmt.root_public_key)
    _check_format(fmt, view, entropy)
    record = view.state.devices.get(identity.device_id)
    if record is not None and record.revoked:
        raise UsageError(
            "this device was revoked, and cannot come back under its old identity",
            remedy="Recover with a new identity.",
        )
    if record is not None:
        return None
    objects: list[SealedObject] = []
    for namespace in sorted(view.state.epochs) if fmt.encryption else ():
        keys = recovery_keys(store, fmt, view, entropy, namespace)
        secrets = keys.secrets(view.state)
        objects.append(seal(fmt.repo, secrets, identity.device_id, identity.recipient))
    events = [admit_event(identity.record("admin"))]
    return prepare(view, fmt, root, events, objects, entropy=source, now=now)


def _check_format(fmt: RepositoryFormat, view: ControlView, entropy: bytes) -> None:
    """Hold ``format.json`` against what is signed: nobody who only has the phrase knows its hash.

    Otherwise whoever can write to the store could have later keys sealed to another recipient, or
    have this device write in the clear.
    """
    sealed = {
        record.commitment != NO_COMMITMENT
        for known in view.state.epochs.values()
        for record in known
    }
    ours = str(recovery_identity(entropy).to_public())
    if fmt.recovery_recipient != ours or sealed - {fmt.encryption}:
        raise IntegrityError(
            f"{FORMAT_KEY} was changed after the repository was made",
            remedy="Nothing was written. Restore the object from a backup of the store.",
        )


def recovery_keys(
    store: BlobStore,
    fmt: RepositoryFormat,
    view: ControlView,
    entropy: bytes,
    namespace: NamespaceId,
) -> NamespaceKeys:
    """A namespace's keys as the recovery phrase opens them. Raises as ``load_keys`` does."""
    return load_keys(
        store,
        view.state,
        namespace,
        repo=fmt.repo,
        encryption=fmt.encryption,
        recipient_id=RECOVERY,
        identity=recovery_identity(entropy),
    )
