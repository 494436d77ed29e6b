"""An upstream prefix brought into a namespace, with its clocks; again, and only what is new.

Nothing on this disk is touched: versions are written into history, and pulls put them into place
like any others. The version that an import wrote for a path is the parent of the next one that it
writes there, and what the fleet did since is not: so edits here and there become a conflict.

An import that is cut off leaves what was committed. The next one finds it, and goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tcfs.content.ingest import SourceFile, StoredFile
from tcfs.errors import (
    AccessError,
    ConflictError,
    IntegrityError,
    LocalFileError,
    UsageError,
)
from tcfs.model.clock import VectorClock, merge
from tcfs.model.ids import NamespaceId, RelPath, VersionId
from tcfs.model.manifest import SyncManifest
from tcfs.model.paths import METADATA_DIR, join, parents, remote_path, show
from tcfs.store.base import ObjectMissing
from tcfs.sync.commit import Committer, Draft
from tcfs.sync.context import Context
from tcfs.sync.receive import receive
from tcfs.sync.upload import Upload
from tcfs.sync.upstream_import.formats import UpstreamManifest
from tcfs.sync.upstream_import.records import FIELD, Imported, latest, standing
from tcfs.sync.upstream_import.restore import LATEST, ImportReport, Restorer, add_problem

FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
BATCH_FILES: Final = 256
BATCH_BYTES: Final = 16 << 20
_GIT: Final = b".git"


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A file that is to be written into history, in the scratch directory."""

    path: RelPath
    scratch: bytes
    record: Imported
    parents: tuple[VersionId, ...]


