"""The door to garbage collection for front ends: ``fleet.gc``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tcfs.errors import NotFoundError, UsageError
from tcfs.model.ids import NamespaceId, VersionId, parse_version_id
from tcfs.model.retention import Hold, RetentionPolicy, check_tag, make_policy
from tcfs.model.upkeep import dismiss_event, hold_event, release_event, retention_event
from tcfs.sync.context import Context
from tcfs.sync.facade import Cancel, ProgressFn
from tcfs.sync.gc.results import GcResult, HoldInfo, RetentionInfo, SnapshotResult
from tcfs.sync.results import DeviceInfo

Working = Callable[[ProgressFn | None, Cancel | None], AbstractContextManager[Context]]


class GcDesk:
    """Garbage collection, retention and snapshots, each method one operation from start to end.

    Args:
        working: gives the context, with the device's lock held.
    """

    def __init__(self, working: Working) -> None:
        self._working = working

    def run(
        self,
        *,
        dry_run: bool = False,
        plan: str = "",
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> GcResult:
        """Mark what is of no use, and delete what all devices have acknowledged.

        Raises:
            TcfsError: see ``collect``.
        """
        from tcfs.sync.gc.collect import collect

        with self._working(progress, cancel) as context:
            return collect(context, dry_run=dry_run, plan=plan)

    def expire(self, device: str) -> DeviceInfo:
        """Go on without a device that is away: it joins anew when it comes back.

        Raises:
            AccessError: this device is no admin.
            NotFoundError, UsageError: which device is not clear, or it is this one.
        """
        from tcfs.sync.gc.expire import expire

        with self._working(None, None) as context:
            return expire(context, device)

    def snapshot(
        self,
        *,
        compact: bool = False,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> SnapshotResult:
        """Write down all that the history says, so that new devices need not replay it.

        Args:
            compact: delete segments that an earlier snapshot covers, and every device is past.

        Raises:
            TcfsError: see ``tcfs.sync.gc.snapshots``.
        """
        from tcfs.sync.gc.snapshots import snapshot

        with self._working(progress, cancel) as context:
            return snapshot(context, compaction=compact)

    # Retention

    def retention(self) -> RetentionInfo:
        """How much history is kept, and how much of it the next collection lets go of."""
        from tcfs.sync.receive import receive

        with self._working(None, None) as context:
            receive(context, context.namespace)
            return _info(context)

    def set_retention(
        self, *, keep_days: int | None = None, keep_versions: int | None = None
    ) -> RetentionInfo:
        """Say how much history is kept, on every device; neither: everything.

        Raises:
            AccessError: this device is no admin.
            UsageError: a number is out of bounds.
            LimitError: it would let go of every old version.
        """
        from msgspec.structs import replace

        from tcfs.device.change import require_admin
        from tcfs.sync.gc.marks import publish_upkeep
        from tcfs.sync.gc.survey import check_rules, rules_of
        from tcfs.sync.receive import receive

        policy = make_policy(keep_days, keep_versions)
        with self._working(None, None) as context:
            receive(context, context.namespace)
            require_admin(context.view, context.identity.device_id)
            rules = replace(rules_of(context, context.namespace), policy=policy)
            check_rules(context, context.namespace, rules)
            publish_upkeep(context, [retention_event(context.namespace, policy)])
            return _info(context)

    def hold(self, tag: str) -> RetentionInfo:
        """Keep this moment, whatever the policy says, until ``release``.

        Raises:
            AccessError: this device is no admin.
            UsageError: the tag is taken, or cannot be one.
        """
        from tcfs.device.change import require_admin
        from tcfs.sync.gc.marks import publish_upkeep
        from tcfs.sync.receive import receive

        check_tag(tag)
        with self._working(None, None) as context:
            namespace = context.namespace
            receive(context, namespace)
            require_admin(context.view, context.identity.device_id)
            if (namespace, tag) in context.control.upkeep.holds:
                raise UsageError(
                    f"something is held as {tag!r} already",
                    remedy="Choose another tag, or let that one go: tcfs retention release TAG",
                )
            made = Hold(tag, context.state.history.heads(namespace))
            publish_upkeep(context, [hold_event(namespace, made)])
            return _info(context)

    def release(self, tag: str) -> RetentionInfo:
        """Let a moment go that was held.

        Raises:
            AccessError: this device is no admin.
            NotFoundError: nothing is held by that name.
        """
        from tcfs.device.change import require_admin
        from tcfs.sync.gc.marks import publish_upkeep
        from tcfs.sync.receive import receive

        with self._working(None, None) as context:
            namespace = context.namespace
            receive(context, namespace)
            require_admin(context.view, context.identity.device_id)
            if (namespace, tag) not in context.control.upkeep.holds:
                raise NotFoundError(
                    f"nothing is held as {tag!r}", remedy="See what is: tcfs retention show"
                )
            publish_upkeep(context, [release_event(namespace, tag)])
            return _info(context)

    def dismiss(self, version: str) -> None:
        """Let a version that lost a conflict go like any other old one.

        Raises:
            AccessError: this device may not write.
            NotFoundError: no such version.
            UsageError: it is live, or no version's id.
        """
        from tcfs.sync.gc.marks import publish_upkeep
        from tcfs.sync.receive import receive

        wanted = parse_version_id(version)
        with self._working(None, None) as context:
            receive(context, context.namespace)
            context.require_writer()
            _check_old(context, context.namespace, wanted)
            publish_upkeep(context, [dismiss_event(context.namespace, [wanted])])


def _check_old(context: Context, namespace: NamespaceId, version: VersionId) -> None:
    history = context.state.history
    if history.version(namespace, version) is None:
        raise NotFoundError(f"there is no version {version}", remedy="Copy one from: tcfs log")
    if history.is_live(namespace, version):
        raise UsageError(
            f"version {version} has not lost: it is live",
            remedy="Settle its conflict first: tcfs conflicts",
        )


def _info(context: Context) -> RetentionInfo:
    from tcfs.sync.gc.survey import rules_of

    namespace = context.namespace
    upkeep = context.control.upkeep
    policy = upkeep.retention.get(namespace, RetentionPolicy())
    old, gone = context.state.garbage.kept_history(namespace, rules_of(context, namespace))
    return RetentionInfo(
        keep_days=policy.keep_days,
        keep_versions=policy.keep_versions,
        holds=tuple(
            HoldInfo(tag, sum(head.seq for head in hold.heads.values()))
            for (space, tag), hold in sorted(upkeep.holds.items())
            if space == namespace
        ),
        old_versions=old,
        let_go=gone,
    )
