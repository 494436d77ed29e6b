"""Pull: what the fleet says since the last pull is put on disk.

Where disk and fleet both changed, the local bytes go to the store first, as a sibling; then there
is one kind of conflict, settled by the namespace's strategy, or left standing. Nothing local is
replaced before its bytes are safe.

All paths are looked at once before anything is done, for the plan. Where they are many they are
decided on again as they are done, slice by slice (``deciding``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from blake3 import blake3

from tcfs.errors import AccessError, PlanChangedError
from tcfs.model.clock import merge
from tcfs.model.conflict import conflict_path, preferred
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, join, parents, relative_to, show
from tcfs.model.plan import BaseEntry, LocalEntry, PullAction
from tcfs.model.tree import Head
from tcfs.state.roots import Root
from tcfs.sync.beside import Beside
from tcfs.sync.commit import base_entry
from tcfs.sync.context import Context
from tcfs.sync.deciding import Decider, Decision, few
from tcfs.sync.durable import make_durable
from tcfs.sync.judge import require_write
from tcfs.sync.materialise import Materialiser, materialising
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Action, Plan, Problem
from tcfs.sync.scan import Scan, unreadable
from tcfs.sync.staging import Expected
from tcfs.sync.wanted import Wanted

_ACTIONS: dict[PullAction, Action] = {
    PullAction.ADOPT: "adopt",
    PullAction.MATERIALISE: "fetch",
    PullAction.ATTRIBUTES: "attributes",
    PullAction.REMOVE: "remove",
    PullAction.SEND_FIRST: "conflict",
    PullAction.CONFLICT: "conflict",
}
_TAKES_AWAY: Final = frozenset((PullAction.MATERIALISE, PullAction.REMOVE, PullAction.CONFLICT))
MANY: Final = 500
"""Paths from which one look at all of them is cheaper than a question for each."""


def _above(paths: Iterable[RelPath]) -> set[RelPath]:
    """All directories above these paths, without the root."""
    nearest = {RelPath(path.rpartition(b"/")[0]) for path in paths} - {ROOT}
    return nearest.union(*map(parents, nearest))


@dataclass(slots=True)
class Pulled:
    """What a pull did."""

    files: int = 0
    bytes_received: int = 0
    problems: list[Problem] = field(default_factory=list)
    conflict_copies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Survey:
    """What one look at all paths showed.

    Attributes:
        newest: the row of history that it takes into account.
        plan: what is to be done; if that is decided as it is done, complete in the end.
        decisions: on all paths, if they are few; else None.
        expected: what is to be fetched.
        removed: paths that are to be removed, those that are moved included.
        replaced: whether anything that is on disk gives way to something else, or may.
        dirty: what the disk holds where its bytes are to be sent first.
        standing: paths whose live versions differ.
    """

    newest: int
    plan: Plan
    decisions: list[Decision] | None
    expected: Expected
    removed: int
    replaced: bool
    dirty: dict[RelPath, LocalEntry]
    standing: list[Head]


class Pull:
    """One pull into a root, or into the part of it at and below a prefix."""

    def __init__(self, context: Context, root: Root, prefix: RelPath) -> None:
        self._context = context
        self._root = root
        self._prefix = prefix
        self._files = context.host.files
        self._decider = Decider(context, root, prefix)
        self._seen: _Survey | None = None
        # Of a plan that is made as it is done.
        self._builder: PlanBuilder | None = None
        self._set_aside_before: set[RelPath] = set()
        # What must not give way yet, and for want of which copy.
        self._held: dict[RelPath, RelPath] = {}

    # Deciding

    def decide(self) -> Plan:
        """Look at every path that the fleet changed, and decide. Changes nothing."""
        newest = self._decider.look_anew()
        self._builder = None
        builder = PlanBuilder("pull", self._root.namespace, self._root.remote)
        only: list[Decision] | None = []
        dirty: dict[RelPath, LocalEntry] = {}
        standing: list[Head] = []
        files = total = removed = 0
        replaced = False
        for number, decisions in enumerate(self._decider.slices()):
            only = decisions if number == 0 else None
            for d in decisions:
                _plan(builder, d)
                version = d.head.version
                if d.action is PullAction.MATERIALISE and version is not None:
                    files += 1
                    total += version.manifest.file_size
                removed += d.action is PullAction.REMOVE
                replaced |= d.entry is not None and d.action in _TAKES_AWAY
                if d.action is PullAction.SEND_FIRST and d.entry is not None:
                    dirty[d.path] = d.entry
                if d.head.conflicted:
                    standing.append(d.head)
        expected = Expected(files, total)
        self._seen = _Survey(
            newest, builder.done(), only, expected, removed, replaced, dirty, standing
        )
        return self._seen.plan

    def put_off(self) -> bool:
        """Decide as it is done, if nothing can come of looking at every path before.

        That is where many paths are pulled to where nothing is, and no conflict stands in the
        fleet: there is nothing to remove, to send first or to settle. Then ``plan`` is known once
        that is done. Otherwise ``decide``.
        """
        root, history = self._root, self._context.state.history
        newest = self._decider.look_anew()
        if root.id or few(newest) or not self._nothing_is_there():
            return False
        amount = history.amount(root.namespace, root.remote)
        if amount.several or few(amount.paths):
            return False
        self._builder = PlanBuilder("pull", root.namespace, root.remote)
        nothing = PlanBuilder("pull", root.namespace, root.remote).done()
        expected = Expected(amount.paths, amount.size)
        self._seen = _Survey(newest, nothing, None, expected, 0, False, {}, [])
        return True

    def _nothing_is_there(self) -> bool:
        try:
            return not self._files.scan(self._root.local)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    @property
    def _survey(self) -> _Survey:
        assert self._seen is not None
        return self._seen

    @property
    def plan(self) -> Plan:
        """The decisions as a plan."""
        return self._survey.plan

    @property
    def expected(self) -> Expected:
        """What is to be fetched."""
        return self._survey.expected

    def touched(self) -> Iterator[RelPath]:
        """Every path that the fleet changed or that is still to do, on disk here or not."""
        return self._decider.touched()

    def adopt(self, root: Root, *, is_new: bool) -> None:
        """The root is recorded now; what was decided for it stands.

        Args:
            is_new: a directory was made for it, which counts as nothing that was there.
        """
        self._root = self._decider.root = root
        self._decider.root_is_new = is_new

    def take_up(self) -> None:
        """Remember that these changes are to be put on disk, whatever happens now."""
        self._context.state.roots.take_up(self._root, self._survey.newest)
        self._decider.taken_up()

    def dirty_conflicts(self) -> frozenset[RelPath]:
        """Paths whose local bytes must be in the store before anything else happens to them."""
        return frozenset(self._survey.dirty)

    def local_scan(self) -> Scan:
        """What the decisions saw at these paths, for a push of just them."""
        return Scan(entries=dict(self._survey.dirty))

    def standing_conflicts(self) -> list[Head]:
        """Paths whose live versions differ."""
        return self._survey.standing

    def files_in_the_way(self) -> list[Head]:
        """Settled files and symlinks below which the fleet holds other paths.

        Among the paths that were decided on, and those above them.
        """
        history, root = self._context.state.history, self._root
        top = join(root.remote, self._prefix)
        decisions = self._survey.decisions
        if decisions is not None and len(decisions) <= MANY:
            paths = {d.head.path for d in decisions}
            paths |= _above(paths)
        elif decisions is None or decisions:
            paths = set(parents(top))
            for path in history.files_above_others(root.namespace, top):
                here = relative_to(path, root.remote)
                if here is not None and self._decider.waits(here):
                    paths.add(path)
        else:
            return []
        return [
            head
            for head in history.heads_of(root.namespace, sorted(paths - {ROOT}))
            if head.version is not None
            and head.version.manifest.kind != "dir"
            and history.has_live_below(root.namespace, head.path)
        ]

    # Doing

    def run(self) -> Pulled:
        """Put on disk what was decided. Conflicts that still stand are left as they are.

        Raises:
            PlanChangedError: more would be removed by now than was decided.
            LocalFileError, StoreError, CancelledError: as ``materialising`` says.
        """
        pulled, seen = Pulled(), self._survey
        with materialising(self._context, self._root, seen.expected) as work:
            copied = self._copy_first(work, pulled) if seen.replaced else ()
            if seen.decisions is not None:
                left = [d for d in seen.decisions if d.path not in copied]
                wanted = self._unblocked(self._wanted(left, work, pulled), work)
                work.remove([w for w in wanted if w.leaves])
                work.create([[w for w in wanted if w.version is not None]])
            else:
                if self._builder is None:
                    self._make_way(work, pulled)
                work.create(self._creations(work, pulled))
        if self._builder is not None:
            seen.plan = self._builder.done()
        pulled.files = work.placed
        pulled.bytes_received = work.bytes_received
        pulled.problems += [*self._decider.problems.values(), *work.problems]
        return pulled

    def _copy_first(self, work: Materialiser, pulled: Pulled) -> set[RelPath]:
        """Put conflict copies on disk before anything gives way; where that was tried.

        What they are copies of stays as it is where that cannot be.
        """
        beside, tried = Beside(self._context, self._root, self._decider), set[RelPath]()
        while decisions := beside.turn():
            wanted = self._unblocked(self._wanted(decisions, work, pulled), work)
            work.create([[w for w in wanted if not w.leaves]])
            # Something else is removed first where they are to be: that is yet to come.
            tried |= {d.path for d in decisions} - {w.path for w in wanted if w.leaves}
        self._held = beside.held()
        return tried

    def _make_way(self, work: Materialiser, pulled: Pulled) -> None:
        """Set aside and remove what is to go, before anything is put anywhere."""
        for d in self._decider.at(self._survey.dirty):
            if d.action is PullAction.SEND_FIRST:
                self._set_aside(d, pulled)
        removed = 0
        for decisions in self._decider.removals():
            removed += sum(d.action is PullAction.REMOVE for d in decisions)
            if removed > self._survey.removed:
                raise PlanChangedError(
                    "more is to be removed than when that was decided",
                    details={"wanted": self._survey.plan.hash},
                )
            leaving = map(self._wanted_of, (d for d in decisions if d.path not in self._held))
            work.remove([w for w in leaving if w is not None and w.leaves])

    def _creations(self, work: Materialiser, pulled: Pulled) -> Iterator[list[Wanted]]:
        """What is to be put on disk, slice by slice; decided on when it is asked for."""
        for decisions in self._decider.slices():
            if self._builder is not None:
                for d in decisions:
                    _plan(self._builder, d)
            wanted = []
            for w in self._unblocked(self._wanted(decisions, work, pulled), work):
                if not w.leaves:
                    wanted.append(w)
                elif not work.has_tried(w.path):
                    work.left_alone(w.path)
            yield wanted

    def _wanted(
        self, decisions: list[Decision], work: Materialiser, pulled: Pulled
    ) -> list[Wanted]:
        """What is to change on disk; what need not is recorded."""
        adopted: list[tuple[RelPath, BaseEntry]] = []
        dropped: list[RelPath] = []
        nothing: list[RelPath] = []
        wanted: list[Wanted] = []
        for d in decisions:
            if d.action is PullAction.NOTHING:
                if not d.outlives:  # Else it is asked again, until a push has sent the edit.
                    nothing.append(d.path)
            elif d.action is PullAction.ADOPT:
                if d.content is None:
                    dropped.append(d.path)
                else:
                    adopted.append((d.path, self._adopted(d)))
            else:
                if d.action is PullAction.SEND_FIRST:
                    one = self._set_aside(d, pulled)
                    if one is None and d.path not in self._survey.dirty:
                        work.left_alone(d.path)
                else:
                    one = self._wanted_of(d)
                if one is None:
                    continue
                if d.path in self._held and not one.attributes_only:
                    copy = show(join(self._root.remote, self._held[d.path]))
                    work.problem(
                        d.path,
                        f"stays as it is until its conflict copy {copy} is on this disk",
                        "See what keeps that, then run the command again.",
                    )
                    continue
                wanted.append(one)
        if adopted:
            make_durable(self._context, self._root, [path for path, _ in adopted])
        if adopted or dropped or nothing:
            roots = self._context.state.roots
            with self._context.state.transaction():
                roots.set_base(self._root, adopted)
                roots.drop_base(self._root, dropped)
                roots.done(self._root, nothing)
        return wanted

    def _wanted_of(self, d: Decision) -> Wanted | None:
        """What is to be there, where that is for a pull to say."""
        if d.action is PullAction.CONFLICT:
            stale = d.base is None or set(d.base.ids).isdisjoint(d.head.ids)
            # It stays to do until somebody settles it, so that a pull in mode auto finds it.
            return self._representative(d) if not d.dirty and stale else None
        if d.action not in (PullAction.MATERIALISE, PullAction.ATTRIBUTES, PullAction.REMOVE):
            return None
        return Wanted(
            d.path,
            d.head.ids,
            d.head.clock,
            None if d.action is PullAction.REMOVE else d.head.version,
            d.entry,
            attributes_only=d.action is PullAction.ATTRIBUTES,
        )

    def _adopted(self, d: Decision) -> BaseEntry:
        assert d.content is not None
        group = d.head.group_of(d.content)
        assert group is not None
        if d.head.conflicted:
            ids = tuple(v.id for v in group)
            clock = merge(v.manifest.vclock for v in group)
        else:
            ids, clock = d.head.ids, d.head.clock
        return base_entry(ids, group[0].manifest, d.entry, clock)

    def _representative(self, d: Decision) -> Wanted:
        """Of a standing conflict that this disk has no part in: the version that would win."""
        strategy = self._context.control.strategy(self._root.namespace)
        version = preferred(d.head.siblings, strategy)
        group = d.head.group_of(version.manifest.content) or (version,)
        return Wanted(
            d.path,
            tuple(v.id for v in group),
            merge(v.manifest.vclock for v in group),
            version,
            d.entry,
            standing=True,
        )

    def _set_aside(self, d: Decision, pulled: Pulled) -> Wanted | None:
        """Local bytes that could not be sent: they move to a conflict copy beside the file.

        What is to be there then.
        """
        try:
            require_write(self._context, self._root.namespace, d.head.path)
        except AccessError as error:
            if d.path in self._set_aside_before:
                return None  # It could not be, or was and is there again: that is another pull's.
            self._set_aside_before.add(d.path)
            name = conflict_path(
                d.path, self._context.identity.name, lambda path: self._exists(path)
            )
            decider = self._decider
            try:
                self._files.rename_new(decider.local(d.path), decider.local(name))
            except OSError as failure:
                pulled.problems.append(unreadable(join(self._root.remote, d.path), failure))
                return None
            pulled.conflict_copies.append(show(join(self._root.remote, name)))
            pulled.problems.append(
                Problem(
                    show(join(self._root.remote, d.path)),
                    error.code,
                    f"changed here and in the fleet, and {error.message}: the local bytes are in "
                    f"{show(name)}",
                    error.remedy,
                )
            )
            version = d.head.version or d.head.siblings[0]
            return Wanted(d.path, d.head.ids, d.head.clock, version, None)
        return None

    def _exists(self, path: RelPath) -> bool:
        return self._decider.look(path) is not None

    def _unblocked(self, wanted: list[Wanted], work: Materialiser) -> list[Wanted]:
        """Without paths below a local file that stays: they wait until that is settled."""
        leaving = {w.path for w in wanted if w.version is None or w.found is None}
        leaving |= {
            w.path for w in wanted if w.version is not None and w.version.manifest.kind == "dir"
        }

        @cache
        def blocks(directory: RelPath) -> bool:
            entry = self._decider.look(directory)
            return entry is not None and entry.kind != "dir" and directory not in leaving

        @cache
        def blocker_of(above: bytes) -> RelPath | None:
            return next((p for p in (*parents(RelPath(above)), RelPath(above)) if blocks(p)), None)

        kept = []
        for w in wanted:
            directory = w.path.rpartition(b"/")[0]
            blocker = blocker_of(directory) if directory else None
            if blocker is None or w.version is None:
                kept.append(w)
                continue
            work.problem(
                w.path,
                f"a file stands where its directory {show(blocker)} must be",
                "Settle that first; see: tcfs conflicts",
            )
        return kept


def _plan(builder: PlanBuilder, d: Decision) -> None:
    """Add a decision to a plan."""
    if d.action is PullAction.NOTHING or (d.action is PullAction.ADOPT and not d.content):
        return
    version = d.head.version
    fetched = d.action is PullAction.MATERIALISE and version is not None
    moved_from, pair = "", b""
    if d.action is PullAction.REMOVE and d.base is not None and d.base.kind == "file":
        pair = _move(d.head.path, d.base.file_hash)
    elif fetched and version is not None and version.moved_from is not None:
        # Fetched to a new path while its old one is removed: nothing is lost.
        moved_from = show(version.moved_from)
        pair = _move(version.moved_from, version.manifest.file_hash)
    builder.add(
        _ACTIONS[d.action],
        show(d.head.path),
        size=version.manifest.file_size if fetched and version else 0,
        moved_from=moved_from,
        note="both sides changed" if d.action is PullAction.SEND_FIRST else "",
        identity=(
            d.path,
            d.head.ids,
            d.base and d.base.ids,
            d.entry and (d.entry.size, d.entry.mtime_ns, d.entry.inode),
        ),
        pair=pair,
    )


def _move(old: RelPath, file_hash: bytes) -> bytes:
    """A name for the move of a file with some content away from a path: a tree may have many."""
    return blake3(file_hash + old).digest(length=16)
