"""Opening this device: on its repository, on a new one, with an invite, or with the phrase.

What only setting up needs is imported when it is needed: every command opens a device.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import MsgspecError, Struct, json

from tcfs import __version__
from tcfs.device.epochs import NamespaceKeys, load_keys
from tcfs.device.format import RepositoryFormat, load_format
from tcfs.device.identity import (
    DeviceIdentity,
    FileProtection,
    generate,
    load_identity,
    save_identity,
)
from tcfs.device.protection import Ask, Kind, Options, ProtectedFile
from tcfs.errors import (
    LocalFileError,
    NotFoundError,
    RepositoryError,
    UsageError,
)
from tcfs.host.base import Host
from tcfs.host.system import system_host
from tcfs.ledger.control import load_control
from tcfs.model.ids import NamespaceId, check_device_name
from tcfs.state.state import State
from tcfs.store.base import BlobStore
from tcfs.store.endpoint import Endpoint
from tcfs.sync.commit import flush_outbox
from tcfs.sync.context import Context
from tcfs.sync.fleet import Fleet
from tcfs.sync.private_files import read_private, write_private
from tcfs.sync.spelling import spelt
from tcfs.sync.stores import configured_endpoint, open_configured

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.sync.results import InitResult

IDENTITY: Final = "identity.json"
BINDING: Final = "repository.json"

Notice = Callable[[str], None]


def _nobody(question: str) -> str:
    """Stands for a person where there is none."""
    return ""


class KeyCare(Struct, frozen=True):
    """How this device's keys are guarded, see ``device.protection``.

    Attributes:
        ask: for a passphrase that the environment does not have.
        kind: of a new identity; one that is there says its own.
        pcrs: what a TPM seals to.
    """

    ask: Ask = _nobody
    kind: Kind = "file"
    pcrs: tuple[int, ...] = (7,)


KEEP_IN_FILE: Final = KeyCare()


class Binding(Struct, frozen=True):
    """Which repository this device belongs to, and where it was last."""

    repo: str
    format_hash: str
    endpoint: str


def open_fleet(
    loaded: LoadedConfig,
    *,
    actor: str,
    create: bool = False,
    notice: Notice | None = None,
    ask: Ask | None = None,
    host: Host | None = None,
    store: BlobStore | None = None,
) -> Fleet:
    """Open this device on its repository.

    Args:
        actor: who asks; recorded in every event.
        create: set up the embedded store and an identity if there is nothing at all yet.
        notice: told, in a sentence each, what was created.
        ask: for the passphrase of this device's keys, if they have one.
        host, store: instead of the machine's and the configured ones.

    Raises:
        RepositoryError: there is nothing here yet, or the store is another repository.
        TcfsError: the identity, the state or the store cannot be used.
    """
    host = host or system_host()
    binding = _binding(loaded)
    if binding is None:
        if not create:
            raise RepositoryError(
                "this device belongs to no repository yet",
                remedy="Start one with: tcfs init; or join one with: tcfs device enroll "
                "--name NAME --invite CODE",
            )
        if not loaded.embedded:
            raise RepositoryError(
                f"this device has not joined the repository at {loaded.endpoint}",
                remedy="Start it with: tcfs init; or join it with: tcfs device enroll "
                "--name NAME --invite CODE",
            )
        made = init_fleet(loaded, host=host, store=store, implicit=True)
        if notice is not None:
            for message in made.messages:
                notice(message)
        binding = _binding(loaded)
        assert binding is not None
    identity = load_identity(_protection(loaded, host, KeyCare(ask or _nobody)))
    opened = store or open_configured(loaded, configured_endpoint(loaded, binding.endpoint))
    fmt = load_format(opened, binding.format_hash)
    return Fleet(_context(loaded, host, opened, identity, fmt, actor), loaded)


def _context(
    loaded: LoadedConfig,
    host: Host,
    store: BlobStore,
    identity: DeviceIdentity,
    fmt: RepositoryFormat,
    actor: str,
    state: State | None = None,
) -> Context:
    state = state or State(loaded.state_db)
    context: Context

    def open_keys(namespace: NamespaceId) -> NamespaceKeys:
        return load_keys(
            store,
            context.control,
            namespace,
            repo=fmt.repo,
            encryption=fmt.encryption,
            recipient_id=identity.device_id,
            identity=identity.age,
        )

    view = load_control(
        None, repo=fmt.repo, root_key=fmt.root_public_key, cached=state.control.objects()
    )
    context = Context(
        host=spelt(host, state),
        store=store,
        state=state,
        identity=identity,
        format=fmt,
        config=loaded.config,
        view=view,
        namespace=NamespaceId(loaded.config.sync.namespace),
        actor=actor,
        open_keys=open_keys,
    )
    return context


def init_fleet(
    loaded: LoadedConfig,
    *,
    name: str = "",
    encryption: bool | None = None,
    host: Host | None = None,
    store: BlobStore | None = None,
    implicit: bool = False,
    keys: KeyCare = KEEP_IN_FILE,
) -> InitResult:
    """Make a repository, this device its first admin.

    Identity and recovery phrase are on disk before anything is in the store, and a run that was cut
    off is completed by the next one.

    Raises:
        RepositoryError: this device belongs to a repository, or the store holds something.
        TcfsError: the identity or the store cannot be written.
    """
    from tcfs.device.phrase import words_of
    from tcfs.device.repository import create_repository
    from tcfs.sync.recovery import keep_phrase, phrase_entropy
    from tcfs.sync.results import InitResult

    host = host or system_host()
    with _locked(loaded, host):
        bound = _binding(loaded)
        if bound is not None:
            raise RepositoryError(
                f"this device belongs to the repository {bound.repo} at {bound.endpoint} already",
                remedy="See it with: tcfs status",
            )
        endpoint = configured_endpoint(loaded)
        with _opened(loaded, endpoint, store, create=True) as opened:
            entropy = phrase_entropy(loaded)
            if entropy is None:
                entropy = host.entropy.token(32)
                keep_phrase(loaded, entropy)
            identity = _identity(loaded, host, name, keys)
            encrypt = loaded.config.crypto.enabled if encryption is None else encryption
            created = create_repository(
                opened,
                identity,
                entropy,
                encryption=encrypt,
                created_by=f"tcfs {__version__}",
            )
        _bind(loaded, created.format, endpoint.url)
    messages = [
        f"created {'the embedded store' if loaded.embedded else 'a repository'} at {endpoint.url}",
        f"created this device's identity and keys: {identity.name} ({identity.device_id})",
    ]
    if implicit:
        messages.append("write the recovery phrase down soon: tcfs init --show-phrase")
    return InitResult(
        device_id=identity.device_id,
        device_name=identity.name,
        endpoint=endpoint.url,
        repo=str(created.format.repo),
        phrase="" if implicit else words_of(entropy),
        messages=tuple(messages),
    )


def recover_fleet(
    loaded: LoadedConfig,
    *,
    phrase: str,
    name: str = "",
    keys: KeyCare = KEEP_IN_FILE,
    host: Host | None = None,
    store: BlobStore | None = None,
) -> InitResult:
    """Get back into a repository with its 24 words, as a new admin device.

    Raises:
        AccessError: the phrase is another repository's.
        UsageError: it is no phrase.
        RepositoryError: this device belongs to another repository, or there is none.
    """
    from tcfs.device.phrase import entropy_of
    from tcfs.device.repository import recover
    from tcfs.sync.control import publish_change
    from tcfs.sync.results import InitResult

    host = host or system_host()
    entropy = entropy_of(phrase)
    with _locked(loaded, host):
        _refuse_bound(loaded)
        endpoint = configured_endpoint(loaded)
        with _opened(loaded, endpoint, store) as opened:
            fmt = load_format(opened)
            identity = _identity(loaded, host, name, keys)
            context = _context(loaded, host, opened, identity, fmt, "recover")
            try:
                # A segment that an earlier run finished must not be made a second time.
                flush_outbox(context)
                change = recover(
                    opened,
                    fmt,
                    entropy,
                    identity,
                    source=host.entropy,
                    now=host.clock.now(),
                )
                if change is not None:
                    publish_change(context, change)
            finally:
                context.state.close()
        _bind(loaded, fmt, endpoint.url)
    return InitResult(
        device_id=identity.device_id,
        device_name=identity.name,
        endpoint=endpoint.url,
        repo=str(fmt.repo),
        messages=(
            f"recovered: {identity.name} ({identity.device_id}) is an admin of this repository",
            "revoke the devices that are lost: tcfs device revoke NAME",
        ),
    )


def enroll_fleet(
    loaded: LoadedConfig,
    *,
    name: str,
    invite: str = "",
    passphrase: str = "",
    new_identity: bool = False,
    keys: KeyCare = KEEP_IN_FILE,
    host: Host | None = None,
    store: BlobStore | None = None,
) -> InitResult:
    """Join a repository with an invite or its passphrase. Nobody needs to be online.

    Args:
        invite: the code, which says where the repository is.
        passphrase: instead of an invite; the repository is the configured one.
        new_identity: lay the identity and state that this machine has aside, and join anew.

    Raises:
        AccessError: the invite expired, was used, or is void.
        UsageError: the code is none, or was cut off.
        RepositoryError: this device belongs to a repository already, or the store is another one.
    """
    from tcfs.device.enroll import claim
    from tcfs.device.invite import parse_code
    from tcfs.device.pool import enroll
    from tcfs.sync.members import fingerprint
    from tcfs.sync.results import InitResult

    host = host or system_host()
    if bool(invite) == bool(passphrase):
        raise UsageError("join with an invite or with the passphrase", remedy="One of the two.")
    code = parse_code(invite) if invite else None
    with _locked(loaded, host):
        if new_identity:
            _lay_aside(loaded, host)
        _refuse_bound(loaded)
        endpoint = configured_endpoint(loaded, code.endpoint if code is not None else "")
        with _opened(loaded, endpoint, store) as opened:
            identity = _identity(loaded, host, name, keys)
            if code is not None:
                enrolled = claim(opened, code, identity, host.clock.now())
            else:
                enrolled = enroll(opened, passphrase, identity, host.clock.now())
        _bind(loaded, enrolled.format, endpoint.url)
    who = f"{identity.name} ({identity.device_id})"
    own = fingerprint(identity.public_key)
    asked = (
        f"asked to join: {who}, fingerprint {own}",
        f"it waits until an admin has compared that, and admits it: tcfs device admit "
        f"{identity.name}",
    )
    return InitResult(
        device_id=identity.device_id,
        device_name=identity.name,
        endpoint=endpoint.url,
        repo=str(enrolled.format.repo),
        messages=asked if enrolled.waiting else (f"enrolled: {who}",),
        waiting=enrolled.waiting,
        fingerprint=own,
    )


@contextmanager
def _opened(
    loaded: LoadedConfig, endpoint: Endpoint, given: BlobStore | None, *, create: bool = False
) -> Iterator[BlobStore]:
    """The given store, or that of the endpoint while the context lasts."""
    if given is not None:
        yield given
        return
    store = open_configured(loaded, endpoint, create=create)
    try:
        yield store
    finally:
        store.close()


# What a device keeps


def _protection(loaded: LoadedConfig, host: Host, keys: KeyCare) -> ProtectedFile:
    file = FileProtection(host.files, os.fsencode(loaded.identity_dir / IDENTITY), host.entropy)
    options = Options(ask=keys.ask, pcrs=keys.pcrs)
    return ProtectedFile(file, host.entropy, options, keys.kind)


def _identity(loaded: LoadedConfig, host: Host, name: str, keys: KeyCare) -> DeviceIdentity:
    """This device's identity, made now if there is none."""
    protection = _protection(loaded, host, keys)
    try:
        known = load_identity(protection)
    except NotFoundError:
        chosen = name or loaded.config.sync.device_name or _host_name()
        made = generate(check_device_name(chosen), host.entropy, host.clock.now())
        save_identity(made, protection)
        return made
    if name and name != known.name:
        raise UsageError(
            f"this device has an identity already, named {known.name!r}",
            remedy="Use that name, or a new identity: tcfs device enroll --new-identity ...",
        )
    return known


