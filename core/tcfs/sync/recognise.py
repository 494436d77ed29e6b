"""Knowing the files on disk again after the state was lost: which version each of them is.

Without a base nothing can be taken for deleted or outdated: a file that another device deletes
would stay here, and come back with the next push. So a rebuilt index takes a file that holds
exactly what some version of its path held, mode included, for that version: the live one if there
is one, else the newest. Nothing is sent because of it, since content that equals its base is no
change; a path that is not on disk gets no base, so that nothing is taken for deleted here. What a
later pull may do is update or remove such a file, and its bytes are in the history: a version whose
content retention let go is not recognised. The stat is not trusted; content is compared again
before that.

Only ``rebuild-index`` may do so. Elsewhere a base says what this disk was given by a pull, or gave
by a push, and to guess it would hide an edit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import replace

from tcfs.errors import LocalFileError
from tcfs.model.clock import merge
from tcfs.model.event import Version
from tcfs.model.ids import RelPath
from tcfs.model.paths import ROOT, join
from tcfs.model.plan import BaseEntry, LocalEntry
from tcfs.state.roots import Root
from tcfs.sync import places
from tcfs.sync.commit import base_entry
from tcfs.sync.context import Context
from tcfs.sync.leftovers import hash_file
from tcfs.sync.operations import excluded
from tcfs.sync.scan import scan
from tcfs.sync.spelling import keep_seen

BATCH = 1000


def recognise(context: Context) -> int:
    """Give the files of every root that can be used their bases. Returns how many were known.

    A file that cannot be read is not recognised.
    """
    known = 0
    for root in context.state.roots.all():
        # A root that is not there has nothing to lose by having no base.
        with suppress(LocalFileError):
            known += _recognise_root(context, places.adopt(context, root))
    keep_seen(context)
    return known


def _recognise_root(context: Context, root: Root) -> int:
    known = 0
    batch: list[tuple[RelPath, BaseEntry]] = []
    for done, found in enumerate(_bases(context, root)):
        batch.append(found)
        if len(batch) == BATCH:
            context.report("recognise", done, 0, "files")
            context.state.roots.refresh_base(root, batch)
            known += len(batch)
            batch = []
    context.state.roots.refresh_base(root, batch)
    return known + len(batch)


def _bases(context: Context, root: Root) -> Iterator[tuple[RelPath, BaseEntry]]:
    scanned = scan(context.host.files, root.local, excluded(context, root), ROOT)
    for path, entry in scanned.entries.items():
        remote = join(root.remote, path)
        if not remote:
            continue
        try:
            base = _base_of(context, root, path, entry, remote)
        except OSError:
            continue
        if base is not None:
            yield path, base


def _base_of(
    context: Context, root: Root, path: RelPath, entry: LocalEntry, remote: RelPath
) -> BaseEntry | None:
    versions = [
        v
        for v in context.state.history.of_path(root.namespace, remote)
        if v.manifest.kind == entry.kind and (entry.kind != "file" or _fits(v, entry))
    ]
    if not versions:
        return None
    local = root.local + b"/" + path if path else root.local
    files = context.host.files
    digest = hash_file(files, local) if entry.kind == "file" else b""
    target = files.readlink(local) if entry.kind == "symlink" else b""
    mode = 0 if entry.kind == "symlink" else entry.mode
    content = (entry.kind, digest, mode, target)
    head = context.state.history.head(root.namespace, remote)
    group = head.group_of(content)
    if group is None:
        same = next((v for v in versions if v.manifest.content == content), None)
        if same is None or context.state.garbage.uncounted(root.namespace, same.manifest.chunks):
            return None
        group = (same,)
    clock = merge(v.manifest.vclock for v in group)
    if entry.kind != "dir":
        # With the disk's own time: another would look like a change of it, to be sent.
        entry = replace(entry, ctime_ns=0)
    return base_entry((v.id for v in group), group[0].manifest, entry, clock)


def _fits(version: Version, entry: LocalEntry) -> bool:
    return version.manifest.file_size == entry.size and version.manifest.mode == entry.mode
