"""The deliberately naive model: what a person would say must be true of a fleet of folders.

It knows nothing of clocks, parents, packs or conflicts. It looks at what users do to each disk and
at what the disks hold, and asks:

* **nothing is lost**: what a user saved, and tcfs then took off that disk or said it had sent, is
  somewhere: in a tree or in the history;
* **edits stand**: what a user saved and no user who had it before his eyes replaced is in the
  tree, in a conflict copy if need be;
* **nothing appears**: every file holds what some user saved;
* **nobody's work is undone**: between two moments of quiet, a path that no user touched stays as
  it was, and one that a single user touched ends as that user left it, deleted included;
* **all decide alike**: of two edits by users who did not know of each other's, the one by the
  device whose name comes first has the path, where that is the strategy;
* **the history is the users'**: it holds no content that nobody saved, and no deletion of a file
  that nobody deleted, not even for a while;
* **all trees are equal**, and nothing of tcfs's own is left lying about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from blake3 import blake3

from tcfs.model.spelling import composed
from tests.sim.users import Entry, Tree

CONFLICT_MARK = b".conflict-"


class Violation(AssertionError):
    """What must never be."""


@dataclass(slots=True)
class Touch:
    """What users did to a path since the last quiet moment."""

    devices: set[str] = field(default_factory=set)
    last: Entry | None = None
    """As the last of them left it; None for deleted."""
    wrote: bool = False
    """Whether anyone put something there."""
    acts: list[tuple[str, Entry | None, Entry | None]] = field(default_factory=list)
    """Each act: whose it was, what was there before his eyes, and what he left."""


class Model:
    """What users did, and what must follow."""

    def __init__(self) -> None:
        self.saved: set[bytes] = set()
        """Every content that a user ever saved."""
        self._left_to_chance: set[bytes] = set()
        """What a power loss left, of saves that were not durable, where no user sees it."""
        self.owed: dict[bytes, str] = {}
        """Contents that must be found again, and why."""
        self._aside: set[bytes] = set()
        """What of it a power loss took out of a tree: once it is there again, it is its user's."""
        self.merging = False
        """Whether tcfs may write lines of several."""
        self.by_name = False
        """Whether the strategy is that the device whose name comes first has the path."""
        self.agreed: Tree = {}
        """The tree of the last quiet moment."""
        self._standing: set[tuple[bytes, bytes]] = set()
        """What users saved where, and no user, having it before his eyes, replaced or removed."""
        self._touched: dict[bytes, Touch] = {}
        self._rewrites: dict[bytes, list[tuple[str, bytes, Entry | None]]] = {}
        """Of each path since the last quiet moment: who put what in place of which bytes."""
        self._unclear: set[bytes] = set()
        self._anything_goes = False
        self._history_changed = False
        """Whether anybody ever asked tcfs to change history's course."""
        self._removed: set[bytes] = set()
        """Paths where a user ever took a file or symlink away."""
        self._directories: set[bytes] = set()
        """Paths where there ever was a directory."""
        self._digests: dict[bytes, bytes] = {}

    # What happens

    def user_changed(
        self, device: str, before: Tree, after: Tree, *, shared: bool = True
    ) -> list[bytes]:
        """A user turned one tree into another. Returns the contents that are new on that disk.

        Args:
            shared: whether the others are to see it.
        """
        new = []
        if shared:
            self._edited(device, before, after)
        for path in before.keys() | after.keys():
            old, entry = before.get(path), after.get(path)
            if old == entry:
                continue
            if shared:
                touch = self._touched.setdefault(path, Touch())
                touch.devices.add(device)
                touch.last = entry
                touch.wrote |= entry is not None
                if old is not None and old.kind == "file" and _bytes_at(after, path) != old.data:
                    self._rewrites.setdefault(path, []).append((device, old.data, entry))
                touch.acts.append((device, old, entry))
            self._note_kinds(path, old, entry)
            if entry is not None and entry.kind == "file":
                self.saved.add(entry.data)
                self._left_to_chance.discard(entry.data)
                new.append(entry.data)
        return new

    def _note_kinds(self, path: bytes, old: Entry | None, entry: Entry | None) -> None:
        if old is not None and (entry is None or entry.kind != old.kind):
            self._removed.add(path)
        if "dir" in {one.kind for one in (old, entry) if one is not None}:
            self._directories.add(path)

    def _edited(self, device: str, before: Tree, after: Tree) -> None:
        """What stands after a user turned one tree into another."""
        held = {entry.data for entry in after.values() if entry.kind == "file"}
        for path, old in before.items():
            if old.kind != "file" or _bytes_at(after, path) == old.data:
                continue
            if old.data not in held:
                gone = {(other, data) for other, data in self._standing if data == old.data}
                if old.data in self._aside:
                    self._aside.remove(old.data)
                    self.owed.pop(old.data, None)
            elif CONFLICT_MARK in path:
                # What this is a copy of may be about to give way, now that the copy was there.
                gone = {(other, data) for other, data in self._standing if data == old.data}
            else:
                gone = {(path, old.data)}
            self._standing -= gone
        for path, entry in after.items():
            if (
                entry.kind == "file"
                and _bytes_at(before, path) != entry.data
                and not self._only_put_back(device, path, before.get(path), entry)
            ):
                self._standing.add((path, entry.data))

    def _only_put_back(self, device: str, path: bytes, old: Entry | None, entry: Entry) -> bool:
        """Whether a user saved what another, whose work is not on this disk, went on from.

        Equal bytes at one path are one file, whoever saved them first: that one who had it before
        his eyes edited or removed it is then no loss.
        """
        rewrites = self._rewrites.get(path, [])
        answered = {before for user, before, _ in rewrites if user == device}
        if old is not None:
            answered.add(old.data)
        return any(
            user != device
            and before == entry.data
            and (after is None or after.data not in answered)
            for user, before, after in rewrites
        )

    def power_failed(
        self, before: Tree, after: Tree, unsynced: set[bytes], aside: Iterable[bytes] = ()
    ) -> None:
        """A disk forgot.

        Args:
            unsynced: what users saved there and nobody had made durable.
            aside: what files hold now that the engine was about to replace or remove.
        """
        kept = {entry.data for entry in after.values()}
        # A name that was not durable may be again what it was, and what it led to elsewhere.
        self._standing = {
            (path, data)
            for path, data in self._standing
            if (data not in unsynced or data in kept)
            and not (data in kept and _bytes_at(before, path) == data != _bytes_at(after, path))
        }
        for data in aside:
            if data in unsynced or any(_torn_from(data, whole) for whole in unsynced):
                # It may come back as a conflict copy, and need not.
                self.saved.add(data)
                if data not in kept:
                    self._left_to_chance.add(data)
        for path in before.keys() | after.keys():
            old, entry = before.get(path), after.get(path)
            if old == entry:
                continue
            self._unclear.add(path)
            self._removed.add(path)
            if entry is not None and any(_torn_from(entry.data, data) for data in unsynced):
                # Torn as it may be, it is what this user's file now holds.
                self.saved.add(entry.data)
            if old is None or old.kind != "file" or old.data in unsynced:
                continue
            if old.data in self.saved and old.data not in kept:
                why = f"{path!r} was durable before the power failed"
                self.owe(old.data, why, until_edited=True)

    def begin(self, tree: Tree) -> None:
        """All devices have this tree."""
        self.agreed = dict(tree)
        self._touched.clear()
        self._rewrites.clear()

    def owe(self, data: bytes, why: str, *, until_edited: bool = False) -> None:
        """This content is no user's to lose any more.

        Args:
            until_edited: but if it comes to be in a tree, whoever edits it there may.
        """
        if data in self.saved and data not in self._left_to_chance:
            if not until_edited:
                self._aside.discard(data)
            elif data not in self.owed:
                self._aside.add(data)
            self.owed.setdefault(data, why)

    def forgive(self, device: str) -> None:
        """What this device said it had sent need not be found."""
        self.owed = {data: why for data, why in self.owed.items() if not why.startswith(device)}

    def forgive_contents(self, digests: Set[bytes]) -> None:
        """What has these hashes need not be found, unless it comes to be owed again."""
        gone = {data for digest, data in self.saved_digests().items() if digest in digests}
        self.owed = {data: why for data, why in self.owed.items() if data not in gone}

    def anything_goes(self) -> None:
        """Somebody asked tcfs to change history's course: paths may change that nobody touched."""
        self._anything_goes = self._history_changed = True

    def unclear(self, paths: Iterable[bytes]) -> None:
        """Nobody can say what these paths should hold."""
        self._unclear.update(paths)

    # What must hold

    def check_quiet(self, trees: dict[str, Tree], *, folding: Set[str] = frozenset()) -> None:
        """All is quiet, and these trees must agree.

        Args:
            folding: devices where what a user wrote may come to be at another path, which Unicode
                takes for the same.

        Raises:
            Violation: it is not so.
        """
        names = list(trees)
        expected = trees[names[0]]
        for name in names[1:]:
            _compare(names[0], expected, name, trees[name])
        for name, tree in trees.items():
            self._nothing_appears(name, tree)
        theirs = [path for path, touch in self._touched.items() if touch.devices & folding]
        self._unclear |= _alike(theirs, self.agreed.keys() | expected.keys())
        if not self._anything_goes:
            self._nobody_is_undone(expected)
            if self.by_name and not self.merging and not folding:
                self._all_decide_alike(expected, two=len(trees) == 2)
        if not self._anything_goes and not self.merging:
            self._edits_stand(expected)
        self._standing = {(p, entry.data) for p, entry in expected.items() if entry.kind == "file"}
        self.agreed = dict(expected)
        self._touched.clear()
        self._rewrites.clear()
        self._unclear.clear()
        self._anything_goes = False

    def check_kept(self, trees: Iterable[Tree], known: set[bytes]) -> None:
        """Everything owed is in one of the trees, or among what the history ``known``.

        Raises:
            Violation: it is not so.
        """
        held = {entry.data for tree in trees for entry in tree.values()} | known
        for data, why in self.owed.items():
            if data not in held:
                raise Violation(f"lost: {data[:60]!r} ({why})")

    def check_history(self, versions: Iterable[tuple[bytes, bytes, bool]]) -> None:
        """Nothing stands in the history that no user did.

        Args:
            versions: of each its path, the hash of its content if it is a file's, and whether it is
                a deletion.

        Raises:
            Violation: it is not so.
        """
        if self.merging:
            return
        saved = self.saved_digests()
        for path, digest, deleted in versions:
            if digest and digest not in saved:
                raise Violation(f"the history has bytes at {path!r} that nobody saved")
            if deleted and not (
                self._history_changed
                or CONFLICT_MARK in path
                or path in self._removed
                or path in self._directories
            ):
                raise Violation(f"the history says that {path!r} was deleted, and nobody did")

    def saved_digests(self) -> Mapping[bytes, bytes]:
        """Every content that a user ever saved, by its hash."""
        for data in self.saved - set(self._digests.values()):
            self._digests[blake3(data).digest()] = data
        return self._digests

    def _all_decide_alike(self, tree: Tree, *, two: bool) -> None:
        """Of two who edited a file without knowing of each other, the first name has the path.

        Args:
            two: there are no other devices, one of which might settle what two are still editing.
        """
        near = self._users_near()
        for path, touch in self._touched.items():
            above = [path[:end] for end in _ends(path)]
            if (
                {device for device, _, _ in touch.acts} != touch.devices
                or len(touch.devices) != 2
                or (len(touch.acts) > 2 and not two)
                or CONFLICT_MARK in path
                or near.get(path)
                or not self._touched.keys().isdisjoint(above)
                or not self._unclear.isdisjoint([path, *above])
            ):
                continue
            agreed, found = self.agreed.get(path), tree.get(path)
            first, second = sorted(touch.devices)
            mine, theirs = (_blind_edits(touch, device, agreed) for device in (first, second))
            if not mine or not theirs or set(mine) & set(theirs):
                continue
            if any(
                entry.data == mine[-1] and other.startswith(b"recovered" + CONFLICT_MARK)
                for other, entry in tree.items()
            ):
                continue  # The process was killed while it had that edit in its hands.
            if found is None or found.data != mine[-1]:
                raise Violation(
                    f"{path!r} is not {first}'s, whose name comes first: {_show(found)}"
                )

    def _edits_stand(self, tree: Tree) -> None:
        held = {entry.data for entry in tree.values()}
        for path, data in sorted(self._standing):
            if data not in held:
                raise Violation(
                    f"{data[:60]!r} of {path!r} was replaced by no user, and is in no file"
                )

    def _nothing_appears(self, name: str, tree: Tree) -> None:
        lines: set[bytes] = set()
        for path, entry in tree.items():
            if entry.kind != "file" or entry.data in self.saved:
                continue
            if self.merging:
                lines = lines or {line for data in self.saved for line in data.split(b"\n")}
                if lines.issuperset(entry.data.split(b"\n")):
                    continue
            raise Violation(f"{name}: {path!r} holds what nobody saved: {entry.data[:60]!r}")

    def _nobody_is_undone(self, tree: Tree) -> None:
        near = self._users_near()
        for path in self.agreed.keys() | tree.keys():
            before, after = self.agreed.get(path), tree.get(path)
            touch = self._touched.get(path)
            users = set(touch.devices) if touch else set()
            users |= near.get(path, set())
            for end in _ends(path):
                above = self._touched.get(path[:end])
                users |= above.devices if above else set()
                users |= {"?"} if path[:end] in self._unclear else set()
            if path in self._unclear or "?" in users:
                continue
            if touch is None:
                if users or _same(before, after) or self._excused(path, before, after, near):
                    continue
                raise Violation(
                    f"{path!r} changed and nobody touched it: {_show(before)} -> {_show(after)}"
                )
            kinds = {entry.kind for entry in (touch.last, after) if entry is not None}
            if "dir" in kinds:
                continue  # directories come and go with what is in them
            if CONFLICT_MARK in path and self._excused(path, before, after, near):
                continue
            if not touch.wrote and after is not None and len(users) <= len(touch.devices):
                raise Violation(f"{path!r} was deleted and came back: {_show(after)}")
            if len(users) == 1 and not _same(touch.last, after):
                raise Violation(
                    f"{path!r} was touched by {users} alone, who left {_show(touch.last)};"
                    f" now there is {_show(after)}"
                )

    def _excused(
        self, path: bytes, before: Entry | None, after: Entry | None, near: dict[bytes, set[str]]
    ) -> bool:
        """A directory comes and goes with what is in it, a conflict copy with a conflict."""
        if "dir" in {entry.kind for entry in (before, after) if entry is not None}:
            return True
        stem, mark, _ = path.partition(CONFLICT_MARK)
        if not mark:
            return False
        if stem == b"recovered":
            return bool(self._touched)
        return any(
            len(touch.devices | near.get(other, set())) > 1
            for other, touch in self._touched.items()
            if other.startswith(stem)
        ) or any(other.startswith(stem) for other in self._unclear)

    def _users_near(self) -> dict[bytes, set[str]]:
        """Who touched something below each path."""
        near: dict[bytes, set[str]] = {}
        for path, touch in self._touched.items():
            for end in _ends(path):
                near.setdefault(path[:end], set()).update(touch.devices)
        for path in self._unclear:
            for end in _ends(path):
                near.setdefault(path[:end], set()).add("?")
        return near


