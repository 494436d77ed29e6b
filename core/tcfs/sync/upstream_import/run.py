"""An import as one call: what is named, with this device's settings and credentials."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tcfs.errors import UsageError
from tcfs.store.endpoint import Endpoint, parse_endpoint
from tcfs.sync.private_files import read_private
from tcfs.sync.stores import configured_endpoint, store_options
from tcfs.sync.upstream_import.formats import KEY_SIZE, checked_hash
from tcfs.sync.upstream_import.objects import open_objects
from tcfs.sync.upstream_import.restore import ImportReport, Restorer

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig

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
    prefix, single, manifest = source.partition(_MANIFESTS)
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
        if not single:
            return restorer.tree(target)
        found = restorer.file(checked_hash(manifest, "the source"), target)
        clocks = {found.rel_path: found.clocks} if found.clocks else {}
        return ImportReport(files=1, bytes=os.path.getsize(target), clocks=clocks)


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
