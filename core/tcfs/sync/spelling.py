"""How the fleet's paths are spelt on this disk, where it takes several names for one.

``host.spelt`` does it; here is what the engine knows of it: on which hosts, below which roots, what
a user means by a path, and when a file that had to have a name of its own gets its true name back.
On hosts that keep names apart all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace
from msgspec.structs import replace as with_fields

from tcfs.errors import LocalFileError
from tcfs.host.base import FileSystem, Host
from tcfs.host.names import Names
from tcfs.host.spelt import SpeltFiles
from tcfs.model.ids import RelPath
from tcfs.model.paths import join, relative_to, show
from tcfs.model.plan import LocalChange, local_change
from tcfs.model.spelling import composed, folded, own_name, true_of_own
from tcfs.state.roots import Root
from tcfs.state.state import State
from tcfs.sync.durable import barrier, top_of
from tcfs.sync.results import Problem
from tcfs.sync.scan import local_entry

if TYPE_CHECKING:
    from tcfs.sync.context import Context
    from tcfs.sync.wanted import Wanted
    from tcfs.sync.workbench import Workbench

EXAMPLES = 5


def spelt(host: Host, state: State) -> Host:
    """The host with its names kept apart; itself if it does so anyway."""
    files = host.files
    if isinstance(files, SpeltFiles) or not (files.ignores_case or files.normalises_unicode):
        return host
    return replace(host, files=SpeltFiles(files, Names(state.spellings)), ahead=None)


def cover(context: Context, local: bytes) -> None:
    """This directory is worked in as a root: paths below it are spelt as in the fleet."""
    if isinstance(context.host.files, SpeltFiles):
        context.host.files.cover(local)


def listed(context: Context, path: bytes) -> bytes:
    """An absolute path as its disk lists it, however a user wrote it; a root as it is recorded."""
    files = context.host.files
    if not isinstance(files, SpeltFiles):
        return path
    found = files.listed(path)
    for root in context.state.roots.all():
        there = files.listed(root.local)
        if found == there or found.startswith(there + b"/"):
            return root.local + found[len(there) :]
    return found


def true_path(context: Context, local: bytes, path: RelPath) -> RelPath:
    """What a path of a root, spelt as on disk or as a user wrote it, is called in the fleet."""
    files = context.host.files
    if not isinstance(files, SpeltFiles) or not path:
        return path
    files.cover(local)
    return RelPath(files.true(local + b"/" + path)[len(local) + 1 :])


def true_paths(context: Context, local: bytes, path: RelPath) -> set[RelPath]:
    """All that a change which the system told of may be about: what is there, and what was."""
    files = context.host.files
    if not isinstance(files, SpeltFiles) or not path:
        return {path}
    there = true_path(context, local, path)
    directory, slash, name = there.rpartition(b"/")
    shown = files.shown(path.rpartition(b"/")[2])
    # A change of case leaves the old name's file gone, though the disk still answers to it.
    return {there, RelPath(directory + slash + shown)} if folded(shown) == folded(name) else {there}


def on_disk(files: FileSystem, path: bytes) -> bytes:
    """Where a path of a root is on disk, for programs that look by themselves."""
    if not isinstance(files, SpeltFiles):
        return path
    try:
        return files.at(path)
    except OSError:
        pass
    try:
        return files.planned(path)
    except OSError:
        return path


def as_on_disk(files: FileSystem) -> FileSystem:
    """The file system for paths from ``on_disk``, as programs see it."""
    return files.inner if isinstance(files, SpeltFiles) else files


def claim(context: Context, root: Root, paths: list[RelPath]) -> None:
    """Of names that Unicode writes in several ways, the fleet's stands for what the disk has.

    For paths that a pull is about to look at, unless the fleet or the base has the composed one.
    """
    files = context.host.files
    if not isinstance(files, SpeltFiles) or not files.composes:
        return
    history, bases = context.state.history, context.state.roots
    for path in paths:
        directory, slash, name = path.rpartition(b"/")
        if composed(name) == name or files.names.true(_below(root, directory), composed(name)):
            continue
        twin = RelPath(directory + slash + composed(name))
        if (
            bases.base_of(root, twin) is None
            and history.head(root.namespace, join(root.remote, twin)).absent
        ):
            files.names.record({_below(root, path): composed(name)})


def _below(root: Root, path: bytes) -> bytes:
    return root.local + b"/" + path if path else root.local


def own_names(context: Context, root: Root) -> list[tuple[RelPath, bytes]]:
    """Paths of a root that have a name of their own on this disk, and that name."""
    files = context.host.files
    if not isinstance(files, SpeltFiles):
        return []
    return sorted(
        (path, name)
        for path, name in _recorded(files, root)
        if name == own_name(path.rpartition(b"/")[2])
    )


def _recorded(files: SpeltFiles, root: Root) -> Iterator[tuple[RelPath, bytes]]:
    files.names.refresh()
    for absolute, name in files.names.all().items():
        path = relative_to(RelPath(absolute), RelPath(root.local))
        if path:
            yield path, name


def notices(context: Context, root: Root) -> tuple[str, ...]:
    """What got a name of its own since this was last asked, for people."""
    files = context.host.files
    if not isinstance(files, SpeltFiles):
        return ()
    given, files.names.given = files.names.given, {}
    found = [
        (path, name)
        for absolute, name in sorted(given.items())
        if (path := relative_to(RelPath(absolute), RelPath(root.local)))
    ]
    return _told(root, found)


def notices_of(context: Context, root: Root, prefix: RelPath) -> tuple[str, ...]:
    """What has a name of its own at and below a path, for people; the first of many."""
    found = own_names(context, root)
    return _told(root, [one for one in found if relative_to(one[0], prefix) is not None])


def _told(root: Root, found: list[tuple[RelPath, bytes]]) -> tuple[str, ...]:
    told = [notice(join(root.remote, path), name) for path, name in found[:EXAMPLES]]
    if len(found) > EXAMPLES:
        told.append(f"and {len(found) - EXAMPLES} more names like this")
    return tuple(told)


def notice(path: RelPath, name: bytes) -> str:
    """That a path is called otherwise on this disk, for people."""
    return (
        f"{show(path)} is called {show(name)} on this disk, which takes its name and another's "
        "for one; rename either of the two to end that"
    )


def hand_over(bench: Workbench, kept: list[RelPath], creations: list[Wanted]) -> None:
    """Directories of which the fleet changed nothing but the spelling keep what is not synced.

    They hold nothing else any more: what is synced in them is put there again.

    Args:
        kept: directories that the fleet has no more, and that were not empty.
        creations: what is to be on disk.
    """
    files, root = bench.files, bench.root
    if not isinstance(files, SpeltFiles) or not kept:
        return
    roots = bench.context.state.roots
    new = {folded(w.path): w.path for w in creations if w.kind == "dir" and w.found is None}
    for path in sorted(kept):
        target = new.get(folded(path))
        if target is None or not roots.base(root, path).keys() <= set(kept):
            continue
        # What is above it was handed over before.
        source = join(RelPath(target.rpartition(b"/")[0]), RelPath(path.rpartition(b"/")[2]))
        if source != target:
            change = partial(files.rename_new, bench.local(source), bench.local(target))
            try:
                bench.attempt(target, change)
            except OSError as error:
                bench.problem(path, f"cannot be renamed: {error.strerror or error}")
                continue
        roots.forget_base(root, [path])


def strays(
    context: Context, files: SpeltFiles, root: Root, paths: set[RelPath]
) -> list[tuple[RelPath, RelPath]]:
    """Of these paths, those that may stand on disk as another, and that other.

    What ``SpeltFiles`` gave a name of its own stands for itself if somebody took the plain one
    meanwhile. It takes that back, unless a crash comes first. Raises OSError.
    """
    found = list[tuple[RelPath, RelPath]]()
    history, bases = context.state.history, context.state.roots
    for path in sorted(paths):
        directory, slash, name = path.rpartition(b"/")
        other = RelPath(directory + slash + own_name(name))
        try:
            files.at(_below(root, other))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if (
            bases.base_of(root, other) is None
            and history.head(root.namespace, join(root.remote, other)).absent
        ):
            found.append((path, other))
    return found


def keep_seen(context: Context) -> None:
    """Remember what listings showed of names that nobody recorded. With the device's lock held."""
    if isinstance(context.host.files, SpeltFiles):
        context.host.files.names.keep_seen()