def _bytes_at(tree: Tree, path: bytes) -> bytes | None:
    entry = tree.get(path)
    return entry.data if entry is not None and entry.kind == "file" else None


def _alike(touched: Iterable[bytes], paths: Iterable[bytes]) -> set[bytes]:
    """Paths that Unicode takes for one that was touched, or for one above it."""
    ends = {path[:end] for path in touched for end in (*_ends(path), len(path))}
    alike = {composed(path) for path in ends if not path.isascii()}
    return {path for path in paths if not path.isascii() and composed(path) in alike}


def _blind_edits(touch: Touch, device: str, agreed: Entry | None) -> list[bytes]:
    """What a user saved, one after the other, having seen nothing of others; empty if he had."""
    found: list[bytes] = []
    last = agreed
    for who, saw, left in touch.acts:
        if who != device:
            continue
        if left is None or left.kind != "file" or not _same(saw, last):
            return []
        if agreed is not None and agreed.data == left.data:
            return []
        found.append(left.data)
        last = left
    return found


def _torn_from(data: bytes, whole: bytes) -> bool:
    half = len(whole) // 2
    return data in (b"", bytes(len(whole)), whole[:half] + bytes(len(whole) - half))


def _ends(path: bytes) -> list[int]:
    return [index for index, byte in enumerate(path) if byte == 47]


def _same(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    mode = one.mode == other.mode or one.kind == "symlink"
    return (one.kind, one.data) == (other.kind, other.data) and mode


def _show(entry: Entry | None) -> str:
    return "nothing" if entry is None else f"{entry.kind} {entry.mode:o} {entry.data[:40]!r}"


def _compare(one: str, expected: Tree, other: str, found: Tree) -> None:
    if expected == found:
        return
    lines = [
        f"  {path!r}: {_show(expected.get(path))} / {_show(found.get(path))}"
        for path in sorted(expected.keys() | found.keys())
        if expected.get(path) != found.get(path)
    ]
    raise Violation(f"{one} and {other} differ:\n" + "\n".join(lines[:8]))