class FleetImport:
    """One import into a namespace. Use once.

    Args:
        prefix: where in the namespace.
        dry_run: only tell.
    """

    def __init__(
        self,
        context: Context,
        restorer: Restorer,
        namespace: NamespaceId,
        prefix: RelPath,
        *,
        dry_run: bool,
    ) -> None:
        self._context = context
        self._restorer = restorer
        self._namespace = namespace
        self._prefix = prefix
        self._dry_run = dry_run
        self._report = ImportReport()
        self._made: set[RelPath] = set()
        self._number = 0
        self._scratch = os.fsencode(context.state.database.path.parent / "import-scratch")

    def tree(self) -> ImportReport:
        """Bring in every file of the index that is new, or newer than what was imported.

        Raises:
            AccessError: this device may not write.
            StoreError: the listing failed, or a store went away.
        """
        return self._run(self._restorer.index(self._report))

    def file(self, manifest_hash: str) -> ImportReport:
        """Bring in the file of one manifest, at the prefix or, if that is empty, where it says.

        Raises:
            AccessError: this device may not write.
            UsageError: it does not say where, and nobody else did.
            IntegrityError, ObjectMissing: there is no such manifest, or it is damaged.
        """
        path = b""
        if not self._prefix:
            manifest = self._restorer.manifest(manifest_hash)
            if not manifest.rel_path:
                raise UsageError(
                    "the manifest does not say which file it is of",
                    remedy="Say where it is to go, with --to.",
                )
            path = remote_path(manifest.rel_path.encode("utf-8", "surrogateescape"))
        return self._run(iter([(path, manifest_hash)]))

    def _run(self, wanted: Iterator[tuple[bytes, str]]) -> ImportReport:
        context, namespace = self._context, self._namespace
        receive(context, namespace)
        context.require_writer()
        own = context.state.history.heads(namespace).get(context.identity.device_id)
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.makedirs(self._scratch, mode=0o700)
        try:
            with Upload(context, namespace, own.seq + 1 if own else 1) as upload:
                committer = Committer(context, namespace, upload=upload)
                waiting: list[_Fetched] = []
                size = 0
                for raw, manifest_hash in wanted:
                    context.check_cancel()
                    found = self._guarded(raw, manifest_hash, committer)
                    if found is None:
                        continue
                    waiting.append(found)
                    size += os.path.getsize(found.scratch)
                    if len(waiting) >= BATCH_FILES or size >= BATCH_BYTES:
                        self._write(waiting, upload, committer)
                        waiting, size = [], 0
                self._write(waiting, upload, committer)
                committer.flush()
                self._report.segment = committer.last
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return self._report

    # Deciding

    def _guarded(self, raw: bytes, manifest_hash: str, committer: Committer) -> _Fetched | None:
        try:
            return self._decide(raw, manifest_hash, committer)
        except (IntegrityError, ObjectMissing, AccessError, ConflictError) as error:
            add_problem(self._report, raw, error)
            return None

    def _decide(self, raw: bytes, manifest_hash: str, committer: Committer) -> _Fetched | None:
        """What is to be written for a path; None if nothing is, or if it has been."""
        report, history = self._report, self._context.state.history
        path = self._place(raw)
        known = latest(history.of_path(self._namespace, path))
        if any(record.manifest_hash == manifest_hash for _, record in known):
            report.up_to_date += 1  # without reading its manifest
            return None
        manifest = self._restorer.manifest(manifest_hash)
        record = _record(manifest, manifest_hash)
        how, replaced = standing(record, known)
        if how in ("up_to_date", "older"):
            report.up_to_date += 1
            return None
        head = history.head(self._namespace, path)
        if manifest.clocks:
            report.clocks[show(raw)] = manifest.clocks
        same = next(
            (
                group
                for group in head.groups
                if group[0].manifest.kind == "file"
                and group[0].manifest.file_hash.hex() == manifest_hash
            ),
            None,
        )
        if same is None:
            self._check_place(path)
        if self._dry_run:
            report.files += 1
        elif same is not None:
            # The fleet has these bytes already: only what upstream said of them is new.
            there = same[0].manifest
            ids = tuple(dict.fromkeys((*(v.id for v in same), *replaced)))
            extra = {**there.extra, FIELD: record.to_json()}
            self._add(committer, replace(there, parents=ids, extra=extra))
            report.files += 1
        else:
            self._number += 1
            scratch = os.path.join(self._scratch, b"%d" % self._number)
            self._restorer.file(manifest_hash, scratch)
            report.files += 1
            report.bytes += os.path.getsize(scratch)
            if how == "conflict" or not set(head.ids) <= set(replaced):
                live = [v for v in head.siblings if v.manifest.kind != "tombstone"]
                if live:
                    report.conflicts.append(show(path))
            return _Fetched(path, scratch, record, replaced)
        return None

    def _place(self, raw: bytes) -> RelPath:
        """Where a path of upstream's goes. Raises IntegrityError."""
        path = remote_path(raw) if raw else RelPath(b"")
        # However they are spelt: a disk that ignores case would take them for its own.
        if {_GIT, METADATA_DIR} & set(path.lower().split(b"/")):
            raise IntegrityError(
                "it lies in a .git or .tcfs directory, whose files never travel one by one",
                remedy="Import into a directory: tcfs import SOURCE DIR",
            )
        return join(self._prefix, path) if path else self._prefix

    def _check_place(self, path: RelPath) -> None:
        """Raise ConflictError where the fleet has a directory there, or a file above."""
        history, namespace = self._context.state.history, self._namespace
        for place, kinds in ((path, ("dir",)), *((p, ("file", "symlink")) for p in parents(path))):
            if any(v.manifest.kind in kinds for v in history.head(namespace, place).siblings):
                raise ConflictError(
                    f"the fleet has a {kinds[0]} at {show(place)}",
                    remedy="Import to another place, with --to.",
                )

    # Writing

    def _write(self, fetched: list[_Fetched], upload: Upload, committer: Committer) -> None:
        files = self._context.host.files
        sources = [
            SourceFile(one.scratch, files.lstat(one.scratch), n) for n, one in enumerate(fetched)
        ]
        for answer in upload.store(sources):
            one = fetched[answer.ref]
            if not isinstance(answer, StoredFile):
                raise LocalFileError("a temporary file of ours cannot be read, or changed")
            try:
                self._draft(one, answer, committer)
            except AccessError as error:
                add_problem(self._report, one.path, error)
                self._report.files -= 1
        for one in fetched:
            with suppress(FileNotFoundError):
                os.unlink(one.scratch)

    def _draft(self, one: _Fetched, stored: StoredFile, committer: Committer) -> None:
        for directory in parents(one.path):
            self._directory(directory, committer)
        self._add(
            committer,
            SyncManifest(
                rel_path=one.path,
                kind="file",
                vclock=VectorClock(),
                parents=one.parents,
                written_by="",
                written_at=0,
                file_hash=stored.file_hash,
                file_size=stored.size,
                chunks=tuple(stored.chunks),
                mode=FILE_MODE,
                mtime_ns=min(one.record.written_at, LATEST) * 1_000_000_000,
                size_class=stored.size_class,
                extra={FIELD: one.record.to_json()},
            ),
        )

    def _directory(self, path: RelPath, committer: Committer) -> None:
        """Make a directory that the fleet does not have."""
        if path in self._made:
            return
        self._made.add(path)
        head = self._context.state.history.head(self._namespace, path)
        if head.absent:
            self._add(
                committer,
                SyncManifest(
                    rel_path=path,
                    kind="dir",
                    vclock=VectorClock(),
                    parents=head.ids,
                    written_by="",
                    written_at=0,
                    mode=DIRECTORY_MODE,
                ),
            )

    def _add(self, committer: Committer, manifest: SyncManifest) -> None:
        history = self._context.state.history
        found = (history.version(self._namespace, parent) for parent in manifest.parents)
        clock = merge(version.manifest.vclock for version in found if version is not None)
        committer.add([Draft("write", manifest, clock)])
        if committer.full:
            committer.flush()


def _record(manifest: UpstreamManifest, manifest_hash: str) -> Imported:
    record = Imported(
        manifest_hash,
        tuple(sorted(manifest.clocks.items())),
        manifest.written_by,
        manifest.written_at,
    )
    if not record.usable:
        raise IntegrityError("its vector clock is larger than any can be")
    return record