def settle(context: Context, root: Root) -> list[Problem]:
    """Give files their true names back where nothing is in the way any more.

    Call with the device's lock held, when a pull is done.

    Raises:
        LocalFileError: nobody knows whether what was renamed is safe.
    """
    files = context.host.files
    if not isinstance(files, SpeltFiles):
        return []
    keep_seen(context)
    problems, stale, own = list[Problem](), list[bytes](), list[tuple[RelPath, bool]]()
    # In order: the names of directories are part of those below them.
    for path, _ in sorted(_recorded(files, root)):
        absolute = _below(root, path)
        plain = files.shown(absolute.rpartition(b"/")[2])
        try:
            shown = files.shown(files.at(absolute).rpartition(b"/")[2])
        except (FileNotFoundError, NotADirectoryError):
            stale.append(absolute)
        except OSError:
            continue  # Nobody knows what is there: it is looked at when the next pull is done.
        else:
            if shown != plain:
                own.append((path, False))
            elif true_of_own(plain) is not None:
                own.append((path, True))
            elif absolute.endswith(b"/" + plain):
                stale.append(absolute)
    files.names.forget(stale)
    for path, away in own:
        try:
            (_rename_away if away else _rename_back)(context, files, root, path)
        except OSError as error:
            problems.append(
                Problem(
                    show(join(root.remote, path)),
                    LocalFileError.code,
                    f"cannot get another name: {error.strerror or error}",
                    "Run the command again; everything else was handled.",
                )
            )
    return problems


