"""What a daemon does, step by step: each step takes the device's lock and gives it back.

The steps are those of the commands; what is a question to a person there, is a problem that stays
here. Nothing is retried here: the caller knows when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tcfs.errors import LocalFileError
from tcfs.model.event import ChainHead, Version
from tcfs.model.ids import DeviceId, NamespaceId, RelPath, SegmentHash, VersionId
from tcfs.model.paths import ROOT, parents
from tcfs.state.roots import Root
from tcfs.store.wrappers.cache import CacheStore
from tcfs.sync import kept, operations, places
from tcfs.sync.context import Context
from tcfs.sync.facade import Cancel, Limits
from tcfs.sync.hinted import Hint, receive_hinted
from tcfs.sync.kept import KeptRoot
from tcfs.sync.places import Place
from tcfs.sync.receive import prepare_to_write, receive
from tcfs.sync.results import SyncResult
from tcfs.sync.spelling import true_paths


@dataclass(frozen=True, slots=True)
class OwnSegment:
    """A segment of this device, to be told of."""

    namespace: NamespaceId
    head: ChainHead
    versions: tuple[Version, ...]


class Keeper:
    """The steps. Raises what the commands raise, BusyError at once if another process works."""

    def __init__(
        self,
        context: Context,
        working: Callable[[Cancel | None], AbstractContextManager[Context]],
        cancel: Cancel | None = None,
    ) -> None:
        self._context = context
        self._take = working
        self.cancel = cancel
        """Asked between the parts of a step."""

    def _working(self) -> AbstractContextManager[Context]:
        return self._take(self.cancel)

    def cache_segments(self, limit: int) -> None:
        """Keep this many bytes of segments: a pull reads the small packs in them right after."""
        context = self._context
        context.store = CacheStore(context.store, ("ledger/",), limit)

    # Looking, without the lock

    @property
    def device(self) -> tuple[DeviceId, str]:
        """This device's id and name."""
        identity = self._context.identity
        return identity.device_id, identity.name

    @property
    def encrypted(self) -> bool:
        """Whether the store may not learn what is in the repository."""
        return self._context.format.encryption

    def roots(self) -> tuple[KeptRoot, ...]:
        """What is to be kept in sync. Raises LocalFileError."""
        return kept.everything(self._context)

    def remote_text(self, one: KeptRoot) -> str:
        """Its place in the fleet, for people."""
        return places.remote_text(self._context, one.namespace, one.remote)

    def tracked(self, one: KeptRoot) -> int:
        """How many paths of a root are tracked."""
        root = kept.root_of(self._context, one)
        return self._context.state.roots.base_count(root) if root.id else 0

    def waiting(self, one: KeptRoot) -> int:
        """Remote changes known here that are not on its disk."""
        root = kept.root_of(self._context, one)
        return self._context.state.roots.waiting(root) if root.id else 0

    def head(self, namespace: NamespaceId, device: DeviceId) -> ChainHead | None:
        """The last segment of a device that is known here."""
        return self._context.state.history.heads(namespace).get(device)

    def known(self, namespace: NamespaceId, device: DeviceId, head: ChainHead) -> bool:
        """Whether that very segment was taken up here."""
        return self._context.state.history.known(namespace, device, head) is not None

    def is_member(self, device: DeviceId) -> bool:
        """Whether a device belongs to the fleet, as far as is known here."""
        return device in self._context.control.devices

    def conflicts(self) -> int:
        """How many conflicts stand in the namespaces that are kept."""
        history = self._context.state.history
        return sum(len(history.conflicted(ns, ROOT)) for ns in self.namespaces())

    def outbox(self) -> int:
        """Finished segments that are not in the store."""
        return self._context.state.outbox.count()

    def changed_by_others(self) -> int:
        """A number that changes when another process changes the state: cheap to ask."""
        run = self._context.state.database.connection.execute
        (version,) = run("PRAGMA data_version").fetchone()
        return int(version)

    def version(self, namespace: NamespaceId, version: VersionId) -> Version | None:
        """A version by its id."""
        return self._context.state.history.version(namespace, version)

    def own_segments(self, namespace: NamespaceId, after: int, limit: int) -> list[OwnSegment]:
        """The newest of this device's segments after a place in its chain, oldest first."""
        state, device = self._context.state, self._context.identity.device_id
        rows = state.database.connection.execute(
            "SELECT seq, hash FROM segment WHERE ns = ? AND device = ? AND seq > ? AND accepted"
            " ORDER BY seq DESC LIMIT ?",
            (namespace, state.database.device_no(device), after, limit),
        ).fetchall()
        return [
            OwnSegment(
                namespace,
                ChainHead(seq, SegmentHash(digest)),
                tuple(state.history.by_segment(namespace, device, seq)),
            )
            for seq, digest in reversed(rows)
        ]

    def namespaces(self) -> list[NamespaceId]:
        """Those of what is kept; the configured one if nothing is."""
        return list(dict.fromkeys(one.namespace for one in self.roots())) or [
            self._context.namespace
        ]

    # Doing, with the lock

    def receive(self) -> int:
        """Take up what others wrote, in every namespace that is kept."""
        with self._working() as context:
            return sum(receive(context, namespace) for namespace in self.namespaces())

    def differs(self, one: KeptRoot, paths: Iterable[RelPath]) -> bool:
        """Whether something at and below these paths is not as it was last synced, by stat.

        Without the lock and without the store: most of what a watcher sees, a pull has written.
        """
        context, root = self._context, kept.root_of(self._context, one)
        paths = list(paths)
        in_git = context.config.sync.sync_git_dirs and any(b".git" in p.split(b"/") for p in paths)
        if not root.id or in_git:
            return True
        return operations.differs(context, root, self._tops(context, root, paths))

    def receive_hinted(self, hints: Sequence[Hint]) -> int:
        """Take up the segments that live events name; see ``hinted``."""
        with self._working() as context:
            return receive_hinted(context, hints)

    def push(
        self, one: KeptRoot, paths: Iterable[RelPath] | None, *, received: bool = False
    ) -> SyncResult:
        """Send what changed at and below these paths of a root; None for all of it.

        Directories above a path that were never sent are sent with it. What is not there any more
        is a deletion if it was tracked, and nothing otherwise. ``received``: what others wrote was
        received a moment ago.
        """
        with self._working() as context:
            root = kept.root_of(context, one)
            prefixes = {ROOT} if paths is None else self._tops(context, root, paths)
            return operations.push(
                context,
                [Place(root, prefix) for prefix in prefixes],
                dry_run=False,
                plan="",
                limits=Limits(),
                tolerant=True,
                received=received,
            )

    def pull(self, one: KeptRoot, mode: str) -> SyncResult:
        """Put on the disk of a root what is known of the fleet. ``receive`` comes before it.

        Raises:
            LocalFileError: a directory that was synced is gone; it is not made anew.
            StoreError: something waits to be sent, and the store failed.
        """
        with self._working() as context:
            root = kept.root_of(context, one)
            if not root.id and not places.is_directory(context, one.local):
                raise LocalFileError("the directory is not there", remedy="Make or mount it.")
            if context.state.outbox.count():
                # A push failed since then: what a pull writes comes after what waits to be sent.
                prepare_to_write(context, root.namespace)
            return operations.pull(
                context, Place(root, ROOT), mode=mode, dry_run=False, plan="", limits=Limits()
            )

    def _tops(self, context: Context, root: Root, paths: Iterable[RelPath]) -> set[RelPath]:
        return {
            self._top(context, root, true)
            for path in paths
            for true in true_paths(context, root.local, path)
        }

    def _top(self, context: Context, root: Root, path: RelPath) -> RelPath:
        """What is to be looked at where a path changed.

        The outermost directory above it that was never sent; of a repository's git directory the
        repository, which must be seen as a whole; otherwise the path.
        """
        if not root.id:
            return ROOT
        names = path.split(b"/")
        if b".git" in names and context.config.sync.sync_git_dirs:
            path = RelPath(b"/".join(names[: names.index(b".git")]))
            if not path:
                return ROOT
        for directory in parents(path):
            if context.state.roots.base_of(root, directory) is None:
                return directory
            if _is_git_directory(context, root.local + b"/" + directory):
                return directory
        return path


def _is_git_directory(context: Context, directory: bytes) -> bool:
    """Whether this may be a bare repository, which is never taken file by file."""
    return all(
        places.exists(context, directory + b"/" + name) for name in (b"HEAD", b"objects", b"refs")
    )
