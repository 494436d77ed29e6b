"""Moving refs, HEAD, index and stash of a repository, so that a crash at any point is completed.

The steps are recorded before the first is done. Each names what it found and what it puts there,
so that doing them again is harmless, and what somebody changed meanwhile is left alone. No step
touches a file of the work tree: those travel as files, and git is only told which commit they
belong to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tcfs.model.ids import DeviceId, VersionId
from tcfs.model.paths import show
from tcfs.state.git import RegisterBase
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.git.names import HEAD, INCOMING, INDEX, branch_of
from tcfs.sync.git.program import GitError, has_filters
from tcfs.sync.git.repository import Repository
from tcfs.sync.git.snapshot import index_tree, stash_entries

Value = bytes | None


@dataclass(slots=True)
class Arrival:
    """Steps in one repository.

    Attributes:
        refs: (full name, value found, value to put); None for no ref.
        head: HEAD's value found and to put, or None if it stays.
        index: the tree that the index stood for and the one it is to stand for, or None.
        stash: entries found and to put, newest first, or None.
        base: what is recorded when all is done.
    """

    refs: list[tuple[bytes, Value, Value]] = field(default_factory=list)
    head: tuple[bytes, bytes] | None = None
    index: tuple[Value, bytes] | None = None
    stash: tuple[Value, Value] | None = None
    base: dict[bytes, RegisterBase | None] = field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """Whether anything in the repository is to change."""
        return bool(self.refs or self.head or self.index or self.stash)

    def to_json(self) -> str:
        """The steps as they are recorded."""
        return orjson.dumps(
            {
                "refs": [[_text(v) for v in step] for step in self.refs],
                "head": self.head and [_text(v) for v in self.head],
                "index": self.index and [_text(v) for v in self.index],
                "stash": self.stash and [_text(v) for v in self.stash],
                "base": [
                    [_text(n), b and [_text(b.value), [[i.device, i.counter] for i in b.ids]]]
                    for n, b in self.base.items()
                ],
            }
        ).decode()

    @classmethod
    def from_json(cls, text: str) -> Arrival:
        """The inverse of ``to_json``."""
        data: dict[str, Any] = orjson.loads(text)

        def pair(name: str) -> Any:
            found = data[name]
            return tuple(_bytes(v) for v in found) if found else None

        return cls(
            [tuple(_bytes(v) for v in step) for step in data["refs"]],  # type: ignore[misc]
            pair("head"),
            pair("index"),
            pair("stash"),
            {
                _bytes(name) or b"": b
                and RegisterBase(
                    _bytes(b[0]) or b"", tuple(VersionId(DeviceId(d), n) for d, n in b[1])
                )
                for name, b in data["base"]
            },
        )


def _text(value: Value) -> str | None:
    return None if value is None else value.decode("latin-1")


def _bytes(text: str | None) -> Value:
    return None if text is None else text.encode("latin-1")


def perform(
    context: Context, root: Root, repository: Repository, arrival: Arrival, scratch: bytes
) -> list[GitError]:
    """Record the steps, do them, record the new base. Returns what git refused; that stays to do.

    Raises:
        GitError: the index cannot be rewritten now. The next push or pull completes it.
    """
    git = context.state.git
    if arrival.moves:
        git.begin(root, repository.path, arrival.to_json())
    return _finish(context, root, repository, arrival, scratch)


def complete(context: Context, root: Root, repository: Repository, scratch: bytes) -> None:
    """Do what an earlier run began in a repository and was kept from completing.

    Raises:
        GitError: it cannot be done now either.
    """
    steps = context.state.git.begun(root).get(repository.path)
    if steps is not None:
        _finish(context, root, repository, Arrival.from_json(steps), scratch)


def _finish(
    context: Context, root: Root, repository: Repository, arrival: Arrival, scratch: bytes
) -> list[GitError]:
    failed, errors = apply(repository, arrival, scratch)
    base = {name: value for name, value in arrival.base.items() if name not in failed}
    with context.state.transaction():
        context.state.git.record(root, repository.path, base)
        context.state.git.end(root, [repository.path])
    return errors


def apply(
    repository: Repository, arrival: Arrival, scratch: bytes
) -> tuple[set[bytes], list[GitError]]:
    """Do the steps. Returns the registers that did not get their value, and why.

    Raises:
        GitError: the index cannot be rewritten now.
    """
    failed, errors = _move_refs(repository, arrival.refs)
    program = repository.program
    if arrival.head is not None:
        old, new = arrival.head
        now = read_head(repository)
        branch = branch_of(new)
        if now == new:
            pass
        elif now != old or (branch in failed):
            failed |= {HEAD, INDEX}
        elif branch is not None:
            program.run("symbolic-ref", "-m", "tcfs: follow the fleet", "HEAD", branch)
        else:
            program.run("update-ref", "--no-deref", "-m", "tcfs: follow the fleet", "HEAD", new)
    if arrival.stash is not None:
        _set_stash(repository, *arrival.stash)
    if arrival.index is not None and INDEX not in failed:
        _set_index(repository, *arrival.index, scratch)
    return failed, errors


def read_head(repository: Repository) -> bytes:
    """The value of HEAD now."""
    with open(os.path.join(repository.git_dir, b"HEAD"), "rb") as file:
        return file.read(4200).strip()


def _move_refs(
    repository: Repository, steps: Sequence[tuple[bytes, Value, Value]]
) -> tuple[set[bytes], list[GitError]]:
    program = repository.program
    now: dict[bytes, bytes] = {}
    if steps:
        for line in program.run("for-each-ref", "--format=%(objectname) %(refname)").splitlines():
            oid, _, name = line.partition(b" ")
            now[name] = oid
    failed: set[bytes] = set()
    # What goes first makes room for a name below it, or above it.
    for going in (True, False):
        todo = []
        for name, old, new in steps:
            if (new is None) is not going or now.get(name) == new:
                continue
            if now.get(name) != old:
                failed.add(name)  # somebody moved it meanwhile
                continue
            todo.append((name, old, new))
        if not todo:
            continue
        if _transaction(repository, todo) is None:
            continue
        # One that git refuses must not keep the others.
        for step in todo:
            if _transaction(repository, [step]) is not None:
                failed.add(step[0])
    errors = [GitError(f"{show(name)} could not be moved") for name in sorted(failed)]
    return failed, errors


def _transaction(
    repository: Repository, steps: Sequence[tuple[bytes, Value, Value]]
) -> bytes | None:
    """Move refs, all or none. Returns git's complaint, None if they moved."""
    lines = []
    zero = b"0" * (64 if repository.config.get("extensions.objectformat") == "sha256" else 40)
    for name, old, new in steps:
        if new is None:
            lines.append(b"option no-deref\0delete " + name + b"\0" + (old or b"") + b"\0")
        else:
            lines.append(
                b"option no-deref\0update " + name + b"\0" + new + b"\0" + (old or zero) + b"\0"
            )
    status, _, err = repository.program.call(
        *("update-ref", "--create-reflog", "-m", "tcfs: follow the fleet", "--stdin", "-z"),
        stdin=b"".join(lines),
    )
    return err if status else None


