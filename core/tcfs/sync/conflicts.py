"""One conflict at a time: shown as an object, and settled as a person or assistant says."""

from __future__ import annotations

from tcfs.errors import ConflictError, NotFoundError, UsageError
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import ROOT, show
from tcfs.model.tree import Head
from tcfs.sync import compare, operations
from tcfs.sync.context import Context
from tcfs.sync.describe import local_version, version_info
from tcfs.sync.download import read_start
from tcfs.sync.escape import text_of
from tcfs.sync.facade import Limits
from tcfs.sync.places import Place
from tcfs.sync.push import Push
from tcfs.sync.resolve import Resolver
from tcfs.sync.results import ConflictDetail, Resolution, ResolveResult, Side
from tcfs.sync.scan import look
from tcfs.sync.text_merge import common_ancestor, merge_versions


class ConflictDesk:
    """Shows and settles the conflicts of one namespace."""

    def __init__(self, context: Context, namespace: NamespaceId) -> None:
        self._context = context
        self._namespace = namespace

    def show(self, path: RelPath, max_bytes: int) -> ConflictDetail:
        """A conflict as an object. ``max_bytes`` bounds the text of each side.

        Raises:
            NotFoundError: no conflict stands there.
        """
        head = self._conflicted(path)
        ours, theirs, others = self._sides(head)
        merged = merge_versions(self._context, self._namespace, head.siblings)
        base = merged.base or common_ancestor(self._context, self._namespace, head.siblings)
        proposed = (merged.text or b"")[:max_bytes]
        return ConflictDetail(
            path=show(path),
            base=self._side(base, max_bytes),
            ours=self._side(ours, max_bytes),
            theirs=self._side(theirs, max_bytes),
            others=tuple(
                version_info(self._context, self._namespace, v, live=True) for v in others
            ),
            merge_possible=merged.text is not None,
            merge_reason=merged.reason,
            proposed_merge=text_of(proposed)[0],
            proposed_truncated=len(merged.text or b"") > len(proposed),
        )

    def _sides(self, head: Head) -> tuple[Version | None, Version | None, list[Version]]:
        """This device's version, the one that stands against it, and the rest."""
        ours = local_version(self._context, self._namespace, head.path)
        rest = [v for v in head.siblings if ours is None or v.id != ours.id]
        rest.sort(key=lambda v: v.order, reverse=True)
        return ours, rest[0] if rest else None, rest[1:]

    def _side(self, version: Version | None, max_bytes: int) -> Side:
        if version is None:
            return Side(None)
        info = version_info(self._context, self._namespace, version)
        if version.manifest.kind != "file":
            return Side(info)
        data = read_start(self._context, self._namespace, version, max_bytes)
        text, binary = text_of(data)
        return Side(info, text, binary, truncated=version.manifest.file_size > len(data))

    def _conflicted(self, path: RelPath) -> Head:
        head = self._context.state.history.head(self._namespace, path)
        if not head.conflicted:
            raise NotFoundError(
                f"no conflict stands at {show(path)}", remedy="See them with: tcfs conflicts"
            )
        return head

    def resolve(self, path: RelPath, resolution: Resolution, *, dry_run: bool) -> ResolveResult:
        """Settle a conflict. Local edits go to the store first, so that no side is lost.

        Raises:
            NotFoundError: no conflict stands there.
            ConflictError: it cannot be settled that way; says why.
        """
        context = self._context
        context.require_writer()
        place = operations.place_of_path(context, path, self._namespace)
        if place is not None and not dry_run:
            self._send_edits(place)
        head = self._conflicted(path)
        result = ResolveResult(show(path), resolution, dry_run=dry_run)
        if resolution == "defer":
            return ResolveResult(
                show(path), resolution, dry_run=dry_run, message="left as it is; both sides stand"
            )
        ours, theirs, others = self._sides(head)
        with Resolver(context, self._namespace) as resolver:
            message = self._decide(resolver, head, resolution, place, (ours, theirs, others))
            if dry_run:
                return ResolveResult(
                    show(path), resolution, dry_run=True, message=f"would be settled: {message}"
                )
            resolved = resolver.flush()
        if place is not None:
            operations.pull(
                context,
                Place(place.root, ROOT),
                mode="defer",
                dry_run=False,
                plan="",
                limits=Limits(confirmed=True),
            )
        return ResolveResult(
            path=result.path,
            resolution=resolution,
            version=resolved.version,
            conflict_copies=tuple(resolved.conflict_copies),
            message=message,
        )

    def _decide(
        self,
        resolver: Resolver,
        head: Head,
        resolution: Resolution,
        place: Place | None,
        sides: tuple[Version | None, Version | None, list[Version]],
    ) -> str:
        ours, theirs, others = sides
        if resolution == "merge":
            merged = merge_versions(self._context, self._namespace, head.siblings)
            if merged.text is None:
                raise ConflictError(
                    f"{show(head.path)} does not merge cleanly: {merged.reason}",
                    remedy="Keep one side with --keep-local or --keep-remote, or both with "
                    "--keep-both.",
                )
            resolver.merged(head, merged.text)
            return "merged both sides"
        if resolution == "keep_both":
            winner = resolver.preferred(head)
            resolver.winner(head, winner, keep_losers=True)
            return f"kept {_who(winner)} in place, the other beside it"
        if resolution == "keep_local":
            if place is not None and self._gone(place):
                resolver.deleted(head)
                return "kept the local deletion; the others stay in history"
            if ours is None:
                raise ConflictError(
                    f"this device has no version of {show(head.path)} of its own",
                    remedy="Choose --keep-remote, --keep-both or --merge.",
                )
            resolver.winner(head, ours, keep_losers=False)
            return f"kept {_who(ours)}; the other stays in history"
        if theirs is None:
            raise UsageError(f"{show(head.path)} has no other side")
        if others:
            raise ConflictError(
                f"{show(head.path)} has {len(others) + 1} other sides",
                remedy="Choose --keep-both, or bring one back with: tcfs restore PATH --at VERSION",
            )
        resolver.winner(head, theirs, keep_losers=False)
        return f"kept {_who(theirs)}; the other stays in history"

    def _send_edits(self, place: Place) -> None:
        """What is on disk becomes a version before anything is settled about it."""
        context = self._context
        exclude = operations.excluded(context, place.root)
        looked = compare.look(context, place.root, exclude, place.prefix)
        push = Push(context, place.root, looked, only=frozenset((place.prefix,)))
        if push.candidates:
            push.run()

    def _gone(self, place: Place) -> bool:
        base = self._context.state.roots.base_of(place.root, place.prefix)
        try:
            look(self._context.host.files, place.root.local, place.prefix)
        except FileNotFoundError:
            return base is not None
        return False


def _who(version: Version) -> str:
    return f"the version of {show(version.manifest.written_by.encode())}"
