"""Pulling repositories: what the fleet's registers say is fetched, checked, and followed here.

Files are pulled first. Then a repository's refs, HEAD and index follow, together or not at all
where they concern what is checked out. A branch that is checked out over edits which the fleet does
not have is not touched: that becomes a conflict between versions, like any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from tcfs.errors import AccessError, IntegrityError, LocalFileError, TcfsError
from tcfs.model.conflict import preferred
from tcfs.model.ids import RelPath
from tcfs.model.paths import join, relative_to, show
from tcfs.model.tree import Head
from tcfs.state.git import RegisterBase
from tcfs.state.roots import Root
from tcfs.sync.commit import Committer
from tcfs.sync.context import Context
from tcfs.sync.git import bundle, names, registers
from tcfs.sync.git.arrival import Arrival, apply, complete, follow, perform, read_head
from tcfs.sync.git.clone import being_made
from tcfs.sync.git.decide import Decision, Rules, decide
from tcfs.sync.git.edits import has_edits
from tcfs.sync.git.hooks import Followed
from tcfs.sync.git.incoming import bring
from tcfs.sync.git.names import FORMAT, HEAD, INDEX, STASH, branch_of
from tcfs.sync.git.outgoing import bundle_drafts
from tcfs.sync.git.program import Program
from tcfs.sync.git.push import known_base
from tcfs.sync.git.registers import Remote, is_held, register_draft, value_of
from tcfs.sync.git.repository import (
    RefusedRepositoryError,
    Repository,
    is_repository,
    linked_branches,
    open_repository,
)
from tcfs.sync.git.snapshot import Snapshot, index_tree, stash_entries, take, with_older
from tcfs.sync.git.workshop import (
    PostponedError,
    Told,
    bundles_travel,
    directory_of,
    drop_scratch,
    held,
    hide_marker,
    scratch_directory,
)
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Plan
from tcfs.sync.text_merge import common_ancestor
from tcfs.sync.upload import Upload


@dataclass(slots=True)
class _Task:
    """One repository that the fleet said something about."""

    path: RelPath
    remote: Remote
    paths: list[RelPath]
    dirty: bool = False


class GitPull:
    """The repositories of a place that a pull has something to do with.

    Args:
        touched: paths of the root that the fleet changed or that are still to do.
    """

    def __init__(
        self, context: Context, root: Root, prefix: RelPath, touched: Iterable[RelPath]
    ) -> None:
        self._context = context
        self._root = root
        self._told = Told()
        self._tasks: list[_Task] = []
        if not bundles_travel(context):
            return
        by_repository: dict[RelPath, list[RelPath]] = {}
        for path in touched:
            found = names.split(path)
            if found is not None and relative_to(found[0], prefix) is not None:
                by_repository.setdefault(found[0], []).append(path)
        for path in context.state.git.begun(root) if root.id else ():
            by_repository.setdefault(path, [])
        for path, paths in sorted(by_repository.items()):
            remote = registers.read(context, root.namespace, join(root.remote, path))
            self._tasks.append(_Task(path, remote, paths))

    def plan(self) -> Plan | None:
        """Which repositories the fleet moved; None if none."""
        builder = PlanBuilder("git pull", self._root.namespace, self._root.remote)
        any_news = False
        for task in self._tasks:
            news = self._news(task)
            if news:
                any_news = True
                builder.add(
                    "change",
                    show(names.mark(task.remote.repository)),
                    note=f"{news} of its refs and the like",
                    identity=(
                        task.path,
                        [(name, head.ids) for name, head in sorted(task.remote.heads.items())],
                    ),
                )
        return builder.done() if any_news else None

    def _news(self, task: _Task) -> int:
        """How many registers have versions that were not followed here."""
        base = self._context.state.git.of(self._root, task.path) if self._root.id else {}
        count = 0
        for name, head in task.remote.heads.items():
            known = base.get(name)
            if known is None:
                count += not head.absent
            elif set(known.ids).isdisjoint(head.ids):
                count += 1
        return count

    # Before files move

    def look(self) -> None:
        """See in which repositories somebody has edits that the fleet does not. Changes nothing."""
        for task in self._tasks:
            if not self._news(task) or not is_repository(
                directory_of(self._context, self._root, task.path)
            ):
                continue
            try:
                repository = open_repository(self._context.host.files, self._root.local, task.path)
                task.dirty = has_edits(self._context, self._root, repository)
            except TcfsError:
                task.dirty = True  # whoever works on it will say why it cannot be had

    # Once files are in place

    def run(self, root: Root) -> Followed:
        """Follow the fleet in every repository that can. ``root`` is recorded by now."""
        self._root = root
        pulled = Followed(problems=self._told.problems)
        if not self._tasks:
            return pulled
        scratch = scratch_directory(self._context)
        try:
            for task in self._tasks:
                self._context.check_cancel()
                try:
                    if self._handle(task, pulled, scratch):
                        self._context.state.roots.done(root, task.paths)
                except RefusedRepositoryError as error:
                    self._told.problem(root, task.path, error)
                except (LocalFileError, PostponedError, IntegrityError) as error:
                    self._told.problem(root, task.path, error)
        finally:
            drop_scratch(scratch)
        return pulled

    def _handle(self, task: _Task, pulled: Followed, scratch: bytes) -> bool:
        """Follow the fleet in one repository. Returns whether nothing is left to do."""
        context, root, remote = self._context, self._root, task.remote
        for name in task.remote.refused:
            self._told.problem(
                root, task.path, IntegrityError(f"{show(name)} has a value that is none")
            )
        directory = directory_of(context, root, task.path)
        if not is_repository(directory):
            if remote.removed or context.state.git.of(root, task.path):
                return True  # removed elsewhere, or here, which the next push tells
            self._clone(task, pulled, scratch)
            return not self._conflicts(remote)
        if remote.removed:
            return True
        begun = task.path in context.state.git.begun(root)
        if not begun and not self._news(task) and not self._conflicts(remote):
            return True
        repository = open_repository(context.host.files, root.local, task.path)
        with held(context, repository):
            complete(context, root, repository, scratch)
            hide_marker(repository)
            done = self._follow(task, repository, pulled, scratch)
            bundle.release(repository.program)
        return done

    def _conflicts(self, remote: Remote) -> bool:
        return any(head.conflicted for head in remote.heads.values())

    def _follow(
        self, task: _Task, repository: Repository, pulled: Followed, scratch: bytes
    ) -> bool:
        context, root = self._context, self._root
        snapshot = take(repository, scratch)
        self._check_format(task, snapshot)
        pulled.bytes_received += bring(
            context, root.namespace, task.remote, repository.program, scratch, first=False
        )
        base = known_base(context, root, task.path, task.remote)
        found = self._decide(task, repository.program, snapshot.registers, base)
        self._guard(task, repository, snapshot, found, base)
        self._write(task, repository, found, pulled, scratch)
        arrival = self._arrival(task, repository, snapshot, found, scratch)
        for error in perform(context, root, repository, arrival, scratch):
            self._told.problem(root, task.path, error)
        follow(repository, self._of_others(task), names.OWN)
        task.remote = registers.read(context, root.namespace, join(root.remote, task.path))
        return not self._conflicts(task.remote) and not self._news(task)

    def _check_format(self, task: _Task, snapshot: Snapshot) -> None:
        here, there = snapshot.registers[FORMAT], task.remote.values(FORMAT)
        if there and here not in there:
            raise RefusedRepositoryError(
                f"the repository here is {here.decode()}, the fleet's is {there[0].decode()}",
                remedy="Move one of them to another place.",
            )

    def _decide(
        self,
        task: _Task,
        program: Program,
        mine: dict[bytes, bytes],
        base: dict[bytes, RegisterBase],
    ) -> dict[bytes, Decision]:
        context, namespace = self._context, self._root.namespace

        @cache
        def forward(old: bytes, new: bytes) -> bool:
            if old == new:
                return True
            status, _, _ = program.call("merge-base", "--is-ancestor", old, new)
            return status == 0

        def common(head: Head) -> bytes | None:
            found = common_ancestor(context, namespace, head.siblings)
            usable = found is not None and found.manifest.kind == "symlink"
            return value_of(found) if found is not None and usable else None

        def chosen(head: Head) -> bytes:
            return value_of(preferred(head.siblings, context.control.strategy(namespace)))

        rules = Rules(context.identity.device_id, forward, common, chosen)
        heads = task.remote.heads
        return {
            name: decide(rules, name, mine.get(name), base.get(name), heads.get(name))
            for name in sorted(mine.keys() | base.keys() | heads.keys())
        }

    def _guard(
        self,
        task: _Task,
        repository: Repository,
        snapshot: Snapshot,
        found: dict[bytes, Decision],
        base: dict[bytes, RegisterBase],
    ) -> None:
        """Hold back what must not move: what is checked out over edits, or in another worktree."""
        for branch, worktree in linked_branches(repository.git_dir):
            decision = found.get(branch)
            if decision is not None and decision.moves:
                found[branch] = replace(decision.stays(), base=base.get(branch))
                self._told.problem(
                    self._root,
                    task.path,
                    PostponedError(
                        f"{show(branch)} is checked out in the linked worktree {show(worktree)}"
                    ),
                )
        if repository.bare:
            return
        current = snapshot.branch
        switching = found.get(HEAD) is not None and found[HEAD].moves
        group = [n for n in (HEAD, current) if n is not None and n in found and found[n].moves]
        waiting = self._files_waiting(task) if group else 0
        if waiting:
            for name in (*group, INDEX):
                if name in found:
                    found[name] = replace(found[name].stays(), base=base.get(name))
            why = f"postponed: {waiting} of its files could not be put in place"
            self._told.problem(self._root, task.path, PostponedError(why))
            return
        staged_here = self._staged_here(snapshot, base)
        if group and (task.dirty or staged_here):
            if all(self._answered(task, n, base) for n in group):
                return
            for name in group:
                found[name] = self._hold(task, found[name], base.get(name))
            if INDEX in found:
                found[INDEX] = replace(found[INDEX].stays(), base=base.get(INDEX))
            return
        if current is not None and current in found and not switching:
            leaving = found[current]
            if leaving.moves and leaving.target is None:
                found[current] = replace(leaving.stays(), base=base.get(current))
                self._told.problem(
                    self._root,
                    task.path,
                    PostponedError(
                        f"{show(current)} was deleted elsewhere, and is checked out here"
                    ),
                )

    def _files_waiting(self, task: _Task) -> int:
        """Files of the work tree that should have arrived by now: over them, a new HEAD would look
        as if somebody had taken its changes back.
        """
        context, root = self._context, self._root
        todo = context.state.roots.todo(root, task.path)
        paths = [join(root.remote, path) for path in todo if not names.is_git(path)]
        heads = context.state.history.heads_of(root.namespace, paths)
        return sum(not head.conflicted for head in heads)

    def _staged_here(self, snapshot: Snapshot, base: dict[bytes, RegisterBase]) -> bool:
        known = base.get(INDEX)
        return snapshot.registers.get(INDEX) != (known.value if known else None)

    def _answered(self, task: _Task, name: bytes, base: dict[bytes, RegisterBase]) -> bool:
        """Whether what is to come was decided on: here, or elsewhere since this device held it."""
        head = task.remote.heads[name]
        if head.version is not None and head.version.id.device == self._context.identity.device_id:
            return True
        known = base.get(name)
        if known is None:
            return False
        history, namespace = self._context.state.history, self._root.namespace
        versions = [history.version(namespace, i) for i in known.ids]
        return any(
            v is not None and is_held(v) and not history.is_live(namespace, v.id) for v in versions
        )

    def _hold(self, task: _Task, decision: Decision, base: RegisterBase | None) -> Decision:
        """Keep a register's value here, and say so to the fleet."""
        if decision.local is None:
            return decision
        head = task.remote.heads[decision.name]
        for group in head.groups:
            if value_of(group[0]) == decision.local:
                known = RegisterBase(decision.local, tuple(v.id for v in group))
                return replace(decision.stays(), base=known, conflict=True)
        parents = base.ids if base is not None else ()
        return replace(
            decision.stays(),
            base=RegisterBase(decision.local, ()),
            write=(decision.local, parents),
            conflict=True,
            held=True,
        )

    def _write(
        self,
        task: _Task,
        repository: Repository,
        found: dict[bytes, Decision],
        pulled: Followed,
        scratch: bytes,
    ) -> None:
        """Commit the versions that deciding made, with their objects, if this device may."""
        context, namespace = self._context, self._root.namespace
        writing = [d for d in found.values() if d.write is not None]
        if not writing:
            return
        drafts = []
        named: list[tuple[bytes, bytes]] = []
        for d in writing:
            assert d.write is not None
            value, parents = d.write
            drafts.append(
                register_draft(
                    context,
                    namespace,
                    task.remote.repository,
                    d.name,
                    value,
                    parents,
                    held=d.held,
                )
            )
            named += [(d.name, oid) for oid in names.oids_of(d.name, value)]
        own = context.state.history.heads(namespace).get(context.identity.device_id)
        try:
            with Upload(context, namespace, own.seq + 1 if own else 1) as upload:
                committer = Committer(context, namespace, upload=upload)
                drafts += bundle_drafts(
                    context, namespace, repository, task.remote, named, upload, scratch, full=False
                )
                ids = committer.add(drafts)
                committer.flush()
        except AccessError as error:
            for d in writing:
                if d.conflict:
                    self._told.problem(
                        self._root,
                        task.path,
                        AccessError(f"{show(d.name)} differs from the fleet's: {error.message}"),
                    )
                    found[d.name] = replace(d, write=None, base=None)
            return
        pulled.bytes_sent += upload.bytes_sent + committer.bytes_sent
        pulled.segments += len(committer.segments)
        pulled.last_segment = committer.last
        for d, version in zip(writing, ids, strict=False):
            assert d.write is not None
            found[d.name] = replace(d, base=RegisterBase(d.write[0], (version,)))

    def _arrival(
        self,
        task: _Task,
        repository: Repository,
        snapshot: Snapshot,
        found: dict[bytes, Decision],
        scratch: bytes,
    ) -> Arrival:
        """The decisions as steps."""
        arrival = Arrival()
        for name, d in found.items():
            arrival.base[name] = d.base
            if not d.moves or name in (INDEX, FORMAT):
                continue
            if name == HEAD:
                assert d.target is not None
                arrival.head = (d.local or b"", d.target)
            elif name == STASH:
                entries = stash_entries(repository.git_dir)
                arrival.stash = (b",".join(entries), with_older(d.target, entries))
            else:
                arrival.refs.append((name, d.local, d.target))
        if not repository.bare:
            arrival.index = self._index_step(repository, snapshot, found, scratch)
        return arrival

    def _index_step(
        self,
        repository: Repository,
        snapshot: Snapshot,
        found: dict[bytes, Decision],
        scratch: bytes,
    ) -> tuple[bytes | None, bytes] | None:
        """What the index must stand for once HEAD is where it will be."""

        def final(name: bytes) -> bytes | None:
            d = found.get(name)
            if d is None:
                return snapshot.registers.get(name)
            return d.target if d.moves else d.local

        head = final(HEAD) or b""
        branch = branch_of(head)
        commit = final(branch) if branch is not None else head
        staged = final(INDEX)
        moved = commit != snapshot.head_oid or (INDEX in found and found[INDEX].moves)
        if not moved:
            return None
        program = repository.program

        def tree_of(oid: bytes) -> bytes:
            return program.run(
                "rev-parse", "--verify", "--end-of-options", oid + b"^{tree}"
            ).strip()

        tree = tree_of(commit) if commit is not None else program.run("mktree").strip()
        if staged is not None:
            parents = program.run("rev-list", "--parents", "-n1", "--end-of-options", staged)
            if parents.split()[1:2] == ([commit] if commit is not None else []):
                tree = tree_of(staged)
        index = os.path.join(repository.git_dir, b"index")
        old = index_tree(program, index, scratch) if os.path.lexists(index) else None
        return (old, tree)

    def _of_others(self, task: _Task) -> dict[bytes, bytes]:
        """What other devices' versions say of refs: ``refs/tcfs/<device>/...``."""
        found: dict[bytes, bytes] = {}
        for name, head in task.remote.heads.items():
            if name == FORMAT:
                continue
            for version in head.siblings:
                if version.id.device == self._context.identity.device_id:
                    continue
                for number, oid in enumerate(names.oids_of(name, value_of(version))):
                    ref = names.author_ref(version.manifest.written_by, name)
                    found[ref + (b"-%d" % number if number else b"")] = oid
        return found

    def _clone(self, task: _Task, pulled: Followed, scratch: bytes) -> None:
        """Make a repository that is not here yet."""
        context, root, remote = self._context, self._root, task.remote
        described = remote.values(FORMAT)
        if not described:
            raise IntegrityError("the fleet does not say what kind of repository it is")
        with being_made(context, root, task.path, described[0]) as repository:
            pulled.bytes_received += bring(
                context, root.namespace, remote, repository.program, scratch, first=True
            )
            found = self._decide(task, repository.program, {}, {})
            self._write(task, repository, found, pulled, scratch)
            arrival = self._arrival(task, repository, Snapshot({}, (), None), found, scratch)
            if arrival.head is not None:
                arrival.head = (read_head(repository), arrival.head[1])
            failed, errors = apply(repository, arrival, scratch)
            for error in errors:
                self._told.problem(root, task.path, error)
            follow(repository, self._of_others(task), names.OWN)
            bundle.release(repository.program)
        base = {n: b for n, b in arrival.base.items() if n not in failed}
        context.state.git.record(root, task.path, base)
        hide_marker(open_repository(context.host.files, root.local, task.path))
