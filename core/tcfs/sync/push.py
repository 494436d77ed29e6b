"""Push: what changed on disk since the base becomes events of this device.

A push never takes anything from the fleet and never settles a conflict: a file whose remote version
was not pulled is committed as a sibling.
"""

from __future__ import annotations

from collections.abc import Iterator

from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import ROOT, join, show
from tcfs.model.plan import BaseEntry, LocalChange, local_change
from tcfs.state.roots import Root
from tcfs.sync.candidates import SLICE, Candidate
from tcfs.sync.commit import Committer
from tcfs.sync.compare import Look
from tcfs.sync.context import Context
from tcfs.sync.places import adopt
from tcfs.sync.planning import PlanBuilder
from tcfs.sync.results import Action, Plan
from tcfs.sync.sending import Pushed, Sending
from tcfs.sync.upload import Upload


class Push:
    """One push of a root, or of the parts of it at and below some prefixes.

    ``only`` restricts it to certain paths; then nothing is deleted.
    """

    def __init__(
        self, context: Context, root: Root, looked: Look, *, only: frozenset[RelPath] | None = None
    ) -> None:
        self._context = context
        self._root = root
        self._look = looked
        self._scan = looked.scan
        self._namespace: NamespaceId = root.namespace
        self.candidates = looked.changed
        if only is not None:
            self.candidates.drop(lambda path: path not in only)
        elif not root.remote:
            self.candidates.drop(lambda path: path == ROOT)  # a namespace is no directory
        self.candidates.narrow(self._change)
        if only is None:
            self.candidates.add_gone(self._gone())

    def _change(self, c: Candidate) -> LocalChange:
        if c.base is not None and c.base.on_this_disk_alone and self._revives(c, c.base):
            return LocalChange.NEW
        return local_change(c.base, c.entry)

    def _gone(self) -> Iterator[RelPath]:
        """What is in the base, is not on disk, and would have been seen there."""
        gone, sees, roots = self._look.gone, self._scan.sees, self._context.state.roots
        for start in range(0, len(gone), SLICE):
            some = gone[start : start + SLICE]
            for path, known in roots.base_at(self._root, some).items():
                if sees(path, known.kind == "dir"):
                    yield path

    def _revives(self, c: Candidate, base: BaseEntry) -> bool:
        """Whether a directory that only this disk has is to be in the fleet after all.

        It is if it holds what is synced, or nothing, or one that is to be. A deleted one that is
        kept for excluded files alone is not.
        """
        history = self._context.state.history
        head = history.head(self._namespace, join(self._root.remote, c.path))
        if (
            c.entry is None
            or c.entry.kind != "dir"
            or not head.absent
            or not set(head.ids) <= set(base.ids)
        ):
            return False
        if c.path in self._look.in_use:
            return True
        start = c.path + b"/"
        return any(
            not any(hidden.startswith(other + b"/") for hidden in self._scan.hidden)
            for other in self._look.alone
            if other == c.path or other.startswith(start)
        )

    @property
    def tracked(self) -> int:
        """How many paths the base has here."""
        return self._look.tracked

    def plan(self) -> Plan:
        """What this push would do, by stat alone: content is read when it is done."""
        builder = PlanBuilder("push", self._namespace, self._root.remote)
        moves = self._moves()
        old_paths = set(moves.values())
        for c in self.candidates:
            if c.path in old_paths:
                continue
            action: Action = {
                LocalChange.NEW: "add",
                LocalChange.MAYBE: "change",
                LocalChange.MODE: "attributes",
                LocalChange.DELETED: "delete",
            }[c.change]  # type: ignore[assignment]
            moved = ""
            if c.path in moves:
                action, moved = "move", show(join(self._root.remote, moves[c.path]))
            builder.add(
                action,
                show(join(self._root.remote, c.path)),
                size=c.entry.size if c.entry and c.entry.kind == "file" else 0,
                moved_from=moved,
                identity=(
                    c.path,
                    c.entry and (c.entry.size, c.entry.mtime_ns, c.entry.ctime_ns, c.entry.inode),
                    c.base and c.base.ids,
                ),
            )
        return builder.done(
            [f"skipped, neither file, directory nor symlink: {p}" for p in self._scan.skipped[:20]]
        )

    def _moves(self) -> dict[RelPath, RelPath]:
        """New paths that were renamed, by what a rename leaves as it was, to their old paths."""
        gone = {
            (c.base.inode, c.base.size, c.base.mtime_ns): c.path
            for c in self.candidates.gone()
            if c.base is not None and c.base.kind == "file"
        }
        moves: dict[RelPath, RelPath] = {}
        for c in self.candidates.files() if gone else ():
            if c.change is LocalChange.NEW and c.entry is not None and c.entry.size:
                old = gone.pop((c.entry.inode, c.entry.size, c.entry.mtime_ns), None)
                if old is not None:
                    moves[c.path] = old
        return moves

    def adopt(self) -> None:
        """Record the root, if it is new, or check that it is still what it was."""
        self._root = adopt(self._context, self._root)

    def run(self) -> Pushed:
        """Do it. Commits in parts; what was committed stays if a later part fails."""
        pushed = Pushed(problems=list(self._scan.problems))
        if not self.candidates:
            return pushed
        context = self._context
        seq = self._next_seq()
        with Upload(context, self._namespace, seq) as upload:
            committer = Committer(context, self._namespace, root=self._root, upload=upload)
            work = Sending(context, self._root, self.candidates, committer, upload, pushed)
            try:
                work.attributes_and_links()
                work.files()
                work.deletions()
                work.replacements()
                committer.flush()
                work.refresh()
            finally:
                pushed.bytes_read = upload.bytes_read
                pushed.bytes_sent = upload.bytes_sent + committer.bytes_sent
                pushed.packs = upload.packs
                pushed.segments = len(committer.segments)
                pushed.last_segment = committer.last
        return pushed

    def _next_seq(self) -> int:
        heads = self._context.state.history.heads(self._namespace)
        own = heads.get(self._context.identity.device_id)
        return own.seq + 1 if own else 1
