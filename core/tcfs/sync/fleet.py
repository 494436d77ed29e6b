"""``Fleet``: this device as front ends see it. Each method is one operation, start to end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from tcfs.errors import (
    ConflictError,
    LocalFileError,
    NotFoundError,
    StoreError,
    TcfsError,
    UsageError,
)
from tcfs.model.access import Role, Strategy
from tcfs.model.ids import DeviceId, NamespaceId, RelPath
from tcfs.model.paths import ROOT, show, unshow
from tcfs.sync import chronicle, operations, places, standing, undo
from tcfs.sync import results as r
from tcfs.sync.context import Context
from tcfs.sync.describe import conflict_info, version_info
from tcfs.sync.desks import desk
from tcfs.sync.download import read_start
from tcfs.sync.escape import text_of
from tcfs.sync.facade import Cancel, Limits, ProgressFn
from tcfs.sync.keeper import Keeper
from tcfs.sync.kept import RootDesk
from tcfs.sync.members import admission_warnings, device_info
from tcfs.sync.patience import PATIENCE_S, device_lock
from tcfs.sync.planning import check_plan
from tcfs.sync.rebuild import rebuild
from tcfs.sync.receive import receive, refresh_control
from tcfs.sync.recovery import confirm_phrase, pending_phrase, phrase_entropy
from tcfs.sync.stores import condition_warnings
from tcfs.sync.verify import Verifier

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.sync.access import AccessDesk
    from tcfs.sync.audit import Auditor
    from tcfs.sync.gc.desk import GcDesk
    from tcfs.sync.git.status import GitDoor
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
            receive(context, namespace)
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
        namespace, remote = self._remote(path)
        return desk(self._fresh(), namespace, remote).show(remote, max_bytes)

    def resolve(
        self, path: str, resolution: r.Resolution, *, dry_run: bool = False
    ) -> r.ResolveResult:
        """Settle one conflict."""
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
        namespace, remote = self._remote(path)
        return chronicle.log(self._fresh(), namespace, remote, before=before, limit=limit)

    def why(self, path: str) -> r.Why:
        """The entries that made a path what it is."""
        namespace, remote = self._remote(path)
        return chronicle.why(self._fresh(), namespace, remote)

    def restore(self, path: str, version: str, *, dry_run: bool = False) -> r.SyncResult:
        """Bring an earlier version of a path back, as a new one."""
        with self._working() as context:
            namespace, remote = self._remote(path)
            receive(context, namespace)
            context.require_writer()
            if not dry_run:
                operations.recover_roots(context, namespace)
            found = chronicle.find_version(context, namespace, remote, version)
            head = context.state.history.head(namespace, remote)
            reversal = undo.restoration(head, found)
            plan = undo.plan_of(namespace, [reversal])
            result = r.SyncResult(
                plan=plan,
                dry_run=dry_run,
                remote=places.remote_text(context, namespace, remote),
            )
            if dry_run:
                return result
            self._send_local(context, namespace, [remote])
            head = context.state.history.head(namespace, remote)
            segment = undo.commit(context, namespace, [undo.restoration(head, found)])
            return self._materialise(context, namespace, remote, replace(result, segment=segment))

    def undo(
        self, *, actor: str = "", segment: str = "", dry_run: bool = False, plan: str = ""
    ) -> r.UndoResult:
        """Take back what an actor did from this device, or what one segment did."""
        if bool(actor) == bool(segment):
            raise UsageError("say whose changes to take back: an actor, or a segment")
        with self._working() as context:
            namespace = context.namespace
            receive(context, namespace)
            context.require_writer()
            if not dry_run:
                operations.recover_roots(context, namespace)
            versions = self._versions_of(context, namespace, actor, segment)
            self._send_local(context, namespace, [v.manifest.rel_path for v in versions])
            found, skipped = undo.reversals(context, namespace, versions)
            made = undo.plan_of(namespace, found)
            check_plan(made, plan)
            result = r.UndoResult(
                reverted=tuple(show(x.head.path) for x in found)[: r.LIST_LIMIT],
                skipped=tuple(skipped[: r.LIST_LIMIT]),
                dry_run=dry_run,
                plan=made,
            )
            if dry_run:
                return result
            # A run that was cut off may have written all and put only some of it on disk.
            written = undo.commit(context, namespace, found) if found else ""
            base = r.SyncResult(plan=made, dry_run=False)
            pulled = self._materialise(context, namespace, ROOT, base)
            return replace(result, segment=written, skipped=(*result.skipped, *pulled.problems))

    def _versions_of(self, context: Context, namespace: NamespaceId, actor: str, segment: str):  # type: ignore[no-untyped-def]
        history = context.state.history
        if actor:
            found = history.by_actor(namespace, context.identity.device_id, actor)
        else:
            device, slash, seq = segment.rpartition("/")
            if not slash or not seq.isdigit():
                raise UsageError(
                    f"not a segment: {segment!r}", remedy="Copy one from: tcfs log --json"
                )
            found = history.by_segment(namespace, DeviceId(device), int(seq))
        if not found:
            raise NotFoundError(
                f"no change is by {actor!r}" if actor else f"segment {segment} has no changes",
                remedy="See who did what with: tcfs log",
            )
        return found

    def _send_local(self, context: Context, namespace: NamespaceId, paths: list[RelPath]) -> None:
        """Local edits of paths that are about to change are committed first, or refuse it."""
        for path in paths:
            place = operations.place_of_path(context, path, namespace)
            if place is not None and operations.local_changed(context, place):
                raise ConflictError(
                    f"{show(path)} has local changes that were not pushed",
                    remedy="Push them first: tcfs push; history then keeps them.",
                )

    def _materialise(
        self, context: Context, namespace: NamespaceId, path: RelPath, result: r.SyncResult
    ) -> r.SyncResult:
        """Put on disk what this device just wrote into history, wherever it has the paths."""
        problems: list[r.Problem] = []
        for root in context.state.roots.all():
            if root.namespace != namespace:
                continue
            try:
                done = operations.pull(
                    context,
                    places.Place(root, ROOT),
                    mode="defer",
                    dry_run=False,
                    plan="",
                    limits=Limits(confirmed=True),
                )
            except LocalFileError as error:
                problems.append(
                    r.Problem(show(root.local), error.code, error.message, error.remedy)
                )
                continue
            problems += done.problems
        return replace(result, problems=(*result.problems, *problems))

    def read(self, path: str, *, max_bytes: int) -> r.Side:
        """The content of a remote path."""
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
        with self._working(progress) as context:
            return rebuild(context)

    @property
    def gc(self) -> GcDesk:
        """Garbage collection, retention, snapshots."""
        from tcfs.sync.gc.desk import GcDesk

        return GcDesk(self._working)

    # Looking

    def status(self) -> r.Status:
        """This device at a glance. An unreachable store is a warning here."""
        context = self._context
        warnings = list(self._loaded.warnings)
        reached = True
        try:
            refresh_control(context)
        except StoreError as error:
            reached = False
            warnings.append(f"the store cannot be reached: {error.message}")
        if self.phrase_pending():
            warnings.append(
                "the recovery phrase was not confirmed: without it, losing this machine loses "
                "everything. A person at a terminal should run: tcfs init --show-phrase"
            )
        device = context.device
        waiting = admission_warnings(context)
        if device is None and not waiting:
            warnings.append("this device is not a member of the repository")
        elif device is not None and device.revoked:
            warnings.append("this device was revoked")
        warnings += [*waiting, *condition_warnings(self._loaded, context.store.endpoint)]
        for finding in context.state.findings.all()[:20]:
            if finding.kind not in ("revoked",):
                warnings.append(
                    f"{finding.namespace} chain {finding.device} at {finding.seq}: "
                    f"{finding.kind}: {finding.reason}"
                )
        history = context.state.history
        roots = tuple(
            r.RootInfo(
                local=show(root.local),
                remote=places.remote_text(context, root.namespace, root.remote),
                is_sync_root=self._is_sync_root(root.local),
                tracked=context.state.roots.base_count(root),
                waiting=context.state.roots.waiting(root),
            )
            for root in context.state.roots.all()[:100]
        )
        return r.Status(
            device_id=context.identity.device_id,
            device_name=context.identity.name,
            endpoint=context.store.endpoint,
            repo=str(context.repo),
            encryption=context.format.encryption,
            namespace=context.namespace,
            role=device.role if device else "",
            revoked=bool(device and device.revoked),
            devices=len(context.control.active()),
            conflicts=len(history.conflicted(context.namespace, ROOT)),
            roots=roots,
            outbox=context.state.outbox.count(),
            warnings=tuple(warnings),
            store_reached=reached,
            strategy=context.control.strategy(context.namespace),
        )

    def _is_sync_root(self, local: bytes) -> bool:
        configured = self._context.config.sync.sync_root
        return configured is not None and os.path.realpath(os.fsencode(configured)) == local

    def path_status(self, path: bytes) -> r.PathStatus:
        """How a local path, or else a remote one, stands."""
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
        return phrase_entropy(self._loaded) is not None

    def pending_phrase(self) -> str:
        """The 24 words, while they are not confirmed."""
        phrase = pending_phrase(self._loaded)
        if phrase is None:
            raise NotFoundError(
                "the recovery phrase was confirmed, and is no longer on this machine",
                remedy="It is where you wrote it down.",
            )
        return phrase

    def confirm_phrase(self, phrase: str) -> None:
        """A person has the words."""
        confirm_phrase(self._loaded, phrase)

    def close(self) -> None:
        """Give back the state and the store."""
        self._context.state.close()
        self._context.store.close()

    @property
    def roots(self) -> RootDesk:
        """Directories that the daemon keeps in sync."""
        return RootDesk(self._context, self._working)

    @property
    def keeper(self) -> Keeper:
        """What a daemon does, step by step."""
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
    ) -> Iterator[Context]:
        """The context with the device's lock held: one process at a time changes its chain."""
        context = self._context
        lock = os.fsencode(self._loaded.state_db.parent / "lock")
        with device_lock(context.host, lock, patience_s=patience_s):
            context.progress, context.cancel = progress, cancel
            try:
                yield context
            except OSError as error:  # a disk can fail wherever it is looked at
                raise LocalFileError(f"the disk failed: {error.strerror or error}") from error
            finally:
                context.progress = context.cancel = None
