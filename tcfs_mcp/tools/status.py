"""How this device stands, and what it is set up with. Nothing here changes anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Struct
from pydantic import Field

from tcfs.model.paths import show, unshow
from tcfs.service.daemon.report import Report, read
from tcfs.sync import results as r
from tcfs.sync.certificates import CertificateInfo, certificates, expiry_warnings
from tcfs_mcp.context import ToolContext

if TYPE_CHECKING:
    from tcfs.config import LoadedConfig

LOCAL = (b"/", b"./", b"../", b"~/")


class DeviceAnswer(Struct, frozen=True):
    """This device, and the fleet it belongs to."""

    device: r.Status
    fleet: tuple[r.DeviceInfo, ...]


class CredentialSource(Struct, frozen=True):
    """One place that credentials may come from: that it exists, never what it holds.

    Of kind ``chain`` are the sources of the store's credentials, in the order in which they are
    asked; the first that has any wins.
    """

    name: str
    kind: Literal["identity", "store", "chain", "file"]
    present: bool
    detail: str = ""


class CredentialAnswer(Struct, frozen=True):
    """Where credentials come from, without any value."""

    endpoint: str
    sources: tuple[CredentialSource, ...]
    in_use: str = ""
    """Name of the source that the store's credentials come from."""
    certificates: tuple[CertificateInfo, ...] = ()
    """What is shown to servers beside, and until when it is good."""
    warnings: tuple[str, ...] = ()


class ConfigAnswer(Struct, frozen=True):
    """The settings in effect, without secrets, and where each came from."""

    settings: dict[str, Any]


def device_status(ctx: ToolContext) -> DeviceAnswer:
    """Tell how this device and its fleet stand.

    Says which device this is, which store it uses, which directories it keeps and how many remote
    changes wait for them, how many conflicts stand, what needs attention (warnings), and which
    devices the fleet has. A good first call.
    """
    with ctx.fleet() as fleet:
        return DeviceAnswer(device=fleet.status(), fleet=tuple(fleet.devices()))


def sync_status(
    ctx: ToolContext,
    path: Annotated[
        str,
        Field(
            min_length=1,
            description="A local path (absolute) or a path in the fleet, such as docs/notes.txt.",
        ),
    ],
) -> r.PathStatus:
    """Tell how one file stands: up to date, newer here, newer in the fleet, or in conflict."""
    raw = unshow(path)
    # The engine takes what exists here for a local path, wherever it is.
    if raw == b"~" or raw.startswith(LOCAL) or (b"\0" not in raw and os.path.lexists(raw)):
        raw = ctx.policy.local_path(path)
    else:
        raw = path.encode("utf-8", "surrogateescape")
    with ctx.fleet() as fleet:
        return fleet.path_status(raw)


def daemon_status(ctx: ToolContext) -> Report:
    """Tell whether a background service keeps directories of this device in sync, and how it is.

    Says for each enrolled directory whether it is in sync and what problem it has, whether changes
    of other devices are told of at once (live) or found by looking at the store now and then
    (polling) and why, and whether the store can be reached.
    """
    return read(ctx.load().state_db.parent)


def credential_status(ctx: ToolContext) -> CredentialAnswer:
    """Tell which sources of credentials exist, and which is in use. Values are never shown."""
    from tcfs.errors import TcfsError
    from tcfs.secrets.sources import credential_chain
    from tcfs.sync.signin import sign_in_state
    from tcfs.sync.stores import source_in_use

    loaded = ctx.load()
    shown = _settings(loaded)
    sources = [_file_source("device identity", "identity", loaded.identity_dir)]
    if loaded.embedded:
        sources.append(
            CredentialSource(
                name="embedded store",
                kind="store",
                present=loaded.paths.embedded_store.is_dir(),
                detail="needs no credentials: it is a directory of this device",
            )
        )
    files = {
        "secrets.age_identity": loaded.config.secrets.age_identity,
        "crypto.master_key_file": loaded.config.crypto.master_key_file,
    }
    sources += [_file_source(name, "file", path) for name, path in files.items() if path]
    warnings = list(loaded.warnings)
    in_use = ""
    chain = credential_chain(loaded.config)
    sources += [
        CredentialSource(name=state.name, kind="chain", present=state.present, detail=state.detail)
        for state in chain.states()
    ]
    sign_in = sign_in_state(loaded)
    if sign_in is not None:
        sources.append(
            CredentialSource(
                name=sign_in.name, kind="file", present=sign_in.present, detail=sign_in.detail
            )
        )
    try:
        in_use = source_in_use(loaded, chain)
    except TcfsError as error:
        warnings.append(f"{error.message}. {error.remedy}")
    shown_to_servers = certificates(loaded)
    return CredentialAnswer(
        endpoint=str(shown.get("endpoint", "")),
        sources=tuple(sources),
        in_use=in_use,
        certificates=shown_to_servers,
        warnings=(*warnings, *expiry_warnings(shown_to_servers)),
    )


def config_show(ctx: ToolContext) -> ConfigAnswer:
    """Show the settings in effect and where each comes from. Secrets are left out."""
    return ConfigAnswer(settings=_settings(ctx.load()))


def _settings(loaded: LoadedConfig) -> dict[str, object]:
    from tcfs.config import config_show as redacted

    return redacted(loaded)


def _file_source(name: str, kind: Literal["identity", "file"], path: Path) -> CredentialSource:
    """Whether a file or directory is there, and who may read it."""
    shown = show(os.fsencode(path))
    try:
        found = path.stat()
    except OSError as error:
        why = error.strerror or "not readable"
        return CredentialSource(name, kind, present=False, detail=f"{shown}: {why}")
    mode = stat.S_IMODE(found.st_mode)
    warning = ": others can read it" if mode & 0o077 else ""
    return CredentialSource(name, kind, present=True, detail=f"{shown}, mode {mode:04o}{warning}")
