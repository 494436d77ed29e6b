"""``Fleet``: this device as front ends see it. Each method is one operation, start to end.

What most operations have no use for is imported by those that have: every command opens a fleet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from tcfs.errors import (
    ConflictError,
    LocalFileError,
    NotFoundError,
    TcfsError,
    UsageError,
)
from tcfs.model.access import Role, Strategy
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import ROOT, show, unshow
from tcfs.sync import operations, places
from tcfs.sync import results as r
from tcfs.sync.context import Context
from tcfs.sync.facade import Cancel, Limits, ProgressFn
from tcfs.sync.patience import PATIENCE_S, device_lock
from tcfs.sync.receive import receive, refresh_control

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.sync.access import AccessDesk
    from tcfs.sync.audit import Auditor
    from tcfs.sync.gc.desk import GcDesk
    from tcfs.sync.git.status import GitDoor
    from tcfs.sync.keeper import Keeper
    from tcfs.sync.kept import RootDesk
    from tcfs.sync.settings_desk import SettingsDesk
    from tcfs.sync.upstream_import.run import UpstreamDesk

NO_LIMITS = Limits()


class Fleet:
    """This device, opened on its repository. For one thread at a time."""

    def __init__(self, context: Context, loaded: LoadedConfig) -> None:
        self._context = context
        self._loaded = loaded

    @property
    def access(self) -> AccessDesk:
        """Access rules, groups and namespaces."""
        from tcfs.sync.access import AccessDesk

        return AccessDesk(self._context, self._working)

    @property
    def audit(self) -> Auditor:
        """The ledger as an audit log."""
        from tcfs.sync.audit import Auditor

        return Auditor(self._context, self._working)

    @property
    def upstream(self) -> UpstreamDesk:
        """Imports of what the Rust tcfs left in a bucket."""
        from tcfs.sync.upstream_import.run import UpstreamDesk

        return UpstreamDesk(self._loaded, self._working)

    @property
    def settings(self) -> SettingsDesk:
        """What devices declare, and what they run."""
        from tcfs.sync.settings_desk import SettingsDesk

        return SettingsDesk(self._context, self._loaded)

    # Moving files

    def push(
        self,
        paths: list[bytes],
        *,
        as_remote: str = "",
        dry_run: bool = False,
        plan: str = "",
        limits: Limits = NO_LIMITS,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.SyncResult:
        """Send what changed at these local paths; without any, in the sync root."""
        if as_remote and len(paths) != 1:
            raise UsageError("a remote path can be given for one local path only")
        with self._working(progress, cancel) as context:
            found = [places.locate(context, path, as_remote) for path in paths] or [
                places.Place(places.sync_root(context), ROOT)
            ]
            result = operations.push(context, found, dry_run=dry_run, plan=plan, limits=limits)
            if not dry_run:
                self.settings.publish_on_the_way()
            return result

    def pull(
        self,
        remote: str = "",
        local: bytes = b"",
        *,
        dry_run: bool = False,
        plan: str = "",
        limits: Limits = NO_LIMITS,
        mode: str = "",
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.SyncResult:
        """Put on disk what the fleet has at a remote path; without one, at the sync root."""
        with self._working(progress, cancel) as context:
            namespace = places.parse(context, remote)[0] if remote else context.namespace
            operations.receive_for_pull(context, namespace, dry_run=dry_run)
            place = operations.pull_place(context, remote, local)
            result = operations.pull(
                context,
                place,
                mode=mode or context.config.sync.conflict_mode,
                dry_run=dry_run,
                plan=plan,
                limits=limits,
            )
            if not dry_run:
                self.settings.publish_on_the_way()
            return result

    def sync(
        self,
        *,
        dry_run: bool = False,
        limits: Limits = NO_LIMITS,
        mode: str = "",
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[r.SyncResult, r.SyncResult]:
        """Pull, then push, the sync root."""
        pulled = self.pull(
            dry_run=dry_run, limits=limits, mode=mode, progress=progress, cancel=cancel
        )
        pushed = self.push([], dry_run=dry_run, limits=limits, progress=progress, cancel=cancel)
        return pulled, pushed

    # Conflicts

    def conflicts(self, *, prefix: str = "", after: str = "", limit: int = 100) -> r.ConflictPage:
        """Conflicts that stand, in path order."""
        from tcfs.sync.describe import conflict_info

        context = self._fresh()
        namespace, path = self._remote(prefix)
        found = context.state.history.conflicted(namespace, path)
        start = unshow(after)
        rest = [p for p in found if not after or p > start]
        page = rest[: max(1, min(limit, r.LIST_LIMIT))]
        return r.ConflictPage(
            conflicts=tuple(conflict_info(context, namespace, p) for p in page),
            total=len(found),
            next=show(page[-1]) if len(rest) > len(page) else "",
        )

    def show_conflict(self, path: str, *, max_bytes: int = 16384) -> r.ConflictDetail:
        """A conflict as an object."""
        from tcfs.sync.desks import desk

        namespace, remote = self._remote(path)
        return desk(self._fresh(), namespace, remote).show(remote, max_bytes)

    def resolve(
        self, path: str, resolution: r.Resolution, *, dry_run: bool = False
    ) -> r.ResolveResult:
        """Settle one conflict."""
        from tcfs.sync.desks import desk

        if resolution not in get_args(r.Resolution):
            raise UsageError(
                f"not a resolution: {resolution!r}",
                remedy=f"Choose one of {', '.join(get_args(r.Resolution))}.",
            )
        with self._working() as context:
            namespace, remote = self._remote(path)
            receive(context, namespace)
            if not dry_run:
                operations.recover_roots(context, namespace)
            return desk(context, namespace, remote).resolve(remote, resolution, dry_run=dry_run)

    # History

    def log(self, path: str = "", *, before: str = "", limit: int = 50) -> r.LogPage:
        """Versions at and below a path, newest first."""
        from tcfs.sync import chronicle

        namespace, remote = self._remote(path)
        return chronicle.log(self._fresh(), namespace, remote, before=before, limit=limit)

    def why(self, path: str) -> r.Why:
        """The entries that made a path what it is."""
        from tcfs.sync import chronicle

        namespace, remote = self._remote(path)
        return chronicle.why(self._fresh(), namespace, remote)

    def restore(self, path: str, version: str, *, dry_run: bool = False) -> r.SyncResult:
        """Bring an earlier version of a path back, as a new one."""
        from tcfs.sync import reverting

        with self._working() as context:
            namespace, remote = self._remote(path)
            return reverting.restore(context, namespace, remote, version, dry_run=dry_run)

    def undo(
        self, *, actor: str = "", segment: str = "", dry_run: bool = False, plan: str = ""
    ) -> r.UndoResult:
        """Take back what an actor did from this device, or what one segment did."""
        from tcfs.sync import reverting

        with self._working() as context:
            return reverting.undo(context, actor, segment, dry_run=dry_run, plan=plan)

    def read(self, path: str, *, max_bytes: int) -> r.Side:
        """The content of a remote path."""
        from tcfs.sync.describe import version_info
        from tcfs.sync.download import read_start
        from tcfs.sync.escape import text_of

        context = self._fresh()
        namespace, remote = self._remote(path)
        head = context.state.history.head(namespace, remote)
        if head.absent:
            raise NotFoundError(f"nothing is at {show(remote)}")
        if head.version is None:
            raise ConflictError(f"{show(remote)} is in conflict")
        version = head.version
        info = version_info(context, namespace, version, live=True)
        if version.manifest.kind != "file":
            return r.Side(info)
        data = read_start(context, namespace, version, max_bytes)
        text, binary = text_of(data)
        return r.Side(info, text, binary, truncated=version.manifest.file_size > len(data))

    # Checking

    def verify(
        self,
        *,
        read_data: bool = False,
        local: bool = False,
        repair: bool = False,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> r.VerifyReport:
        """Check the ledger and the packs again; with ``local`` the files on this disk too."""
        from tcfs.sync.verify import Verifier

        with self._working(progress, cancel) as context:
            verifier = Verifier(context, context.namespace)
            receive(context, context.namespace)
            verifier.ledger()
            verifier.packs(read_data=read_data)
            verifier.references()
            if local or repair:
                verifier.local(repair=repair)
            return verifier.report()

    def rebuild_index(self, *, progress: ProgressFn | None = None) -> r.RebuildResult:
        """Make the local state anew from the store alone."""
        from tcfs.sync.rebuild import rebuild

        with self._working(progress, rebuilds=True) as context:
            return rebuild(context)

    @property
    def gc(self) -> GcDesk:
        """Garbage collection, retention, snapshots."""
        from tcfs.sync.gc.desk import GcDesk

        return GcDesk(self._working)

    # Looking

    def status(self) -> r.Status:
        """This device at a glance. An unreachable store is a warning here."""
        from tcfs.sync import overview

        return overview.status(self._context, self._loaded, phrase_pending=self.phrase_pending())

    def path_status(self, path: bytes) -> r.PathStatus:
        """How a local path, or else a remote one, stands."""
        from tcfs.sync import standing

        context = self._fresh()
        place, namespace, remote = self._place_of(context, path)
        warnings = ("the recovery phrase was not confirmed",) if self.phrase_pending() else ()
        return standing.path_status(context, show(path), place, namespace, remote, warnings)

    def _place_of(
        self, context: Context, path: bytes
    ) -> tuple[places.Place | None, NamespaceId, RelPath]:
        """What a user means by a path: a local one if it looks like one, or is there."""
        if path.startswith((b"/", b"./", b"../")) or os.path.lexists(path):
            place = places.locate(context, path)
            return place, place.root.namespace, place.remote
        namespace, remote = self._remote(os.fsdecode(path))
        return places.place_of(context, namespace, remote), namespace, remote

    def complete_paths(self, prefix: str, limit: int = 50) -> list[str]:
        """Remote paths that begin like this, from what is known here."""
        found = self._context.state.history.names_below(
            self._context.namespace, unshow(prefix), limit
        )
        return [show(path) for path in found]

    @property
    def git(self) -> GitDoor:
        """Git repositories."""
        from tcfs.sync.git.status import GitDoor

        return GitDoor(self._fresh)

    # The fleet

    def devices(self) -> list[r.DeviceInfo]:
        """Every device, revoked ones last."""
        from tcfs.sync.members import device_info

        context = self._context
        refresh_control(context)
        records = sorted(
            context.control.devices.values(), key=lambda d: (d.revoked, d.name, d.device_id)
        )
        return [device_info(context, device) for device in records]

    def invite(
        self,
        *,
        expires_s: int = 3600,
        role: str = "writer",
        attest: Sequence[str] = (),
        pcrs: Sequence[int] = (7,),
    ) -> r.InviteResult:
        """Make an invite for one more device, of a certain TPM if ``attest`` names its key."""
        if role not in get_args(Role):
            raise UsageError(
                f"not a role: {role!r}", remedy=f"Choose one of {', '.join(get_args(Role))}."
            )
        with self._working() as context:
            from tcfs.sync import control

            return control.invite(
                context,
                expires_s=expires_s,
                role=role,  # type: ignore[arg-type]
                attest=attest,
                pcrs=pcrs,
            )

    def revoke(self, device: str, *, reason: str = "") -> r.DeviceInfo:
        """Revoke a device."""
        with self._working() as context:
            from tcfs.sync import control

            return control.revoke_device(context, device, reason=reason)

    def set_strategy(self, strategy: str) -> None:
        """Say how mode ``auto`` settles conflicts in this namespace, on every device."""
        if strategy not in get_args(Strategy):
            raise UsageError(
                f"not a strategy: {strategy!r}",
                remedy=f"Choose one of {', '.join(get_args(Strategy))}.",
            )
        with self._working() as context:
            from tcfs.sync import control

            control.set_strategy(context, strategy)  # type: ignore[arg-type]

    def phrase_pending(self) -> bool:
        """Whether nobody has confirmed the recovery phrase yet."""
        from tcfs.sync.recovery import phrase_entropy

        return phrase_entropy(self._loaded) is not None

    def pending_phrase(self) -> str:
        """The 24 words, while they are not confirmed."""
        from tcfs.sync.recovery import pending_phrase

        phrase = pending_phrase(self._loaded)
        if phrase is None:
            raise NotFoundError(
                "the recovery phrase was confirmed, and is no longer on this machine",
                remedy="It is where you wrote it down.",
            )
        return phrase

    def confirm_phrase(self, phrase: str) -> None:
        """A person has the words."""
        from tcfs.sync.recovery import confirm_phrase

        confirm_phrase(self._loaded, phrase)

    def close(self) -> None:
        """Give back the state and the store."""
        self._context.state.close()
        self._context.store.close()

    @property
    def roots(self) -> RootDesk:
        """Directories that the daemon keeps in sync."""
        from tcfs.sync.kept import RootDesk

        return RootDesk(self._context, self._working)

    @property
    def keeper(self) -> Keeper:
        """What a daemon does, step by step."""
        from tcfs.sync.keeper import Keeper

        return Keeper(self._context, lambda cancel: self._working(cancel=cancel, patience_s=0))

    # Helpers

    def _remote(self, text: str) -> tuple[NamespaceId, RelPath]:
        """A remote path as a user or assistant gives it back: as it was shown."""
        return places.parse(self._context, text)

    def _fresh(self) -> Context:
        """The context, with what others wrote, if the store can be reached and nobody works."""
        try:
            with self._working(patience_s=0) as context:
                receive(context, context.namespace)
        except TcfsError as error:
            if not error.retryable:
                raise
        return self._context

    @contextmanager
    def _working(
        self,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
        *,
        patience_s: float = PATIENCE_S,
        rebuilds: bool = False,
    ) -> Iterator[Context]:
        """The context with the device's lock held: one process at a time changes its chain.

        A rebuild of the index that was cut off is finished first, unless the caller ``rebuilds``.
        """
        context = self._context
        lock = os.fsencode(self._loaded.state_db.parent / "lock")
        with device_lock(context.host, lock, patience_s=patience_s):
            context.progress, context.cancel = progress, cancel
            try:
                if not rebuilds and context.state.rebuilding:
                    from tcfs.sync.rebuild import rebuild

                    rebuild(context)
                yield context
            except OSError as error:  # a disk can fail wherever it is looked at
                raise LocalFileError(f"the disk failed: {error.strerror or error}") from error
            finally:
                context.let_go_of_executor()
                context.progress = context.cancel = None