def _rename_back(context: Context, files: SpeltFiles, root: Root, path: RelPath) -> None:
    """Rename one that has a name of its own, if its true name is free. Raises OSError."""
    absolute = _below(root, path)
    target, place = files.plain_place(absolute), files.at(absolute)
    true = absolute.rpartition(b"/")[2]
    plain = files.shown(true)
    if target is None or (plain != true and true_of_own(place.rpartition(b"/")[2]) != true):
        return
    if plain != true:
        # From here on both names tell it.
        files.names.record({absolute: plain})
    _rename(context, files, root, path, (place, target))
    if plain == true:
        files.names.forget([absolute])


def _rename_away(context: Context, files: SpeltFiles, root: Root, path: RelPath) -> None:
    """Rename one that would be taken for another, if that were not there. Raises OSError."""
    absolute = _below(root, path)
    place = files.at(absolute)
    directory = place.rpartition(b"/")[0]
    own = own_name(absolute.rpartition(b"/")[2])
    try:
        _rename(context, files, root, path, (place, directory + b"/" + own))
    except FileExistsError:
        return  # It stays as it is while that is so.
    files.names.record({absolute: own})


def _rename(
    context: Context, files: SpeltFiles, root: Root, path: RelPath, names: tuple[bytes, bytes]
) -> None:
    """Rename on disk, durably; the base goes on knowing the file."""
    place, target = names
    before = files.inner.lstat(place)
    files.inner.rename_new(place, target)
    barrier(context.host.files, top_of(root))
    entry, known = local_entry(before), context.state.roots.base_of(root, path)
    if known is not None and local_change(known, entry) is LocalChange.NONE:
        stat = files.inner.lstat(target)
        if known.kind != "dir" and stat[:4] == before[:4] and stat.inode == before.inode:
            known = with_fields(known, ctime_ns=stat.ctime_ns)
            context.state.roots.refresh_base(root, [(path, known)])
