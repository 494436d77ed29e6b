"""Deliberate bugs, to test the rig: each changes one function of the engine, or of a machine.

``SEEDS`` says how many seeds, from 1, the rig may need at most; ``test_bugs`` holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from tcfs.content import ingest, restore
from tcfs.content.unpack import PackReader
from tcfs.ledger import chain, walk
from tcfs.model.membership import _Building
from tcfs.model.upkeep import Upkeep
from tcfs.state import garbage, history
from tcfs.state.database import Database
from tcfs.state.index import Outbox
from tcfs.state.roots import Roots
from tcfs.sync import (
    commit,
    deciding,
    leftovers,
    materialise,
    pieces,
    placement,
    receive,
    scan,
    sending,
    upload,
)
from tcfs.sync import resolve as resolving
from tcfs.sync.commit import Committer
from tcfs.sync.gc import collect, marks, survey
from tcfs.sync.workbench import Workbench
from tests.sim.disk import SimulatedFiles

Undo = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug to plant.

    Attributes:
        what: in words.
        plant: makes it; returns what takes it back.
    """

    what: str
    plant: Callable[[], Undo]


def _nothing(*_args: Any, **_options: Any) -> None:
    """Instead of something that is to be left out."""


def _replace(owner: Any, name: str, new: Any) -> Undo:
    old = getattr(owner, name)
    setattr(owner, name, new)
    return lambda: setattr(owner, name, old)


def _all(*undo: Undo) -> Undo:
    def take_back() -> None:
        for one in reversed(undo):
            one()

    return take_back


def _state_not_synced() -> Undo:
    prepare = Database._prepare

    def lax(self: Database) -> None:
        prepare(self)
        self.connection.execute("PRAGMA synchronous = OFF")

    return _replace(Database, "_prepare", lax)


def _segment_before_packs() -> Undo:
    flush, put = Committer.flush, upload.Upload._put
    late: list[tuple[Any, Any]] = []

    def put_later(self: Any, pack: Any) -> None:
        late.append((self, pack))

    def flush_first(self: Any) -> None:
        late.clear()
        flush(self)
        for uploader, pack in late:
            put(uploader, pack)
        late.clear()

    return _all(
        _replace(upload.Upload, "_put", put_later), _replace(Committer, "flush", flush_first)
    )


def _parents_merely_fetched() -> Undo:
    add = Committer.add

    def rooted(self: Any, drafts: Any) -> Any:
        answers = []
        for draft in drafts:
            head = self._context.state.history.head(self._namespace, draft.manifest.rel_path)
            manifest = replace(draft.manifest, parents=head.ids)
            answers.append(replace(draft, manifest=manifest, parents_clock=head.clock))
        return add(self, answers)

    return _replace(Committer, "add", rooted)


def _old_tombstones_dropped() -> Undo:
    take_up = commit.take_up

    def forgetful(context: Any, header: Any, digest: Any, events: Any, *rest: Any) -> None:
        known = context.state.history.heads(header.namespace).get(header.device)
        if header.device != context.identity.device_id and known is not None:
            events = [event for event in events if event.op != "delete"]
        take_up(context, header, digest, events, *rest)

    return _replace(commit, "take_up", forgetful)


def _clock_entry_ignored() -> Undo:
    add = history.History.add_versions

    def partial(self: Any, namespace: Any, header: Any, events: Any) -> None:
        # Of several parents the last is forgotten, so that it stays live.
        cut = [
            replace(
                event,
                manifest=replace(event.manifest, parents=event.manifest.parents[:1]),
            )
            for event in events
        ]
        add(self, namespace, header, cut)

    return _replace(history.History, "add_versions", partial)


def _chunks_unverified() -> Undo:
    def write(batch: Any, frames: Any, order: Any) -> Any:
        if order.target:
            return batch.files.symlink(order.target, order.path, order.mtime_ns)
        parts = [frames.plain(p.frame)[p.offset : p.offset + p.length] for p in order.parts]
        return batch.files.write_new(order.path, parts, order.mode, order.mtime_ns)

    def finished(self: Any, file: Any) -> Any:
        manifest = file.wanted.wanted_version.manifest
        self._files.set_attributes(file.temp, mode=manifest.mode, mtime_ns=manifest.mtime_ns)
        return self._files.lstat(file.temp)

    return _all(
        _replace(PackReader, "check_chunk", _nothing),
        _replace(restore, "_write", write),
        _replace(pieces.PieceWriter, "_finished", finished),
    )


def _swap_unseen() -> Undo:
    return _replace(placement, "same_inode", lambda _stat, _found: True)


