"""Directories that are enrolled: the daemon keeps them in sync.

Every directory that was ever pushed or pulled is a root in the state; enrolled are those that a
person named. They stand in ``roots.json`` beside the state, which survives a rebuilt index.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import orjson
from msgspec import Struct

from tcfs.errors import LocalFileError, NotFoundError, UsageError
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import ROOT, relative_to, show, unshow, user_path
from tcfs.state.roots import Root
from tcfs.sync import places
from tcfs.sync.context import Context
from tcfs.sync.ignore import exclusion
from tcfs.sync.private_files import read_private, write_private
from tcfs.sync.results import KeptRootInfo

FILE: Final = "roots.json"


class KeptRoot(Struct, frozen=True):
    """One enrolled directory, and what of it is left out beside what the configuration says."""

    local: bytes
    namespace: NamespaceId
    remote: RelPath
    exclude: tuple[str, ...] = ()

    def is_of(self, root: Root) -> bool:
        """Whether this is the enrolment of a root."""
        return (self.local, self.namespace, self.remote) == (
            root.local,
            root.namespace,
            root.remote,
        )


def load(context: Context) -> tuple[KeptRoot, ...]:
    """What is enrolled, by local path. Raises LocalFileError."""
    path = _file(context)
    data = read_private(path)
    if data is None:
        return ()
    try:
        return tuple(_parse(item) for item in orjson.loads(data)["roots"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise LocalFileError(
            f"{path} is damaged",
            remedy="Restore it from a backup, or remove it and enroll again: tcfs root add DIR",
        ) from None


def excludes(context: Context, root: Root) -> tuple[str, ...]:
    """The patterns that were given when a root was enrolled."""
    for kept in load(context):
        if kept.is_of(root):
            return kept.exclude
    return ()


def _file(context: Context) -> Path:
    return context.state.database.path.with_name(FILE)


def _parse(item: dict[str, Any]) -> KeptRoot:
    return KeptRoot(
        unshow(item["local"]),
        NamespaceId(item["namespace"]),
        RelPath(unshow(item["remote"])),
        tuple(str(pattern) for pattern in item["exclude"]),
    )


def _save(context: Context, roots: Iterable[KeptRoot]) -> None:
    items = [
        {
            "local": show(root.local),
            "namespace": root.namespace,
            "remote": show(root.remote),
            "exclude": list(root.exclude),
        }
        for root in sorted(roots, key=lambda root: root.local)
    ]
    write_private(_file(context), orjson.dumps({"roots": items}, option=orjson.OPT_INDENT_2))


class RootDesk:
    """What can be done with enrolled directories. ``working`` takes the device's lock."""

    def __init__(
        self, context: Context, working: Callable[[], AbstractContextManager[Context]]
    ) -> None:
        self._context = context
        self._working = working

    def list(self) -> tuple[KeptRootInfo, ...]:
        """Every enrolled directory, the configured sync root first."""
        context = self._context
        return tuple(self._info(context, kept) for kept in everything(context))

    def add(self, path: bytes, *, as_remote: str = "", exclude: Iterable[str] = ()) -> KeptRootInfo:
        """Enroll a directory; the same again takes the new patterns. Nothing is moved yet.

        Raises:
            UsageError: no directory, or its files would be kept twice on this device.
            LocalFileError: its identity marker cannot be written.
        """
        patterns = tuple(exclude)
        with self._working() as context:
            exclusion(patterns, hidden_dirs=True, git_dirs=True)  # refuses what means nothing
            # Enrolled is the directory itself, wherever a symlink's name for it may lead one day.
            local = places.located(context, path + b"/")
            if not places.is_directory(context, local):
                raise UsageError(f"{show(local)} is not a directory", remedy="Check the path.")
            if as_remote:
                namespace, remote = places.parse(context, as_remote)
            else:
                namespace, remote = context.namespace, user_path(os.path.basename(local))
            made = KeptRoot(local, namespace, remote, patterns)
            others = [kept for kept in load(context) if kept.local != local]
            for other in everything(context):
                if other.local != local:
                    _refuse_overlap(context, made, other)
                elif (other.namespace, other.remote) != (namespace, remote):
                    raise UsageError(
                        f"{show(local)} is enrolled already, as "
                        f"{places.remote_text(context, other.namespace, other.remote)}",
                        remedy="Take it out first with: tcfs root remove DIR",
                    )
            context.keys(namespace)
            places.adopt(context, root_of(context, made))
            _save(context, [*others, made])
            return self._info(context, made)

    def remove(self, path: bytes) -> KeptRootInfo:
        """Keep a directory in sync no longer. Its files, and what is known of them, stay.

        Raises:
            NotFoundError: it is not enrolled.
        """
        with self._working() as context:
            local = places.located(context, path)
            resolved = places.located(context, path + b"/")
            roots = load(context)
            found = next((kept for kept in roots if kept.local in (local, resolved)), None)
            if found is None:
                raise NotFoundError(
                    f"{show(local)} is not enrolled", remedy="See what is with: tcfs root list"
                )
            info = self._info(context, found)
            _save(context, [kept for kept in roots if kept is not found])
            return info

    def _info(self, context: Context, kept: KeptRoot) -> KeptRootInfo:
        root = root_of(context, kept)
        return KeptRootInfo(
            local=show(kept.local),
            remote=places.remote_text(context, kept.namespace, kept.remote),
            exclude=kept.exclude,
            is_sync_root=is_sync_root(context, kept),
            present=places.is_directory(context, kept.local),
            tracked=context.state.roots.base_count(root) if root.id else 0,
        )


def everything(context: Context) -> tuple[KeptRoot, ...]:
    """What the daemon keeps in sync: the configured sync root, and what is enrolled."""
    kept = load(context)
    if context.config.sync.sync_root is None:
        return kept
    root = places.sync_root(context)
    if any(one.is_of(root) for one in kept):
        return kept
    return (KeptRoot(root.local, root.namespace, root.remote), *kept)


def is_sync_root(context: Context, kept: KeptRoot) -> bool:
    """Whether this is the configured sync root."""
    return context.config.sync.sync_root is not None and kept.is_of(places.sync_root(context))


def root_of(context: Context, kept: KeptRoot) -> Root:
    """The root in the state, or a new one with id 0."""
    for root in context.state.roots.all():
        if kept.is_of(root):
            return root
    return Root(0, kept.local, kept.namespace, kept.remote, "", 0, 0, 0)


def _refuse_overlap(context: Context, made: KeptRoot, other: KeptRoot) -> None:
    """Refuse to keep the same files twice on this device."""
    names = show(made.local), show(other.local)
    if _overlap(RelPath(made.local), RelPath(other.local)):
        raise UsageError(
            f"{names[0]} and {names[1]} lie in one another",
            remedy="Enroll one of them, or leave one out with --exclude.",
        )
    if made.namespace == other.namespace and _overlap(made.remote, other.remote):
        remote = places.remote_text(context, other.namespace, other.remote)
        raise UsageError(
            f"{names[1]} holds {remote} on this device already: the same files would be here twice",
            remedy="Give the directory another place with --as REMOTE, or move it into that one.",
        )


def _overlap(one: RelPath, other: RelPath) -> bool:
    return (
        one == ROOT
        or other == ROOT
        or relative_to(one, other) is not None
        or relative_to(other, one) is not None
    )
