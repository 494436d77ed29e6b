"""Credentials as an operation of this device: what there is, taking it over, and changing keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tcfs.errors import AccessError, ConfigError, NotFoundError, TcfsError, UsageError
from tcfs.model.ids import StoreKey
from tcfs.model.paths import show
from tcfs.secrets.chain import FILER_KEY, S3_ACCESS, S3_SECRET, S3_TOKEN, SECRETS, SourceState
from tcfs.secrets.names import format_credentials, named, parse_credentials
from tcfs.secrets.sources import credential_chain
from tcfs.store.open import Credentials, StoreOptions, open_store
from tcfs.sync.certificates import CertificateInfo, certificates
from tcfs.sync.private_files import read_private, write_private
from tcfs.sync.signin import sign_in_state
from tcfs.sync.stores import configured_endpoint, source_in_use, store_options

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.secrets.kdbx import Database, Entry
    from tcfs.store.endpoint import Endpoint

PROBE: Final = "tcfs-meta/probe-"


@dataclass(frozen=True, slots=True)
class CredentialList:
    """What sources there are, in order, and which one is used. No values.

    Attributes:
        entries: of the KeePass database, ``path: field, field``, if it could be opened.
        problem: why it could not.
        certificates: what is shown to servers beside, and until when it is good.
    """

    sources: tuple[SourceState, ...]
    in_use: str
    problem: str = ""
    entries: tuple[str, ...] = ()
    certificates: tuple[CertificateInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """An entry of a KeePass database. ``value`` is there only if it was asked for by name."""

    entry: str
    fields: tuple[str, ...]
    value: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """Credentials that were written to a private file."""

    file: str
    names: tuple[str, ...]
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rotated:
    """New keys are in use. ``checked`` says what they were tried with."""

    file: str
    endpoint: str
    checked: tuple[str, ...]


def list_credentials(
    loaded: LoadedConfig, *, ask: Callable[[str], str] | None = None
) -> CredentialList:
    """What sources there are. With ``ask`` the KeePass database is opened to name its entries."""
    from tcfs.secrets.age import AgeIdentities

    chain = credential_chain(loaded.config)
    secrets = loaded.config.secrets
    states = list(chain.states())
    if secrets.sops_dir is not None:
        states += AgeIdentities(os.environ, secrets.age_identity).states()
    sign_in = sign_in_state(loaded)
    states += [sign_in] if sign_in is not None else []
    in_use = problem = ""
    try:
        in_use = source_in_use(loaded, chain)
    except TcfsError as error:
        problem = error.message
    entries: list[Entry] = []
    if secrets.kdbx_path is not None:
        try:
            entries = _database(loaded, ask).entries()
        except TcfsError as error:
            problem = problem or error.message
    return CredentialList(
        sources=tuple(states),
        in_use=in_use,
        problem=problem,
        entries=tuple(_printable(f"{e.path}: {', '.join(e.fields)}") for e in entries),
        certificates=certificates(loaded),
    )


def resolve_entry(
    loaded: LoadedConfig, entry: str, *, field: str = "", ask: Callable[[str], str] | None = None
) -> Resolved:
    """One entry of the KeePass database: the names of its fields, and the value of one if named.

    Raises:
        NotFoundError: there is no such entry or field.
        AccessError: the database does not open.
    """
    values = _database(loaded, ask).resolve(entry)
    if field and field not in values:
        raise NotFoundError(f"the entry {entry!r} has no {field!r}")
    names = tuple(_printable(name) for name in values)
    return Resolved(_printable(entry), names, values[field] if field else "")


def import_credentials(
    loaded: LoadedConfig,
    source: str,
    *,
    to: Path | None = None,
    ask: Callable[[str], str] | None = None,
) -> Imported:
    """Write the secrets of one source into the credentials file, mode 0600.

    Args:
        source: ``kdbx:ENTRY``, or a file that sops or age sealed, or one of lines ``name = value``.
        to: the file; by default ``storage.credentials_file``.

    Raises:
        ConfigError: the source has no secrets of ours, or no file is named to write to.
        TcfsError: the source cannot be opened.
    """
    target = to or loaded.config.storage.credentials_file
    if target is None:
        raise ConfigError(
            "no file is named to write to",
            remedy="Set storage.credentials_file, or say --to FILE.",
        )
    values = _from(loaded, source, ask)
    if not values:
        raise ConfigError(
            f"{source} holds none of {', '.join(SECRETS)}",
            remedy="Name them so, or as the variables TCFS_S3_ACCESS and TCFS_S3_SECRET.",
        )
    before = _stored(target)
    write_private(target, format_credentials(before | values).encode())
    messages = []
    if loaded.config.storage.credentials_file != target:
        shown = show(os.fsencode(target))
        messages.append(f"set storage.credentials_file to {shown} so that it is used")
    return Imported(show(os.fsencode(target)), tuple(values), tuple(messages))


def rotate_credentials(loaded: LoadedConfig, new: Mapping[str, str]) -> Rotated:
    """Use other keys for the store from now on, once they have been seen to work.

    Order: the new keys are tried on the store, then written in one step in the place of the old
    ones, then tried once more as the next command will find them. If that fails, the old ones come
    back.

    Args:
        new: by the names in ``SECRETS``.

    Raises:
        UsageError: the store needs none, or what is given are the keys that are in use.
        ConfigError: the keys in use come from a source that this cannot change.
        AccessError: the new keys do not do; the old ones stay.
        StoreError: the store cannot be reached; the old ones stay.
    """
    endpoint = configured_endpoint(loaded)
    if endpoint.kind not in ("s3", "seaweedfs"):
        raise UsageError(f"the store at {endpoint.url} needs no credentials")
    needed = (S3_ACCESS, S3_SECRET) if endpoint.kind == "s3" else (FILER_KEY,)
    if not all(new.get(name) for name in needed):
        raise UsageError(f"the store at {endpoint.url} takes {' and '.join(needed)}")
    target = loaded.config.storage.credentials_file
    in_use = source_in_use(loaded, credential_chain(loaded.config))
    if target is None or in_use not in ("", "storage.credentials_file"):
        raise ConfigError(
            f"the credentials in use come from {in_use or 'no file'}, which tcfs does not change",
            remedy="Change them there; or keep them in storage.credentials_file.",
        )
    before = _stored(target)
    if all(before.get(name) == new[name] for name in needed):
        raise UsageError("these are the keys that are in use already")
    options = store_options(loaded)
    checked = _try(endpoint, options, new)
    old = read_private(target)
    kept = {name: value for name, value in before.items() if name != S3_TOKEN}
    write_private(target, format_credentials(kept | dict(new)).encode())
    try:
        # As the next command will find them: through the file.
        _try(endpoint, store_options(loaded), None)
    except TcfsError:
        write_private(target, old or b"")
        raise
    return Rotated(show(os.fsencode(target)), endpoint.url, checked)


def _try(
    endpoint: Endpoint, options: StoreOptions, keys: Mapping[str, str] | None
) -> tuple[str, ...]:
    """Read, write and delete with these keys, or with those that the options find."""
    from tcfs.store.s3_client import S3Keys

    if keys is not None:
        given = dict(keys)
        fixed = S3Keys(given.get(S3_ACCESS, ""), given.get(S3_SECRET, ""), given.get(S3_TOKEN, ""))
        credentials = Credentials(
            s3_keys=lambda: fixed if fixed.access else None,
            filer_key=lambda: given.get(FILER_KEY, ""),
        )
        options = replace(options, credentials=credentials)
    store = open_store(endpoint, options=options)
    try:
        probe = StoreKey(f"{PROBE}{os.urandom(8).hex()}")
        list(store.list("tcfs-meta/"))
        store.put(probe, b"tcfs")
        try:
            if store.get(probe) != b"tcfs":
                raise AccessError("the new keys read something else than they wrote")
        finally:
            store.delete(probe)
    finally:
        store.close()
    return ("list", "write", "read", "delete")


def _stored(target: Path) -> dict[str, str]:
    data = read_private(target)
    return {} if data is None else parse_credentials(data.decode(), show(os.fsencode(target)))


def _from(loaded: LoadedConfig, source: str, ask: Callable[[str], str] | None) -> dict[str, str]:
    from tcfs.host.private import read_secret
    from tcfs.secrets.age import AgeIdentities
    from tcfs.secrets.files import text_of
    from tcfs.secrets.kdbx import KdbxSource
    from tcfs.secrets.sealed import SealedSource
    from tcfs.secrets.sops import FORMATS

    if source.startswith("kdbx:"):
        entry = source.removeprefix("kdbx:")
        return dict(KdbxSource(_database(loaded, ask), entry).read())
    path = Path(source).expanduser()
    if path.suffix in FORMATS or path.suffix == ".age":
        identities = AgeIdentities(os.environ, loaded.config.secrets.age_identity)
        if not path.exists():
            raise NotFoundError(f"{show(os.fsencode(path))} is not there")
        return dict(SealedSource(path, identities).open(path))
    data = read_secret(path, private=True)
    if data is None:
        raise NotFoundError(f"{show(os.fsencode(path))} is not there")
    return named(parse_credentials(text_of(data, path), show(os.fsencode(path))))


def _database(loaded: LoadedConfig, ask: Callable[[str], str] | None) -> Database:
    from tcfs.secrets.kdbx import PASSWORD_CREDENTIAL, PASSWORD_VARIABLE, Database

    secrets = loaded.config.secrets
    if secrets.kdbx_path is None:
        raise ConfigError(
            "no KeePass database is configured", remedy="Set secrets.kdbx_path to its file."
        )
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    known = os.environ.get(PASSWORD_VARIABLE) is not None or (
        directory is not None and (Path(directory) / PASSWORD_CREDENTIAL).exists()
    )
    password = "" if known or ask is None else ask("Password of the KeePass database (not shown): ")
    return Database(secrets.kdbx_path, secrets.kdbx_key_file, os.environ, password)


def _printable(text: str) -> str:
    return show(text.encode("utf-8", "surrogatepass"))
