"""Conflicts of refs: shown with their commits, and settled as a person or assistant says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tcfs.errors import BusyError, ConflictError, NotFoundError, TcfsError, UsageError
from tcfs.model.conflict import preferred
from tcfs.model.event import Version
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, join, relative_to, show
from tcfs.model.tree import Head
from tcfs.sync import operations
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.conflicts import ConflictDesk
from tcfs.sync.describe import version_info
from tcfs.sync.escape import text_of
from tcfs.sync.facade import Limits
from tcfs.sync.git import bundle
from tcfs.sync.git.arrival import Arrival, complete, perform
from tcfs.sync.git.merge import merge_commits, put_on_disk
from tcfs.sync.git.names import BRANCHES, INDEX, TAGS, oids_of, split
from tcfs.sync.git.registers import is_held, register_draft, value_of
from tcfs.sync.git.repository import Repository, open_repository
from tcfs.sync.git.snapshot import take
from tcfs.sync.git.workshop import drop_scratch, held, scratch_directory
from tcfs.sync.places import Place, place_of
from tcfs.sync.results import ConflictDetail, Resolution, ResolveResult, Side
from tcfs.sync.text_merge import common_ancestor

LOG_LINES = 20


class RefDesk(ConflictDesk):
    """Shows and settles conflicts of repositories' registers."""

    def show(self, path: RelPath, max_bytes: int) -> ConflictDetail:
        """A conflict as an object; the text of a side is its latest commits."""
        head = self._conflicted(path)
        ours, theirs, others = self._sides(head)
        base = common_ancestor(self._context, self._namespace, head.siblings)
        repository = self._open(path)
        reason = "this device does not have the repository"
        if repository is not None and ours is not None and theirs is not None:
            reason = self._why_not(repository, path, ours, theirs)
        return ConflictDetail(
            path=show(path),
            base=self._ref_side(repository, path, base, max_bytes),
            ours=self._ref_side(repository, path, ours, max_bytes),
            theirs=self._ref_side(repository, path, theirs, max_bytes),
            others=tuple(
                version_info(self._context, self._namespace, v, live=True) for v in others
            ),
            merge_possible=not reason,
            merge_reason=reason,
        )

    def _open(self, path: RelPath) -> Repository | None:
        place, repo = self._placed(path)
        if place is None or repo is None:
            return None
        try:
            return open_repository(self._context.host.files, place.root.local, repo)
        except TcfsError:
            return None

    def _placed(self, path: RelPath) -> tuple[Place | None, RelPath | None]:
        """Where the repository of a register is here: its root, and its path in that."""
        named = split(path)
        assert named is not None
        place = place_of(self._context, self._namespace, path)
        if place is None:
            return None, None
        return place, relative_to(named[0], place.root.remote)

    def _why_not(
        self, repository: Repository, path: RelPath, ours: Version, theirs: Version
    ) -> str:
        name = _name(path)
        if not name.startswith(BRANCHES):
            return "only branches are merged"
        try:
            merge_commits(repository, value_of(ours), value_of(theirs), "merge", "tcfs")
        except TcfsError as error:
            return error.message
        return ""

    def _ref_side(
        self, repository: Repository | None, path: RelPath, version: Version | None, max_bytes: int
    ) -> Side:
        if version is None:
            return Side(None)
        info = version_info(self._context, self._namespace, version)
        value = value_of(version)
        lines = [value]
        oids = oids_of(_name(path), value)
        if repository is not None and oids and bundle.present(repository.program, oids):
            status, out, _ = repository.program.call(
                *("log", f"-{LOG_LINES}", "--format=%h %an: %s", "--end-of-options", oids[0])
            )
            if not status:
                lines += out.splitlines()
        data = b"\n".join(lines)
        text, binary = text_of(data[:max_bytes])
        return Side(info, text, binary, truncated=len(data) > max_bytes)

    def resolve(self, path: RelPath, resolution: Resolution, *, dry_run: bool) -> ResolveResult:
        """Settle a conflict. What the refs are here goes to the store first.

        Raises:
            NotFoundError: no conflict stands there.
            ConflictError: it cannot be settled that way; says why.
        """
        context = self._context
        context.require_writer()
        place, repo = self._placed(path)
        if place is not None and repo is not None and not dry_run:
            self._send(place, repo)
        head = self._conflicted(path)
        if resolution == "defer":
            return ResolveResult(
                show(path), resolution, dry_run=dry_run, message="left as it is; both sides stand"
            )
        if resolution == "merge":
            return self._merge(path, head, place, repo, dry_run=dry_run)
        drafts, copies, message = self._choose(path, head, resolution)
        if dry_run:
            return ResolveResult(
                show(path), resolution, dry_run=True, message=f"would be settled: {message}"
            )
        committer = Committer(context, self._namespace)
        ids = committer.add(drafts)
        committer.flush()
        self._follow(place)
        return ResolveResult(
            path=show(path),
            resolution=resolution,
            version=str(ids[0]),
            conflict_copies=tuple(copies),
            message=message,
        )

    def _choose(
        self, path: RelPath, head: Head, resolution: Resolution
    ) -> tuple[list[Draft], list[str], str]:
        ours, theirs, others = self._sides(head)
        if resolution == "keep_local":
            if ours is None:
                raise ConflictError(
                    f"this device has no version of {show(path)} of its own",
                    remedy="Choose --keep-remote or --keep-both.",
                )
            return [self._settled(path, head, ours)], [], f"kept {_who(ours)}"
        if resolution == "keep_remote":
            if theirs is None:
                raise UsageError(f"{show(path)} has no other side")
            if others:
                raise ConflictError(
                    f"{show(path)} has {len(others) + 1} other sides",
                    remedy="Choose --keep-both, or bring one back with: tcfs restore PATH "
                    "--at VERSION",
                )
            return [self._settled(path, head, theirs)], [], f"kept {_who(theirs)}"
        return self._both(path, head)

    def _both(self, path: RelPath, head: Head) -> tuple[list[Draft], list[str], str]:
        """The preferred version stays; the others become branches or tags beside it."""
        name = _name(path)
        if not name.startswith((BRANCHES, TAGS)):
            raise UsageError(
                f"{show(name)} can be one thing only",
                remedy="Choose --keep-local or --keep-remote.",
            )
        strategy = self._context.control.strategy(self._namespace)
        winner = preferred(head.siblings, strategy)
        drafts, copies = [self._settled(path, head, winner)], []
        taken: set[RelPath] = set()
        for loser in sorted(head.siblings, key=lambda v: v.order):
            if loser.id == winner.id or value_of(loser) == value_of(winner):
                continue
            copy = self._free(path, loser.manifest.written_by, taken)
            taken.add(copy)
            copies.append(show(copy))
            parents = self._context.state.history.head(self._namespace, copy).ids
            drafts.append(self._draft(copy, value_of(loser), parents))
        return drafts, copies, f"kept {_who(winner)} in place, the other beside it"

    def _free(self, path: RelPath, device: str, taken: set[RelPath]) -> RelPath:
        """``name.conflict-<device>``, with a number if that is another's."""
        number = 1
        while True:
            mark = f".conflict-{device}" + (f"-{number}" if number > 1 else "")
            candidate = RelPath(path + mark.encode())
            head = self._context.state.history.head(self._namespace, candidate)
            if head.absent and candidate not in taken:
                return candidate
            number += 1

    def _settled(self, path: RelPath, head: Head, version: Version) -> Draft:
        return self._draft(path, value_of(version), head.ids)

    def _draft(self, path: RelPath, value: bytes, parents: tuple[object, ...]) -> Draft:
        named = split(path)
        assert named is not None
        return register_draft(
            self._context,
            self._namespace,
            named[0],
            named[1],
            value,
            parents,  # type: ignore[arg-type]
        )

    def _merge(
        self,
        path: RelPath,
        head: Head,
        place: Place | None,
        repo: RelPath | None,
        *,
        dry_run: bool,
    ) -> ResolveResult:
        """As if its user had merged here: the branch moves, and what was made is pushed."""
        name = _name(path)
        ours, theirs, others = self._sides(head)
        if not name.startswith(BRANCHES):
            raise UsageError("only branches are merged", remedy="Keep one side.")
        if place is None or repo is None or ours is None or theirs is None or others:
            raise ConflictError(
                f"{show(path)} is not a conflict of this device with one other",
                remedy="Merge on a device that has one of the sides, or keep one of them.",
            )
        with self._at_work(place, repo) as (repository, scratch):
            snapshot = take(repository, scratch)
            mine, other = value_of(ours), value_of(theirs)
            if snapshot.registers.get(name) != mine:
                raise BusyError(f"{show(name)} moved meanwhile")
            message = f"Merge branch '{show(name[len(BRANCHES) :])}' of {_device(theirs)}"
            merged = merge_commits(repository, mine, other, message, self._context.identity.name)
            if dry_run:
                return ResolveResult(
                    show(path), "merge", dry_run=True, message="would be settled: merges cleanly"
                )
            arrival = Arrival(refs=[(name, mine, merged)] if merged != mine else [])
            if snapshot.branch == name and not repository.bare and merged != mine:
                forward = is_held(ours) or merged == other
                if not forward:
                    if INDEX in snapshot.registers:
                        raise ConflictError(
                            "something is staged and not committed",
                            remedy="Commit or stash it first, or choose --keep-both.",
                        )
                    put_on_disk(repository, mine, other, merged, scratch)
                tree = b"^{tree}"
                program = repository.program
                arrival.index = (
                    program.run("rev-parse", "--verify", mine + tree).strip(),
                    program.run("rev-parse", "--verify", merged + tree).strip(),
                )
            perform(self._context, place.root, repository, arrival, scratch)
        self._send(place, repo)
        self._follow(place)
        left = self._context.state.history.head(self._namespace, path)
        if left.conflicted:
            raise ConflictError(f"{show(path)} moved meanwhile, and is in conflict still")
        return ResolveResult(
            show(path),
            "merge",
            version=str(left.ids[0]) if left.ids else "",
            message=f"merged both sides: {merged.decode()[:12]}",
        )

    @contextmanager
    def _at_work(self, place: Place, repo: RelPath) -> Iterator[tuple[Repository, bytes]]:
        scratch = scratch_directory(self._context)
        try:
            repository = open_repository(self._context.host.files, place.root.local, repo)
            with held(self._context, repository):
                complete(self._context, place.root, repository, scratch)
                yield repository, scratch
        finally:
            drop_scratch(scratch)

    def _send(self, place: Place, repo: RelPath) -> None:
        """What is here, files and refs, goes to the fleet before anything is settled about it."""
        done = operations.push(
            self._context,
            [Place(place.root, repo)],
            dry_run=False,
            plan="",
            limits=Limits(confirmed=True),
        )
        mark = (show(join(place.root.remote, repo)) or ".") + "/.git"
        for problem in done.problems:
            if problem.path == mark:
                raise BusyError(problem.message, remedy=problem.remedy)

    def _follow(self, place: Place | None) -> None:
        if place is not None:
            operations.pull(
                self._context,
                Place(place.root, ROOT),
                mode="defer",
                dry_run=False,
                plan="",
                limits=Limits(confirmed=True),
            )


def _name(path: RelPath) -> bytes:
    named = split(path)
    if named is None:
        raise NotFoundError(f"{show(path)} is no ref")
    return named[1]


def _device(version: Version) -> str:
    return show(version.manifest.written_by.encode())


def _who(version: Version) -> str:
    return f"the version of {_device(version)}; the other stays in history"