def _host_name() -> str:
    """The host's name without its domain, with what a device name does not take replaced."""
    raw = socket.gethostname().partition(".")[0]
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in raw)
    return cleaned.lstrip("._-")[:63] or "device"


def _binding(loaded: LoadedConfig) -> Binding | None:
    data = read_private(loaded.identity_dir / BINDING)
    if data is None:
        return None
    try:
        return json.decode(data, type=Binding)  # a later version may tell more
    except MsgspecError:
        raise LocalFileError(
            f"{loaded.identity_dir / BINDING} is damaged",
            remedy="Restore it from a backup, or join again with a new identity.",
        ) from None


def _bind(loaded: LoadedConfig, fmt: RepositoryFormat, endpoint: str) -> None:
    binding = Binding(str(fmt.repo), fmt.hash, endpoint)
    write_private(loaded.identity_dir / BINDING, json.encode(binding))


def _refuse_bound(loaded: LoadedConfig) -> None:
    bound = _binding(loaded)
    if bound is not None:
        raise RepositoryError(
            f"this device belongs to the repository {bound.repo} already",
            remedy="To join another, or again: tcfs device enroll --new-identity --invite CODE",
        )


def _lay_aside(loaded: LoadedConfig, host: Host) -> None:
    """Keep the old identity and state under other names: nothing of them is lost."""
    mark = f".{int(host.clock.now())}-{host.entropy.token(4).hex()}.old"
    from tcfs.sync.recovery import PHRASE

    targets: list[Path] = [loaded.identity_dir / n for n in (BINDING, IDENTITY, PHRASE)]
    targets += [Path(f"{loaded.state_db}{suffix}") for suffix in ("", "-wal", "-shm")]
    try:
        for path in targets:
            if path.exists():
                path.rename(path.with_name(path.name + mark))
    except OSError as error:
        raise LocalFileError(f"cannot lay the old identity aside: {error}") from error


@contextmanager
def _locked(loaded: LoadedConfig, host: Host) -> Iterator[None]:
    for directory in (loaded.identity_dir, loaded.state_db.parent):
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LocalFileError(f"cannot make {directory}: {error.strerror}") from error
    with host.lock(lock_path(loaded), False):
        yield


def lock_path(loaded: LoadedConfig) -> bytes:
    """The device's lock, held from scan to commit by whoever changes its chain."""
    return os.fsencode(loaded.state_db.parent / "lock")
