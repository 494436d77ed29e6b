"""SeaweedFS behind mutual TLS: a gateway or filer of a test's own before the run's server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tcfs.service.servers import process
from tcfs.service.servers.weed import WeedServer
from tcfs.store.base import BlobStore
from tcfs.store.open import Credentials, StoreOptions, open_store
from tcfs.store.s3_client import S3Keys
from tcfs.tls.contexts import STORE, TlsFiles
from tests.certificates import Authority, Pair
from tests.servers import BUCKET, unique


@dataclass(frozen=True)
class Guarded:
    """A server that speaks TLS alone, with those alone whom ``ca`` signed."""

    url: str
    server: WeedServer
    ca: Authority
    restart: Callable[[], object]

    def open(self, pair: Pair | None = None, *, create: bool = False, **more) -> BlobStore:
        keys = S3Keys(self.server.access, self.server.secret)
        files = TlsFiles(STORE, **{"ca": self.ca.file, **more})
        if pair is not None:
            files = TlsFiles(STORE, **{"ca": self.ca.file, **more}, cert=pair.cert, key=pair.key)
        options = StoreOptions(
            credentials=Credentials(s3_keys=lambda: keys, filer_key=lambda: self.server.filer_key),
            tls=files,
            retries=0,
        )
        return open_store(self.url, create=create, options=options)


@contextmanager
def guarded_server(
    kind: Literal["s3", "filer"], weed_server: WeedServer, directory: Path
) -> Iterator[Guarded]:
    """Start one that takes clients of an authority in ``directory`` alone."""
    ca = Authority(directory)
    pair = ca.pair("server")
    (port,) = process.free_ports(1)
    weed = (process.find_program("weed"), "-logtostderr=true")
    environ = {
        "GOMEMLIMIT": "100MiB",
        "WEED_JWT_FILER_SIGNING_KEY": weed_server.filer_key,
        "WEED_JWT_FILER_SIGNING_READ_KEY": weed_server.filer_key,
    }
    command: tuple[str, ...]
    if kind == "s3":
        url = f"s3+https://127.0.0.1:{port}/{BUCKET}/{unique('tls')}"
        command = (
            *weed, "s3", f"-filer=127.0.0.1:{weed_server.filer_port}", f"-port={port}",
            "-ip.bind=127.0.0.1", f"-config={weed_server.directory / 'identities.json'}",
            "-port.iceberg=0", "-port.lance=0", f"-localSocket={directory}/s.sock",
            f"-cert.file={pair.cert}", f"-key.file={pair.key}", f"-cacert.file={ca.file}",
            "-tlsVerifyClientCert=true",
        )  # fmt: skip
    else:
        url = f"seaweedfs+https://127.0.0.1:{port}/{unique('tls')}"
        command = (
            *weed, "filer", f"-master=127.0.0.1:{weed_server.master_port}", f"-port={port}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-defaultStoreDir={directory}",
            "-filerGroup=tls", f"-localSocket={directory}/f.sock",
        )  # fmt: skip
        environ |= {
            "WEED_HTTPS_FILER_CERT": str(pair.cert),
            "WEED_HTTPS_FILER_KEY": str(pair.key),
            "WEED_HTTPS_FILER_CA": str(ca.file),
        }
    service = process.Service(
        "weed", directory / "run", command, lambda: process.connects(port), environ
    )

    def restart() -> None:
        process.kill(service)
        process.start(service)

    process.start(service)
    try:
        made = Guarded(url, weed_server, ca, restart)
        yield made
    finally:
        process.kill(service)
