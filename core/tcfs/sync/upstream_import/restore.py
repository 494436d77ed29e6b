"""Upstream's files, checked and put on disk."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tcfs.errors import CancelledError, IntegrityError, LocalFileError, TcfsError, UsageError
from tcfs.model.paths import remote_path, show
from tcfs.store.base import ObjectMissing
from tcfs.sync.results import Problem
from tcfs.sync.upstream_import.formats import (
    UpstreamManifest,
    open_chunk,
    parse_index_entry,
    parse_manifest,
    unwrap_key,
)
from tcfs.sync.upstream_import.objects import UpstreamObjects

WORKERS: Final = 8
_NAMES: Final = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_AHEAD: Final = 64
"""Chunks that are fetched ahead of the one that is written."""
_SHOWN: Final = 1000
_INDEX: Final = "index/"
LATEST: Final = 253_402_300_799
"""The last second of the year 9999: what every file system can be asked for."""


@dataclass(slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        files, bytes: that were put on disk, or written into history.
        clocks: upstream's vector clock of each file, by path; a version 1 manifest has none.
        up_to_date: how many the fleet had from an earlier import.
        conflicts: paths that the fleet has edited, or got elsewhere: both versions stand.
        segment: the last one that was committed.
        problems: what could not be read, by path; the first thousand.
        problem_count: how many there were.
    """

    files: int = 0
    bytes: int = 0
    clocks: dict[str, dict[str, int]] = field(default_factory=dict)
    up_to_date: int = 0
    conflicts: list[str] = field(default_factory=list)
    segment: str = ""
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0


class Restorer:
    """Reads files of an upstream prefix. Use as a context manager.

    Args:
        objects: of the prefix.
        master_key: 32 bytes, or empty where nothing is encrypted.
        cancelled: asked between chunks.
    """

    def __init__(
        self,
        objects: UpstreamObjects,
        master_key: bytes = b"",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._objects = objects
        self._master = master_key
        self._cancelled = cancelled
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="import")

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def tree(self, target: bytes) -> ImportReport:
        """Put every file of the index below ``target``, an absent or empty directory.

        A file that cannot be read is a problem of the report; nothing of it stays.

        Raises:
            UsageError: ``target`` is not empty.
            LocalFileError: the disk refused.
            StoreError: the listing failed, or the store went away.
        """
        with _local(target):
            os.makedirs(target, exist_ok=True)
            if os.listdir(target):
                raise UsageError(
                    f"{show(target)} is not empty", remedy="Name a new directory to import into."
                )
        report = ImportReport()
        for raw, wanted in self.index(report):
            try:
                path = remote_path(raw)
                manifest = self._write(wanted, os.path.join(target, path), top=target)
            except (IntegrityError, ObjectMissing) as error:
                add_problem(report, raw, error)
                continue
            except LocalFileError as error:
                # A file where another path has a directory, or a name too long for this disk.
                if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _NAMES:
                    raise
                add_problem(report, raw, error)
                continue
            report.files += 1
            report.bytes += os.path.getsize(os.path.join(target, path))
            if manifest.clocks:
                report.clocks[show(raw)] = manifest.clocks
        return report

    def index(self, report: ImportReport) -> Iterator[tuple[bytes, str]]:
        """Path and manifest of every file of the index; what cannot be read is a problem.

        Raises:
            StoreError: the listing failed, or the store went away.
        """
        for name in self._objects.names(_INDEX):
            raw = name.removeprefix(_INDEX).encode("utf-8", "surrogateescape")
            if not raw or raw.endswith(b"/"):
                continue  # what consoles leave behind for a directory
            try:
                wanted = parse_index_entry(self._objects.read(name), name)
            except (IntegrityError, ObjectMissing) as error:
                add_problem(report, raw, error)
            else:
                yield raw, wanted

    def manifest(self, manifest_hash: str) -> UpstreamManifest:
        """One manifest. Raises IntegrityError, ObjectMissing, StoreError."""
        name = f"manifests/{manifest_hash}"
        return parse_manifest(self._objects.read(name), name)

    def file(self, manifest_hash: str, target: bytes) -> UpstreamManifest:
        """Put the file of one manifest at ``target``, where nothing is yet.

        Raises:
            IntegrityError, ObjectMissing: it cannot be read; nothing stays.
            LocalFileError: the disk refused, or something is there.
        """
        return self._write(manifest_hash, target, top=os.path.dirname(target) or b".")

    def _write(self, manifest_hash: str, path: bytes, *, top: bytes) -> UpstreamManifest:
        from blake3 import blake3

        name = f"manifests/{manifest_hash}"
        manifest = self.manifest(manifest_hash)
        hasher = blake3()
        size = 0
        temp = os.path.join(top, b".tcfs-import-%s" % manifest_hash[:16].encode())
        with _local(path):
            os.makedirs(os.path.dirname(path) or b".", exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temp, flags, 0o600)
        try:
            with _local(path), open(fd, "wb") as file:
                for data in self._chunks(manifest, manifest_hash):
                    hasher.update(data)
                    size += len(data)
                    file.write(data)
            if hasher.hexdigest() != manifest_hash or manifest.size not in (-1, size):
                raise IntegrityError(f"the content is not what {name} says")
            with _local(path):
                os.chmod(temp, 0o644)
                if manifest.written_at:
                    when = min(manifest.written_at, LATEST)
                    os.utime(temp, (when, when))
                os.link(temp, path)  # never in the place of what is there
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temp)
        return manifest

    def _chunks(self, manifest: UpstreamManifest, file_hash: str) -> Iterator[bytes]:
        """The bytes of each chunk in order; some are fetched ahead."""
        key = b""
        if manifest.wrapped_key:
            if not self._master:
                raise IntegrityError(
                    "it is encrypted",
                    remedy="Name the file of upstream's master key with --master-key-file.",
                )
            key = unwrap_key(manifest.wrapped_key, self._master, f"file {file_hash}")
        waiting: deque[Future[bytes]] = deque()
        left = iter(enumerate(manifest.chunks))
        try:
            while True:
                while len(waiting) < _AHEAD and (following := next(left, None)) is not None:
                    waiting.append(self._pool.submit(self._chunk, *following, key, file_hash))
                if not waiting:
                    return
                if self._cancelled():
                    raise CancelledError("the import was stopped")
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _chunk(self, number: int, chunk: str, key: bytes, file_hash: str) -> bytes:
        from blake3 import blake3

        name = f"chunks/{chunk}"
        stored = self._objects.read(name)
        if key:
            # Sealed with its place and file as additional data: that it opens says enough.
            return open_chunk(key, stored, number, bytes.fromhex(file_hash), name)
        if blake3(stored).hexdigest() != chunk:
            raise IntegrityError(f"{name} is damaged")
        return stored


def add_problem(report: ImportReport, path: bytes, error: TcfsError) -> None:
    report.problem_count += 1
    if len(report.problems) < _SHOWN:
        report.problems.append(Problem(show(path), error.code, error.message, error.remedy))


class _local:
    """Turns OSError into LocalFileError with the path."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise LocalFileError(f"cannot write {show(self._path)}: {error.strerror}") from error
