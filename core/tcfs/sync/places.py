"""Which local path belongs where: roots, their identity markers, and remote names.

A directory that is synced carries ``.tcfs/root`` with a random id. If the marker is gone, the
directory is not the one that was synced - an unmounted disk, say - and nothing is concluded from
what it does not hold.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from msgspec import Struct

from tcfs.errors import LocalFileError, UsageError
from tcfs.host.base import Stat
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import (
    METADATA_DIR,
    ROOT,
    join,
    parse_remote,
    relative_to,
    show,
    unshow,
    user_path,
)
from tcfs.state.roots import Root
from tcfs.sync.context import Context
from tcfs.sync.spelling import listed, true_path

MARKER: Final = METADATA_DIR + b"/root"


class Place(Struct, frozen=True):
    """A local path as part of a root. ``prefix`` is relative to the root."""

    root: Root
    prefix: RelPath

    @property
    def remote(self) -> RelPath:
        """The path within the namespace."""
        return join(self.root.remote, self.prefix)


def absolute(path: bytes) -> bytes:
    """The path with every symlink above its last component resolved.

    The last component stays: a symlink is pushed as a symlink. A trailing slash follows it.
    """
    full = os.path.abspath(path)
    if path.endswith((b"/", b"/.")) or os.path.basename(full) in (b"", b".", b".."):
        return os.path.realpath(full)
    directory, name = os.path.split(full)
    return os.path.join(os.path.realpath(directory), name)


def located(context: Context, path: bytes) -> bytes:
    """``absolute``, and as the disk lists it where it takes several names for one."""
    return listed(context, absolute(path))


def remote_text(context: Context, namespace: NamespaceId, path: RelPath) -> str:
    """``remote/namespace/path`` for people."""
    name = context.config.storage.remote_name
    return f"{name}/{namespace}/{show(path)}" if path else f"{name}/{namespace}"


def parse(context: Context, remote: str) -> tuple[NamespaceId, RelPath]:
    """What a user wrote for a place in the fleet, or gives back as it was shown.

    Raises:
        UsageError: it is not allowed.
    """
    return parse_remote(
        unshow(remote), remote_name=context.config.storage.remote_name, namespace=context.namespace
    )


def sync_root(context: Context) -> Root:
    """The configured sync root. Raises UsageError if none is configured."""
    configured = context.config.sync.sync_root
    if configured is None:
        raise UsageError(
            "no path was given and no sync root is configured",
            remedy="Give a path, or set sync.sync_root (TCFS_SYNC_SYNC_ROOT).",
        )
    local = located(context, os.fsencode(configured) + b"/")
    return _find(context, local, context.namespace, ROOT) or Root(
        0, local, context.namespace, ROOT, "", 0, 0, 0
    )


def locate(context: Context, path: bytes, as_remote: str = "") -> Place:
    """Where a local path belongs.

    A path inside the sync root, or inside what was pushed or pulled before, keeps its relative
    path there; the deepest such root counts. Another goes under its base name. ``as_remote``
    overrides both. The root may be new: ``adopt`` records it.

    Raises:
        UsageError: the path has no name to go under, or ``as_remote`` is not allowed.
    """
    local = located(context, path)
    if as_remote:
        namespace, remote = parse(context, as_remote)
        found = _find(context, local, namespace, remote)
        return Place(found or Root(0, local, namespace, remote, "", 0, 0, 0), ROOT)
    candidates = [r for r in context.state.roots.all() if r.namespace == context.namespace]
    if context.config.sync.sync_root is not None:
        candidates.append(sync_root(context))
    best: Place | None = None
    for root in candidates:
        rest = relative_to(RelPath(local), RelPath(root.local))
        if rest is not None and (best is None or len(root.local) > len(best.root.local)):
            best = Place(root, rest)
    if best is not None:
        best = Place(best.root, true_path(context, best.root.local, best.prefix))
        if best.prefix:
            user_path(best.prefix)
        return best
    name = os.path.basename(local)
    remote = user_path(name)
    return Place(Root(0, local, context.namespace, remote, "", 0, 0, 0), ROOT)


def place_of(context: Context, namespace: NamespaceId, remote: RelPath) -> Place | None:
    """The local place of a remote path, in the deepest root that holds it; None if in none."""
    best: Place | None = None
    for root in context.state.roots.all():
        rest = relative_to(remote, root.remote)
        if root.namespace == namespace and rest is not None:
            deeper = best is None or len(root.remote) > len(best.root.remote)
            best = Place(root, rest) if deeper else best
    return best


def _find(context: Context, local: bytes, namespace: NamespaceId, remote: RelPath) -> Root | None:
    for root in context.state.roots.all():
        if (root.local, root.namespace, root.remote) == (local, namespace, remote):
            return root
    return None


def adopt(context: Context, root: Root) -> Root:
    """Check a root's identity; record it, with its marker, if it is new.

    Raises:
        LocalFileError: the root is gone, or is not the directory that was synced.
    """
    if root.id:
        _check(context, root)
        return root
    stat = _lstat(context, root.local)
    if stat.kind != "dir":
        return context.state.roots.add(root.local, root.namespace, root.remote)
    marker = _mark(context, root.local)
    return context.state.roots.add(
        root.local,
        root.namespace,
        root.remote,
        marker=marker,
        device=0 if marker else stat.device,
        inode=0 if marker else stat.inode,
    )


def _check(context: Context, root: Root) -> None:
    if not root.marker and not root.inode:
        # A single file has no marker: its directory being there is what can be known.
        _lstat(context, os.path.dirname(root.local))
        return
    stat = _lstat(context, root.local)
    same = (
        _read_marker(context, root.local) == root.marker
        if root.marker
        else (stat.device, stat.inode) == (root.device, root.inode)
    )
    if stat.kind != "dir" or not same:
        raise LocalFileError(
            f"{show(root.local)} is not the directory that was synced: its identity marker is "
            "missing or another's",
            remedy="Mount the right disk and run the command again. If the directory was "
            "replaced on purpose, say so with: tcfs pull REMOTE DIR after removing .tcfs in it.",
        )


def _lstat(context: Context, path: bytes) -> Stat:
    try:
        return context.host.files.lstat(path)
    except FileNotFoundError:
        raise LocalFileError(
            f"{show(path)} does not exist",
            remedy="If it is on a disk that is not mounted, mount it and run the command again. "
            "To have it back from the fleet: tcfs pull REMOTE DIR",
        ) from None
    except OSError as error:
        raise LocalFileError(f"cannot look at {show(path)}: {error.strerror}") from error


def _read_marker(context: Context, local: bytes) -> str:
    try:
        with context.host.files.open(local + b"/" + MARKER) as reader:
            return reader.read(128).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise LocalFileError(
            f"cannot read the identity marker of {show(local)}: {error.strerror}"
        ) from error


def _mark(context: Context, local: bytes) -> str:
    """The marker of a directory, made if there is none; empty where none can be written."""
    known = _read_marker(context, local)
    if known:
        # A run that was cut off may have written it, and the power may fail yet.
        _barrier(context, local)
        return known
    files = context.host.files
    marker = context.host.entropy.token(16).hex()
    try:
        make_directory(context, local + b"/" + METADATA_DIR)
        files.write_new(
            local + b"/" + MARKER,
            [marker.encode() + b"\n"],
            0o600,
            int(context.host.clock.now() * 1e9),
        )
        files.barrier(local)
    except FileExistsError:
        _barrier(context, local)
        return _read_marker(context, local)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            # A read-only tree can be pushed all the same; its inode has to do.
            return ""
        raise LocalFileError(
            f"cannot write the identity marker of {show(local)}: {error.strerror}"
        ) from error
    return marker


def _barrier(context: Context, local: bytes) -> None:
    try:
        context.host.files.barrier(local)
    except OSError as error:
        raise LocalFileError(
            f"the identity marker of {show(local)} may not be safe: {error.strerror}"
        ) from error


def make_directory(context: Context, path: bytes) -> None:
    """Make a directory of ours if it is not there. Raises OSError."""
    try:
        context.host.files.mkdir(path, 0o700)
    except FileExistsError:
        if context.host.files.lstat(path).kind != "dir":
            raise


def exists(context: Context, path: bytes) -> bool:
    """Whether anything is there."""
    try:
        context.host.files.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_directory(context: Context, path: bytes) -> bool:
    """Whether a directory is there."""
    try:
        return context.host.files.lstat(path).kind == "dir"
    except (FileNotFoundError, NotADirectoryError):
        return False


def make_parents(context: Context, path: bytes) -> None:
    """Make the directories above a path that are not there. Raises OSError."""
    missing = []
    parent = os.path.dirname(path)
    while parent != os.path.dirname(parent) and not is_directory(context, parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        context.host.files.mkdir(directory)
