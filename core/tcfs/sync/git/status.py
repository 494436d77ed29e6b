"""How repositories stand: who has which heads, what is uncommitted where, what is behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from tcfs.errors import NotFoundError, TcfsError
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import join, relative_to, show
from tcfs.state.roots import Root
from tcfs.sync import operations, places
from tcfs.sync.context import Context
from tcfs.sync.git import bundle, registers, report
from tcfs.sync.git.names import BRANCHES, HEAD, STASH, branch_of
from tcfs.sync.git.push import known_base
from tcfs.sync.git.report import Report
from tcfs.sync.git.repository import (
    RefusedRepositoryError,
    Repository,
    blockers,
    found_in,
    is_repository,
    open_repository,
)
from tcfs.sync.git.results import (
    BranchState,
    BranchStatus,
    DeviceCopy,
    GitStatus,
    RepositoryState,
    RepositoryStatus,
)
from tcfs.sync.git.snapshot import Snapshot, take
from tcfs.sync.git.workshop import bundles_travel, directory_of
from tcfs.sync.scan import scan

MAX_REPOSITORIES: Final = 200
MAX_BRANCHES: Final = 50


class GitApi(Protocol):
    """What front ends can ask about repositories."""

    def status(self, path: bytes = b"") -> GitStatus:
        """Repositories at and below a local or remote path; without one, all."""
        ...


class GitDoor:
    """``fleet.git``: repositories as front ends see them.

    Args:
        fresh: gives the context, with what others wrote.
    """

    def __init__(self, fresh: Callable[[], Context]) -> None:
        self._fresh = fresh

    def status(self, path: bytes = b"") -> GitStatus:
        """Repositories at and below a local or remote path; without one, all.

        Raises:
            NotFoundError: no repository is there.
        """
        context = self._fresh()
        namespace, prefix = _meant(context, path)
        known = set(_in_fleet(context, namespace, prefix))
        here = {found: (root, repo) for found, root, repo in _on_disk(context, namespace, prefix)}
        every = sorted(known | here.keys())
        if path and not every:
            raise NotFoundError(f"no git repository is at {show(path)}")
        config = context.config.sync
        # Not the scratch directory of pushes and pulls: one may be at work.
        with tempfile.TemporaryDirectory() as scratch:
            looked = tuple(
                _Look(context, namespace, remote, here.get(remote), os.fsencode(scratch)).status()
                for remote in every[:MAX_REPOSITORIES]
            )
        return GitStatus(
            enabled=bundles_travel(context),
            mode=config.git_sync_mode if config.sync_git_dirs else "off",
            repositories=looked,
            total=len(every),
        )


def _meant(context: Context, path: bytes) -> tuple[NamespaceId, RelPath]:
    if not path:
        return context.namespace, RelPath(b"")
    if path.startswith((b"/", b"./", b"../")) or path == b"." or os.path.lexists(path):
        place = places.locate(context, path)
        return place.root.namespace, place.remote
    return places.parse(context, os.fsdecode(path))


def _in_fleet(context: Context, namespace: NamespaceId, prefix: RelPath) -> Iterable[RelPath]:
    paths = context.state.history.present_paths(namespace, prefix)
    return registers.repositories(paths)


def _on_disk(
    context: Context, namespace: NamespaceId, prefix: RelPath
) -> Iterable[tuple[RelPath, Root, RelPath]]:
    """Repositories in the roots that this device keeps: (remote path, root, path in it)."""
    roots = context.state.roots.all()
    if context.config.sync.sync_root is not None:
        configured = places.sync_root(context)
        if not configured.id and os.path.isdir(configured.local):
            roots.append(configured)
    for root in roots:
        if root.namespace != namespace:
            continue
        inside = relative_to(prefix, root.remote)
        if inside is None and relative_to(root.remote, prefix) is None:
            continue
        try:
            if root.id:
                places.adopt(context, root)
            top = inside or RelPath(b"")
            seen = scan(context.host.files, root.local, operations.excluded(context, root), top)
        except TcfsError:
            continue
        for repo in found_in(seen, top):
            yield join(root.remote, repo), root, repo


class _Look:
    """A look at one repository."""

    def __init__(
        self,
        context: Context,
        namespace: NamespaceId,
        path: RelPath,
        here: tuple[Root, RelPath] | None,
        scratch: bytes,
    ) -> None:
        self._context = context
        self._namespace = namespace
        self._path = path
        self._here = here
        self._scratch = scratch
        self._remote = registers.read(context, namespace, path)

    def status(self) -> RepositoryStatus:
        """What there is to say."""
        remote = self._remote
        conflicts = tuple(show(head.path) for head in remote.heads.values() if head.conflicted)[
            :MAX_BRANCHES
        ]
        shown = show(self._path)
        if self._here is None or not is_repository(directory_of(self._context, *self._here)):
            branches = self._branches(None, None)
            return RepositoryStatus(
                shown,
                "",
                "conflict" if conflicts else "not_here",
                head=_shown(remote.value(HEAD)),
                branches=tuple(branches[:MAX_BRANCHES]),
                branch_count=len(branches),
                conflicts=conflicts,
                devices=self._devices({}),
            )
        root, repo = self._here
        local = show(directory_of(self._context, root, repo))
        try:
            repository = open_repository(self._context.host.files, root.local, repo)
            reasons = blockers(repository.git_dir)
            snapshot = take(repository, self._scratch)
            changed = report.uncommitted(repository)
        except TcfsError as error:
            refused = isinstance(error, RefusedRepositoryError)
            return RepositoryStatus(
                shown,
                local,
                "refused" if refused else "postponed",
                reason=error.message,
                conflicts=conflicts,
                devices=self._devices({}),
            )
        branches = self._branches(repository, snapshot)
        stash = snapshot.registers.get(STASH, b"")
        state = self._state(root, repo, snapshot, bool(conflicts))
        return RepositoryStatus(
            shown,
            local,
            "postponed" if reasons else state,
            reason=", ".join(reasons),
            head=_shown(snapshot.registers[HEAD]),
            branches=tuple(branches[:MAX_BRANCHES]),
            branch_count=len(branches),
            conflicts=conflicts,
            uncommitted=len(changed),
            paths=tuple(show(p) for p in changed[: report.MAX_PATHS]),
            stashes=len(stash.split(b",")) if stash else 0,
            devices=self._devices(report.told_config(repository.config)),
        )

    def _state(
        self, root: Root, repo: RelPath, snapshot: Snapshot, conflicts: bool
    ) -> RepositoryState:
        remote, mine = self._remote, snapshot.registers
        if conflicts:
            return "conflict"
        base = known_base(self._context, root, repo, remote)
        if remote.removed:
            return "removed" if base else "not_pushed"
        newer_here = any(
            mine.get(name) != (base[name].value if name in base else None)
            and mine.get(name) != remote.value(name)
            for name in mine.keys() | base.keys()
        )
        newer_there = any(
            mine.get(name) != remote.value(name)
            and set(base[name].ids if name in base else ()).isdisjoint(head.ids)
            for name, head in remote.heads.items()
            if not head.absent or name in base
        )
        if newer_there:
            return "remote_newer"
        return "local_newer" if newer_here else "in_step"

    def _branches(
        self, repository: Repository | None, snapshot: Snapshot | None
    ) -> list[BranchStatus]:
        mine = snapshot.registers if snapshot else {}
        names = {n for n in (*mine, *self._remote.heads) if n.startswith(BRANCHES)}
        found = []
        for name in sorted(names):
            here, there = mine.get(name), self._remote.values(name)
            if here is None and not there:
                continue
            state, ahead, behind = self._compare(repository, here, there)
            found.append(
                BranchStatus(
                    show(name[len(BRANCHES) :]),
                    state,
                    here.decode() if here else "",
                    tuple(value.decode() for value in there[:8]),
                    ahead,
                    behind,
                )
            )
        return found

    def _compare(
        self, repository: Repository | None, here: bytes | None, there: list[bytes]
    ) -> tuple[BranchState, int, int]:
        if len(there) > 1:
            return "conflict", 0, 0
        if here is None:
            return "not_here", 0, 0
        if not there:
            return "only_here", 0, 0
        if here == there[0]:
            return "same", 0, 0
        if repository is None or not bundle.present(repository.program, there):
            return "unknown", 0, 0
        counted = repository.program.run(
            *("rev-list", "--left-right", "--count", here + b"..." + there[0])
        ).split()
        ahead, behind = int(counted[0]), int(counted[1])
        state: BranchState = "diverged" if ahead and behind else "ahead" if ahead else "behind"
        return state, ahead, behind

    def _devices(self, ours: dict[str, str]) -> tuple[DeviceCopy, ...]:
        found = []
        for device_id, version in sorted(self._remote.reports.items()):
            told = report.parse(registers.value_of(version))
            mine = device_id == self._context.identity.device_id
            found.append(
                DeviceCopy(
                    device_id,
                    show(version.manifest.written_by.encode()),
                    mine,
                    version.manifest.written_at,
                    told.head,
                    dict(told.branches),
                    self._behind(told),
                    told.stashes,
                    told.uncommitted,
                    told.paths,
                    told.skipped,
                    () if mine or not ours else _differences(dict(told.config), ours),
                )
            )
        return tuple(found)

    def _behind(self, told: Report) -> tuple[str, ...]:
        branches = dict(told.branches)
        found = []
        for name in sorted(self._remote.heads):
            values = self._remote.values(name)
            if name.startswith(BRANCHES) and values:
                short = show(name[len(BRANCHES) :])
                if branches.get(short, "").encode() not in values:
                    found.append(short)
        return tuple(found[:MAX_BRANCHES])


def _differences(theirs: dict[str, str], ours: dict[str, str]) -> tuple[str, ...]:
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            found.append(f"{key}: {theirs.get(key, 'unset')} (here: {ours.get(key, 'unset')})")
    return tuple(found[:MAX_BRANCHES])


def _shown(head: bytes | None) -> str:
    """HEAD for people: the branch, or the commit that is checked out without one."""
    if head is None:
        return ""
    branch = branch_of(head)
    return show(branch.removeprefix(BRANCHES) if branch else head)
