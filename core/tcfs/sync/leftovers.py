"""After a pull that was cut off: intents tell what was to be on disk, content tells what is.

A path that holds what was intended is remembered as pulled; any other is pulled again. What a
swap displaced, and is not what the path had or was to have, is somebody's last-moment edit: it is
kept beside the tree. Everything else under a temporary name is rubbish.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Literal

from blake3 import blake3
from msgspec.structs import replace

from tcfs.errors import LocalFileError
from tcfs.host.base import FileSystem, Stat
from tcfs.host.spelt import SpeltFiles
from tcfs.model.ids import RelPath
from tcfs.model.paths import join, parents, relative_to, show
from tcfs.model.plan import BaseEntry
from tcfs.state.roots import Intended, Root
from tcfs.sync.context import Context
from tcfs.sync.results import Problem
from tcfs.sync.spelling import strays
from tcfs.sync.workbench import SPARE, Workbench, name_of_displaced


def none_left(context: Context, root: Root) -> bool:
    """Whether there is nothing to clean up in a root. Raises LocalFileError."""
    try:
        return not context.state.roots.intents(root) and not _places(Workbench(context, root))
    except OSError as error:
        raise _cannot_clean(root, error) from error


def recover(context: Context, root: Root) -> list[Problem]:
    """Clean up in a root. Call with the device's lock held.

    Returns what was kept, for the user to look at.

    Raises:
        LocalFileError: what was left cannot be looked at.
    """
    bench = Workbench(context, root)
    roots = context.state.roots
    intents = roots.intents(root)
    try:
        places = _places(bench)
        leftovers = [name for place in places for name in (place, *_list(bench.files, place))]
        if not intents and not leftovers:
            return []
        _remove_strays(bench, intents)
        done: list[tuple[RelPath, BaseEntry]] = []
        gone: list[RelPath] = []
        again: list[RelPath] = []
        for intent in intents:
            stat = bench.lstat(intent.path)
            if stat is None:
                (gone if intent.entry is None else again).append(intent.path)
            elif intent.entry is None or not _holds(bench, intent, intent.entry, stat):
                match _saved_since(bench, intent):
                    case "over it":
                        assert intent.entry is not None
                        done.append((intent.path, replace(intent.entry, ctime_ns=0)))
                    case "meanwhile":
                        gone.append(intent.path)
                    case None:
                        again.append(intent.path)
            else:
                if stat.kind == "dir":
                    # It may have been made, and not been given its rights.
                    bench.files.set_attributes(
                        bench.local(intent.path), mode=intent.entry.mode, mtime_ns=None
                    )
                    stat = bench.lstat(intent.path) or stat
                done.append((intent.path, _with_stat(intent.entry, stat)))
        _keep_edits(bench, places, leftovers, intents)
        if intents:
            bench.barrier()
        # Neither old nor new is there: the crash came between the two names of a replaced file.
        lost = [path for path in again if bench.lstat(path) is None]
        with context.state.transaction():
            # They stay to do: a conflict may stand there that this run would have remembered.
            roots.refresh_base(root, done)
            roots.drop_base(root, [*gone, *lost])
            # Something else may be meant to stand where a path was removed.
            roots.wait(root, again + gone)
            roots.clear_intents(root)
        for name in reversed(leftovers):
            _remove(bench.files, name)
    except OSError as error:
        raise _cannot_clean(root, error) from error
    return bench.problems


def _cannot_clean(root: Root, error: OSError) -> LocalFileError:
    return LocalFileError(
        f"cannot clean up after an earlier pull in {show(root.local)}: {error.strerror or error}"
    )


def _places(bench: Workbench) -> list[bytes]:
    """The directories of temporary names that there are.

    This device's, and those of members that were revoked: this machine may have had such an
    identity before, and whatever it left there would be looked at by nobody else.
    """
    if bench.single:
        found = [bench.temp]
    else:
        devices = bench.context.control.devices.values()
        former = {bench.temp_of(device.device_id) for device in devices if device.revoked}
        above = os.path.dirname(bench.temp)
        there = (above + b"/" + name for name, _ in _scan(bench.files, above))
        found = [place for place in there if place == bench.temp or place in former]
    return [place for place in found if _is_directory(bench.files, place)]


def _is_directory(files: FileSystem, path: bytes) -> bool:
    stat = _there(files, path)
    return stat is not None and stat.kind == "dir"


def _there(files: FileSystem, path: bytes) -> Stat | None:
    try:
        return files.lstat(path)
    except FileNotFoundError:
        return None


def _scan(files: FileSystem, directory: bytes) -> list[tuple[bytes, Stat]]:
    try:
        return sorted(files.scan(directory))
    except FileNotFoundError:
        return []


def _list(files: FileSystem, directory: bytes) -> list[bytes]:
    """Everything below a directory, each directory before its content."""
    found = []
    for name, stat in _scan(files, directory):
        path = directory + b"/" + name
        found.append(path)
        if stat.kind == "dir":
            found += _list(files, path)
    return found


def _remove(files: FileSystem, path: bytes) -> None:
    stat = _there(files, path)
    if stat is None:
        return
    if stat.kind == "dir":
        files.rmdir(path)
    else:
        files.unlink(path)


def _holds(bench: Workbench, intent: Intended, entry: BaseEntry, stat: Stat) -> bool:
    """Whether a path holds what was intended, because it was put there."""
    if not _holds_content(bench.files, bench.local(intent.path), stat, entry):
        return False
    known = bench.context.state.roots.base_of(bench.root, intent.path)
    held_before = known is None or (known.kind, known.file_hash, known.target) == (
        entry.kind,
        entry.file_hash,
        entry.target,
    )
    # Where the content was there already it proves nothing: only attributes were to change.
    return not held_before or _has_attributes(stat, entry)


def _holds_content(files: FileSystem, path: bytes, stat: Stat, entry: BaseEntry) -> bool:
    """Whether what is at a path has the kind and the content of a base."""
    return stat.kind == entry.kind and _content(files, path, stat) == _content_of(entry)


def _content(files: FileSystem, path: bytes, stat: Stat) -> bytes:
    """The hash of a file, the target of a link; nothing for what has no content of its own."""
    if stat.kind == "file":
        return hash_file(files, path)
    return files.readlink(path) if stat.kind == "symlink" else b""


def _content_of(entry: BaseEntry) -> bytes:
    """The same of a base."""
    return entry.file_hash if entry.kind == "file" else entry.target


def _saved_since(bench: Workbench, intent: Intended) -> Literal["over it", "meanwhile"] | None:
    """Whether what is at a path now came there after what it had was taken away.

    Then it is an edit, even if its bytes are those of before: of what was put there (``over it``),
    or of nobody knows what.
    """
    name = bench.temp + b"/" + name_of_displaced(intent.number, intent.path)
    files = bench.files
    swapped, moved_away = _there(files, name), _there(files, name + SPARE)
    if swapped is None and moved_away is None:
        return None
    if intent.entry is None or (swapped is not None and moved_away is not None):
        return "meanwhile"
    if swapped is not None and _holds_content(files, name, swapped, intent.entry):
        return None  # Nothing was taken away, or it was put back.
    displaced = swapped or moved_away
    assert displaced is not None
    # An edit that was displaced may be on its way back: then this one is, and it is of before.
    return "over it" if displaced.mtime_ns == intent.displaces else "meanwhile"


def _has_attributes(stat: Stat, entry: BaseEntry) -> bool:
    if entry.kind == "file":
        return (stat.mtime_ns, stat.mode) == (entry.mtime_ns, entry.mode)
    return entry.kind == "dir" or stat.mtime_ns == entry.mtime_ns


def _with_stat(entry: BaseEntry, stat: Stat) -> BaseEntry:
    """A base whose content was just compared with the disk; its stat counts if it is what we set.

    Otherwise it belongs to a later edit, and the next scan looks at it.
    """
    ours = entry.kind != "file" or (stat.size, stat.mtime_ns) == (entry.size, entry.mtime_ns)
    if not ours:
        return replace(entry, ctime_ns=0)
    return replace(
        entry,
        size=stat.size,
        mtime_ns=stat.mtime_ns,
        ctime_ns=stat.ctime_ns,
        inode=stat.inode,
    )


def _remove_strays(bench: Workbench, intents: list[Intended]) -> None:
    """Remove what was put on disk, and stands for a path that nobody wrote; see ``strays``.

    Only what is as it was put there: its bytes are in the store.
    """
    files = bench.files
    if not isinstance(files, SpeltFiles):
        return
    wanted = {intent.path: intent.entry for intent in intents if intent.entry is not None}
    paths = {above for path in wanted for above in (path, *parents(path))}
    for path, other in strays(bench.context, files, bench.root, paths):
        for below in sorted(paths, reverse=True):
            within = relative_to(below, path)
            if within is None:
                continue
            local, entry = bench.local(join(other, within)), wanted.get(below)
            stat = _there(files, local)
            if stat is None:
                continue
            if stat.kind == "dir":
                with suppress(OSError):  # what is somebody's is in it
                    files.rmdir(local)
            elif (
                entry is not None
                and _has_attributes(stat, entry)
                and _holds_content(files, local, stat, entry)
            ):
                files.unlink(local)


def _keep_edits(
    bench: Workbench, places: list[bytes], leftovers: list[bytes], intents: list[Intended]
) -> None:
    """Keep what was somebody's; what lies in a unit's directory are copies."""
    by_name = {name_of_displaced(intent.number, intent.path): intent for intent in intents}
    for name in list(leftovers):
        if os.path.dirname(name) not in places or bench.is_unit_place(name):
            continue
        intent = by_name.get(os.path.basename(name).removesuffix(SPARE))
        if not _may_be_an_only_copy(bench, name, intent):
            continue
        kept = bench.top + b"/recovered.conflict-" + os.path.basename(name)
        count = 1
        while True:
            try:
                bench.files.rename_new(name, kept)
                break
            except FileExistsError:
                count += 1
                kept = bench.top + b"/recovered.conflict-%s-%d" % (os.path.basename(name), count)
        within = name + b"/"
        leftovers[:] = [x for x in leftovers if x != name and not x.startswith(within)]
        bench.problems.append(
            Problem(
                show(kept),
                LocalFileError.code,
                "was being edited when an earlier pull was cut off, and was kept here",
                "Look at it, then move it where it belongs.",
            )
        )


def _may_be_an_only_copy(bench: Workbench, name: bytes, intent: Intended | None) -> bool:
    """Whether what was displaced is anything that the fleet does not know, or not of this path.

    What a path had, and nobody touched since, and what it was to have are let go. Other bytes may
    be in the history, and are an edit all the same. Without an intent this was let go before, and
    its name came back after a power loss; or the state was lost, and nobody knows: then it is kept
    if its bytes are new.

    Only files and symlinks are ever displaced on purpose. A directory took the place of one in the
    moment before, and is its user's with all that is in it.
    """
    history, namespace = bench.context.state.history, bench.root.namespace
    files = bench.files
    stat = files.lstat(name)
    if stat.kind not in ("file", "symlink"):
        return stat.kind == "dir" and bool(files.scan(name))
    content = _content(files, name, stat)
    knows = history.knows_content if stat.kind == "file" else history.knows_link
    known = knows(namespace, content)
    base = bench.context.state.roots.base_of(bench.root, intent.path) if intent else None
    if not known or intent is None or base is None:
        return not known
    accounted = [intent.entry]
    if stat.mtime_ns == intent.displaces:  # Else who saved it again meant it to stand.
        accounted.append(base)
    return not any(
        entry is not None and (entry.kind, _content_of(entry)) == (stat.kind, content)
        for entry in accounted
    )


def hash_file(files: FileSystem, path: bytes) -> bytes:
    """BLAKE3 of a local file. Raises OSError."""
    hasher = blake3()
    view = memoryview(bytearray(1 << 20))
    with files.open(path) as reader:
        while count := reader.readinto(view):
            hasher.update(view[:count])
    return hasher.digest()