def _set_stash(repository: Repository, old: Value, new: Value) -> None:
    """Make the stash hold these entries, newest first.

    Entries are taken from the top until only what both lists have below is left, then put there.
    A run that was cut off left the lower part of either list: that is gone on from.
    """
    program = repository.program
    now = stash_entries(repository.git_dir)
    was = old.split(b",") if old else []
    wanted = new.split(b",") if new else []
    if now == wanted:
        return
    if now != was[len(was) - len(now) :] and now != wanted[len(wanted) - len(now) :]:
        return  # somebody stashed or dropped something meanwhile
    shared = 0
    while shared < min(len(now), len(wanted)) and now[-1 - shared] == wanted[-1 - shared]:
        shared += 1
    if shared:
        for _ in range(len(now) - shared):
            program.run("reflog", "delete", "--updateref", "--rewrite", "refs/stash@{0}")
    elif now:
        program.run("stash", "clear")
    for oid in reversed(wanted[: len(wanted) - shared]):
        message = program.run("log", "-1", "--format=%s", "--end-of-options", oid).strip()
        program.run("stash", "store", "-q", "-m", message or b"stash", oid)


def _set_index(repository: Repository, old: Value, new: bytes, scratch: bytes) -> None:
    program = repository.program
    index = os.path.join(repository.git_dir, b"index")
    now = index_tree(program, index, scratch)
    if now != new:
        if old is not None and now != old:
            return  # somebody staged something meanwhile
        arguments = ("-i", "-m", new) if os.path.lexists(index) else (new,)
        program.run("read-tree", *arguments)
    elif not os.path.lexists(index):
        program.run("read-tree", new)
    if not has_filters(repository.config):
        # Only to spare the user's next `git status` the reading. What a filter would turn into
        # something else is for their git to look at.
        program.run("update-index", "-q", "--refresh", accept=(0, 1))


def follow(repository: Repository, wanted: Mapping[bytes, bytes], ours: bytes) -> None:
    """Make the refs below ``ours`` exactly these: what other devices have, held from gc."""
    program = repository.program
    now: dict[bytes, bytes] = {}
    for line in program.run("for-each-ref", "--format=%(objectname) %(refname)", ours).splitlines():
        oid, _, name = line.partition(b" ")
        now[name] = oid
    gone = sorted(name for name in now.keys() - wanted.keys() if not name.startswith(INCOMING))
    for lines in (
        [b"delete " + name + b"\n" for name in gone],
        [
            b"update " + name + b" " + oid + b"\n"
            for name, oid in sorted(wanted.items())
            if now.get(name) != oid
        ],
    ):
        if lines:
            program.call("update-ref", "--stdin", stdin=b"".join(lines))