def _removal_unseen() -> Undo:
    return _all(
        _replace(materialise, "same_inode", lambda _stat, _found: True),
        _replace(materialise, "unchanged", lambda _stat, _found: True),
    )


def _rename_clobbers() -> Undo:
    def rename_new(self: SimulatedFiles, source: bytes, target: bytes) -> None:
        self._pass("rename_new", target)
        replaced = self.disk.rename(source, target, replace=True)
        if replaced is not None:
            self._gate.dropped(target, replaced)

    return _replace(SimulatedFiles, "rename_new", rename_new)


def _winner_by_arrival() -> Undo:
    def mine(self: Any, head: Any, strategy: Any = None) -> Any:
        own = self._context.identity.device_id
        return min(head.siblings, key=lambda v: (v.id.device != own, v.id.counter))

    return _replace(resolving.Resolver, "preferred", mine)


def _unreadable_is_empty() -> Undo:
    def sees(self: scan.Scan, path: Any, is_dir: bool) -> bool:
        return not self._leaves_out(path, is_dir)

    return _replace(scan.Scan, "sees", sees)


def _tombstone_beats_edit() -> Undo:
    patched: Any = deciding
    real = patched.pull_action

    def hasty(head: Any, base: Any, local: Any, dirty: bool) -> Any:
        action = real(head, base, local, dirty)
        if head.absent and base is not None and local is not None:
            return patched.PullAction.REMOVE
        return action

    return _replace(deciding, "pull_action", hasty)


def _barrier_after_renames() -> Undo:
    place = placement.Placer._place_batch

    def undurable(self: Any, *arguments: Any) -> None:
        # The barrier before it, for the files themselves, was waited for by the caller.
        # On this bench alone: another device may be in the middle of the same.
        bench: Any = self._bench
        bench.barrier = _nothing
        try:
            place(self, *arguments)
        finally:
            del bench.barrier

    return _replace(placement.Placer, "_place_batch", undurable)


def _swept_by_clock() -> Undo:
    real = marks.waited_for

    def patient(context: Any, author: Any, seq: int, namespace: Any) -> Any:
        found = context.control.upkeep.marks
        marked_at = max(m.marked_at for m in found if (m.author, m.seq) == (author, seq))
        if context.host.clock.now() > marked_at + 3600:
            return []
        return real(context, author, seq, namespace)

    return _replace(survey, "waited_for", patient)


def _no_intents() -> Undo:
    intend = Workbench.intend

    def unwritten(self: Workbench, wanted: Any) -> Any:
        number = intend(self, wanted)
        self.context.state.roots.clear_intents(self.root)
        return number

    return _replace(Workbench, "intend", unwritten)


def _todo_forgotten() -> Undo:
    take_up = Roots.take_up

    def forgetful(self: Any, root: Any, newest: int) -> None:
        take_up(self, root, newest)
        self.done(root, self.todo(root))

    return _replace(Roots, "take_up", forgetful)


def _control_forgotten() -> Undo:
    def forgets(context: Any, entry: Any) -> None:
        context.state.outbox.remove(entry)

    return _all(
        _replace(commit, "control_sent", forgets),
        _replace(marks, "control_sent", forgets),
    )


def _first_decision_stays() -> Undo:
    policy, apply = _Building._policy, Upkeep.apply

    def first_policy(self: Any, entry: Any) -> None:
        before = dict(self.policies)
        policy(self, entry)
        self.policies.update(before)

    def first_retention(self: Any, *event: Any) -> None:
        before = dict(self._retention)
        apply(self, *event)
        self._retention.update(before)

    return _all(
        _replace(_Building, "_policy", first_policy), _replace(Upkeep, "apply", first_retention)
    )


