"""An import as one call: what is named, with this device's settings and credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcfs.errors import UsageError
from tcfs.model.paths import ROOT
from tcfs.store.endpoint import Endpoint, parse_endpoint
from tcfs.sync import places
from tcfs.sync.context import Context
from tcfs.sync.facade import Cancel, ProgressFn
from tcfs.sync.private_files import read_private
from tcfs.sync.stores import configured_endpoint, store_options
from tcfs.sync.upstream_import.formats import KEY_SIZE, checked_hash
from tcfs.sync.upstream_import.objects import open_objects
from tcfs.sync.upstream_import.restore import ImportReport, Restorer

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig

Working = Callable[[ProgressFn | None, Cancel | None], AbstractContextManager[Context]]

_MANIFESTS = "/manifests/"


def import_upstream(
    loaded: LoadedConfig,
    source: str,
    target: bytes,
    *,
    master_key_file: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ImportReport:
    """Read an upstream prefix, or one file of it, onto the disk.

    Args:
        source: ``s3://bucket/prefix`` on the configured S3 server (Amazon's, if there is none),
            the URL of another server with both, or ``file:///dir`` of a copy. One that ends in
            ``/manifests/HASH`` names the file of that manifest.
        target: an absent or empty directory; for one file, its path, where nothing is yet.
        master_key_file: upstream's master key: 32 bytes, or 64 hex digits, mode 0600.

    Raises:
        UsageError: the source, target or key is not what it must be.
        TcfsError: see ``Restorer``.
    """
    with _opened(loaded, source, master_key_file, cancelled) as (restorer, manifest):
        if not manifest:
            return restorer.tree(target)
        found = restorer.file(manifest, target)
        clocks = {found.rel_path: found.clocks} if found.clocks else {}
        return ImportReport(files=1, bytes=os.path.getsize(target), clocks=clocks)


class UpstreamDesk:
    """The door to imports into the fleet: ``fleet.upstream``.

    Args:
        working: gives the context, with the device's lock held.
    """

    def __init__(self, loaded: LoadedConfig, working: Working) -> None:
        self._loaded = loaded
        self._working = working

    def run(
        self,
        source: str,
        remote: str = "",
        *,
        master_key_file: Path | None = None,
        dry_run: bool = False,
        progress: ProgressFn | None = None,
        cancel: Cancel | None = None,
    ) -> ImportReport:
        """Bring an upstream prefix, or one file of it, into a namespace with its clocks.

        What an earlier import brought and upstream did not change since is left alone.

        Args:
            source, master_key_file: as for ``import_upstream``.
            remote: where it goes; empty for the namespace itself, or for where one file's
                manifest says.

        Raises:
            AccessError: this device may not write.
            UsageError: the source, place or key is not what it must be.
            TcfsError: see ``FleetImport``.
        """
        from tcfs.sync.upstream_import.fleet import FleetImport

        with self._working(progress, cancel) as context:
            namespace, prefix = (
                places.parse(context, remote) if remote else (context.namespace, ROOT)
            )
            stop = cancel or (lambda: False)
            with _opened(self._loaded, source, master_key_file, stop) as (restorer, manifest):
                done = FleetImport(context, restorer, namespace, prefix, dry_run=dry_run)
                return done.file(manifest) if manifest else done.tree()


@contextmanager
def _opened(
    loaded: LoadedConfig,
    source: str,
    master_key_file: Path | None,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[Restorer, str]]:
    """What reads a source, and the manifest that it names; empty for all of it."""
    prefix, single, manifest = source.partition(_MANIFESTS)
    if single:
        checked_hash(manifest, "the source")
    place = _place(loaded, prefix)
    options = store_options(loaded)
    objects = open_objects(
        place,
        options.credentials.s3_keys,
        addressing=options.addressing,
        tls=options.tls,
        timeout=options.timeout,
    )
    key = _master_key(master_key_file) if master_key_file is not None else b""
    with closing(objects), Restorer(objects, key, cancelled) as restorer:
        yield restorer, manifest


def _place(loaded: LoadedConfig, source: str) -> Endpoint:
    server = ""
    if source.startswith("s3://") and loaded.config.storage.endpoint:
        server = configured_endpoint(loaded).server
    return parse_endpoint(source, region=loaded.config.storage.region, aws_server=server)


def _master_key(path: Path) -> bytes:
    data = read_private(path)
    if data is None:
        raise UsageError(f"there is no file {path}", remedy="Name the file of the master key.")
    if len(data) != KEY_SIZE:
        try:
            data = bytes.fromhex(data.decode("ascii").strip())
        except ValueError:
            data = b""
    if len(data) != KEY_SIZE:
        raise UsageError(f"{path} holds no master key", remedy="It is 32 bytes, or 64 hex digits.")
    return data
