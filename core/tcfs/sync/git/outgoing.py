"""Objects on their way out: bundles of what the fleet lacks, as content of the ledger.

Whoever writes a version of a register writes, in the same segment, a bundle with the objects it
names that no live register named before: what stands in the fleet can always be had from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tcfs.content.ingest import SourceFile, StoredFile
from tcfs.errors import LocalFileError
from tcfs.model.clock import VectorClock
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.sync.commit import Draft
from tcfs.sync.context import Context
from tcfs.sync.git import bundle, registers
from tcfs.sync.git.names import BUNDLES, INCOMING, STASH, path_of
from tcfs.sync.git.registers import Remote
from tcfs.sync.git.repository import Repository
from tcfs.sync.upload import Upload

FULL_AFTER: Final = 50
"""Incremental bundles after which a full one takes their place."""
SMALL: Final = 1 << 20
"""Bytes of incremental bundles that never call for a full one."""


def bundle_drafts(
    context: Context,
    namespace: NamespaceId,
    repository: Repository,
    remote: Remote,
    named: Sequence[tuple[bytes, bytes]],
    upload: Upload,
    scratch: bytes,
    *,
    full: bool,
) -> list[Draft]:
    """A bundle of these (register, object id) without what the fleet has; none if it has all.

    Args:
        full: now and then, a full one that takes the place of all others.
    """
    program = repository.program
    sha256 = repository.config.get("extensions.objectformat") == "sha256"
    path = os.path.join(scratch, b"bundle")

    def draft(info: bundle.BundleInfo) -> Draft:
        stored = store_scratch(context, upload, path)
        device = context.identity.device_id
        count = context.state.history.counter(namespace, device) + 1
        name = BUNDLES + f"{device}-{count}".encode()
        extra = registers.bundle_extra(info)
        return file_draft(context, namespace, remote.repository, name, stored, (), extra)

    known = remote.oids() if remote.bundles else set()
    fresh = [pair for pair in named if pair[1] not in known]
    drafts: list[Draft] = []
    if fresh:
        have = bundle.present(program, known)
        info = bundle.make(program, _refs(fresh), have, path, sha256=sha256)
        if info is not None:
            drafts.append(draft(info))
    if not full or not _time_for_a_full_one(remote):
        return drafts
    everything = {oid for _, oid in named} | remote.oids()
    if bundle.present(program, everything) != everything:
        return drafts  # not all of it has arrived here
    others = everything - {oid for _, oid in named}
    info = bundle.make(
        program, _refs([*named, *((b"", oid) for oid in sorted(others))]), (), path, sha256=sha256
    )
    if info is None:
        return drafts
    return [draft(info), *(deletion(version) for version in remote.bundles.values())]


def _refs(named: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The refs that a bundle's header lists: those that are one, and a name for every other."""
    return [
        (name if name.startswith(b"refs/") and name != STASH else INCOMING + oid, oid)
        for name, oid in named
    ]


def _time_for_a_full_one(remote: Remote) -> bool:
    full = incremental = count = 0
    for version in remote.bundles.values():
        info = registers.bundle_info(version)
        if info is not None and not info.needs:
            full = max(full, version.manifest.file_size)
        else:
            incremental += version.manifest.file_size
            count += 1
    return count >= FULL_AFTER or incremental > max(2 * full, SMALL)


def file_draft(
    context: Context,
    namespace: NamespaceId,
    repository: RelPath,
    name: bytes,
    stored: StoredFile,
    parents: tuple[VersionId, ...],
    extra: Mapping[str, Any] | None = None,
) -> Draft:
    """A file of a repository's that stands on no disk."""
    manifest = SyncManifest(
        rel_path=path_of(repository, name),
        kind="file",
        vclock=VectorClock(),
        parents=parents,
        written_by="",
        written_at=0,
        file_hash=stored.file_hash,
        file_size=stored.size,
        chunks=tuple(stored.chunks),
        mode=0o644,
        mtime_ns=int(context.host.clock.now()) * 1_000_000_000,
        size_class=stored.size_class,
        extra=extra or {},
    )
    return Draft("write", manifest, registers.clock_of(context, namespace, parents))


def deletion(version: Version) -> Draft:
    """The end of a bundle or report."""
    gone = SyncManifest(
        rel_path=version.manifest.rel_path,
        kind="tombstone",
        vclock=VectorClock(),
        parents=(version.id,),
        written_by="",
        written_at=0,
    )
    return Draft("delete", gone, version.manifest.vclock)


def store_scratch(context: Context, upload: Upload, path: bytes) -> StoredFile:
    """Store a scratch file's content and remove the file.

    Raises:
        LocalFileError: it cannot be read.
    """
    try:
        for answer in upload.store([SourceFile(path, context.host.files.lstat(path), 0)]):
            if isinstance(answer, StoredFile):
                return answer
    except OSError as error:
        raise LocalFileError(f"cannot read beside the state: {error.strerror}") from error
    finally:
        if os.path.lexists(path):
            os.unlink(path)
    raise LocalFileError("a temporary file of ours changed while it was read")