BUGS: Final[dict[str, Bug]] = {
    "no-barrier": Bug(
        "a pull renames files that are not durable",
        lambda: _replace(Workbench, "barrier", _nothing),
    ),
    "push-not-durable": Bug(
        "a push trusts the stat of a file that is not durable",
        lambda: _all(
            _replace(commit, "make_durable", _nothing), _replace(sending, "make_durable", _nothing)
        ),
    ),
    "state-not-synced": Bug("the state database is not synced", _state_not_synced),
    "segment-before-packs": Bug("a segment is sent before its packs", _segment_before_packs),
    "no-outbox": Bug(
        "a segment is sent that the outbox does not hold",
        lambda: _replace(Outbox, "add", _nothing),
    ),
    "fetched-parents": Bug(
        "an edit answers what was fetched, not what the disk held", _parents_merely_fetched
    ),
    "clock-entry": Bug("all parents but the first are ignored", _clock_entry_ignored),
    "tombstone-dropped": Bug("tombstones are dropped early", _old_tombstones_dropped),
    "tombstone-wins": Bug("a deletion removes a file that was edited", _tombstone_beats_edit),
    "unverified-pack": Bug("what a pack holds is not verified", _chunks_unverified),
    "swap-unseen": Bug("a replaced file is not looked at again", _swap_unseen),
    "removal-unseen": Bug("a removed file is not looked at again", _removal_unseen),
    "rename-clobbers": Bug("rename-without-replacing replaces", _rename_clobbers),
    "no-intents": Bug("intents are not written", _no_intents),
    "edits-not-kept": Bug(
        "displaced edits are rubbish after a crash",
        lambda: _replace(leftovers, "_keep_edits", _nothing),
    ),
    "torn-read": Bug(
        "a file that changed while it was read is sent",
        lambda: _replace(ingest, "same_file", lambda _found, _expected: True),
    ),
    "same-tick": Bug(
        "the clock need not tick before a stat is trusted",
        lambda: _replace(sending, "let_the_clock_tick", _nothing),
    ),
    "winner-by-device": Bug("each device prefers its own side of a conflict", _winner_by_arrival),
    "unreadable-is-empty": Bug(
        "a directory that cannot be read counts as empty", _unreadable_is_empty
    ),
    "sweep-at-once": Bug(
        "a pack is swept that not every device has given up",
        lambda: _replace(marks, "is_past", lambda *_args, **_options: True),
    ),
    "sweep-needed": Bug(
        "a sweep does not look whether a pack is needed again",
        lambda: _all(
            _replace(garbage.Garbage, "stranded", lambda _self, _namespace: []),
            _replace(collect._Work, "_still_needed", lambda _self, _pack, _size: False),
        ),
    ),
    "sweep-by-clock": Bug("a pack is swept an hour after it was marked", _swept_by_clock),
    "marks-unheeded": Bug(
        "a push counts on packs that are marked",
        lambda: _replace(receive, "take_up_marks", _nothing),
    ),
    "barrier-after-renames": Bug(
        "a pull trusts renames that are not durable", _barrier_after_renames
    ),
    "listed-from-head": Bug(
        "a chain is listed from its known head", lambda: _replace(chain, "BEHIND", 0)
    ),
    "branch-kept": Bug(
        "the branch of a fork that was taken up stays, whichever its revocation names",
        lambda: _replace(walk.Walk, "_leave_branch", lambda _walk, _chain, _cut: False),
    ),
    "branches-counted-on": Bug(
        "who knows two branches of a fork counts on what either tells",
        lambda: _replace(receive, "uncount_branches", _nothing),
    ),
    "control-forgotten": Bug(
        "a control segment that was sent is known once the store was looked at again",
        _control_forgotten,
    ),
    "first-decision": Bug(
        "the first strategy or retention policy that was decided stays", _first_decision_stays
    ),
    "todo-forgotten": Bug("what a pull has yet to do is forgotten", _todo_forgotten),
}
"""By name."""

SEEDS: Final[dict[str, tuple[int, int]]] = {
    "no-barrier": (3, 12),
    "push-not-durable": (107, 430),
    "listed-from-head": (64, 256),
    "state-not-synced": (4, 16),
    "segment-before-packs": (8, 32),
    "no-outbox": (9, 36),
    "fetched-parents": (2, 12),
    "clock-entry": (3, 12),
    "tombstone-dropped": (1, 12),
    "tombstone-wins": (1, 12),
    "unverified-pack": (33, 132),
    "swap-unseen": (5, 20),
    "removal-unseen": (98, 392),
    "rename-clobbers": (3, 12),
    "no-intents": (90, 360),
    "edits-not-kept": (21, 84),
    "torn-read": (28, 112),
    "same-tick": (17, 68),
    "winner-by-device": (32, 128),
    "unreadable-is-empty": (44, 176),
    "sweep-at-once": (78, 312),
    "sweep-needed": (78, 312),
    "sweep-by-clock": (126, 504),
    "marks-unheeded": (17, 68),
    "barrier-after-renames": (8, 32),
    "branch-kept": (513, 2052),
    "first-decision": (4, 16),
    "control-forgotten": (169, 676),
    "todo-forgotten": (2, 12),
}
"""For each bug the seed, from 1, that found it, and within how many it must be."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The engine has this bug while it lasts."""
    take_back = BUGS[name].plant()
    try:
        yield
    finally:
        take_back()
