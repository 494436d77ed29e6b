"""The one door to the engine, for every front end: ``tcfs``, ``tcfs-mcp`` and services.

A ``Fleet`` is this device, opened on its repository. Its methods are synchronous, take plain
values, return the frozen values of ``tcfs.sync.results`` and raise ``TcfsError``. Front ends add
only presentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from tcfs.sync import results as r

if TYPE_CHECKING:
    from tcfs.sync.access import AccessDesk
    from tcfs.sync.audit import Auditor
    from tcfs.sync.gc.desk import GcDesk
    from tcfs.sync.git.status import GitApi
    from tcfs.sync.kept import RootDesk
    from tcfs.sync.settings_desk import SettingsDesk
    from tcfs.sync.upstream_import.run import UpstreamDesk


class Progress(Struct, frozen=True):
    """How far a long operation is. ``total`` is 0 while unknown; ``unit`` is files or bytes."""

    stage: str
    done: int
    total: int
    unit: str
    message: str = ""


ProgressFn = Callable[[Progress], None]


class Cancel(Protocol):
    """Asked between steps; once true the operation ends with CancelledError, consistently."""

    def __call__(self) -> bool: ...


class Limits(Struct, frozen=True):
    """What may happen in one go. None means no limit of that kind.

    Attributes:
        max_delete: most deletions: of remote paths by a push, of local ones by a pull.
        max_bytes: most bytes of content sent or fetched.
        confirmed: someone said yes to more deletions than the configured share, which otherwise
            holds besides ``max_delete``.
    """

    max_delete: int | None = None
    max_bytes: int | None = None
    confirmed: bool = False


class FleetApi(Protocol):
    """Everything a front end can ask of this device."""

    @property
    def access(self) -> AccessDesk: ...
    @property
    def audit(self) -> Auditor: ...
    @property
    def upstream(self) -> UpstreamDesk: ...
    @property
    def settings(self) -> SettingsDesk:
        """Which settings the devices run with."""
        ...

    def push(
        self,
        paths: list[bytes],
        *,
        as_remote: str = "",
        dry_run: bool = False,
        plan: str = "",
        limits: Limits = ...,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.SyncResult: ...

    def pull(
        self,
        remote: str = "",
        local: bytes = b"",
        *,
        dry_run: bool = False,
        plan: str = "",
        limits: Limits = ...,
        mode: str = "",
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.SyncResult: ...

    def sync(
        self,
        *,
        dry_run: bool = False,
        limits: Limits = ...,
        mode: str = "",
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[r.SyncResult, r.SyncResult]: ...

    def conflicts(
        self, *, prefix: str = "", after: str = "", limit: int = 100
    ) -> r.ConflictPage: ...
    def show_conflict(self, path: str, *, max_bytes: int = 16384) -> r.ConflictDetail: ...
    def resolve(
        self, path: str, resolution: r.Resolution, *, dry_run: bool = False
    ) -> r.ResolveResult: ...

    def log(self, path: str = "", *, before: str = "", limit: int = 50) -> r.LogPage: ...
    def why(self, path: str) -> r.Why: ...
    def restore(self, path: str, version: str, *, dry_run: bool = False) -> r.SyncResult: ...
    def undo(
        self, *, actor: str = "", segment: str = "", dry_run: bool = False, plan: str = ""
    ) -> r.UndoResult: ...
    def read(self, path: str, *, max_bytes: int) -> r.Side:
        """The content of a remote path, for resources; a conflict is an error."""
        ...

    def verify(
        self,
        *,
        read_data: bool = False,
        local: bool = False,
        repair: bool = False,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.VerifyReport: ...
    def rebuild_index(self, *, progress: ProgressFn | None = None) -> r.RebuildResult: ...
    @property
    def gc(self) -> GcDesk:
        """Garbage collection, retention, snapshots."""
        ...

    def status(self) -> r.Status: ...
    def path_status(self, path: bytes) -> r.PathStatus: ...
    def complete_paths(self, prefix: str, limit: int = 50) -> list[str]: ...

    @property
    def git(self) -> GitApi: ...

    def devices(self) -> list[r.DeviceInfo]: ...
    def invite(
        self,
        *,
        expires_s: int = 3600,
        role: str = "writer",
        attest: Sequence[str] = (),
        pcrs: Sequence[int] = (7,),
    ) -> r.InviteResult: ...
    def revoke(self, device: str, *, reason: str = "") -> r.DeviceInfo: ...
    def set_strategy(self, strategy: str) -> None: ...
    def phrase_pending(self) -> bool: ...
    def pending_phrase(self) -> str:
        """The 24 words, while they are not confirmed. Never for an assistant."""
        ...

    def confirm_phrase(self, phrase: str) -> None: ...

    @property
    def roots(self) -> RootDesk:
        """Directories that the daemon keeps in sync."""
        ...

    def close(self) -> None: ...
