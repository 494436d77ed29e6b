"""Mutual TLS with SeaweedFS: its S3 gateway and its filer, each asking for client certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tcfs.model.ids import StoreKey
from tcfs.service.servers import process
from tcfs.service.servers.weed import WeedServer
from tcfs.store import failures as f
from tcfs.store.base import BlobStore
from tcfs.store.open import Credentials, StoreOptions, open_store
from tcfs.store.s3_client import S3Keys
from tcfs.tls.contexts import STORE, TlsFiles
from tests.certificates import Authority, Pair
from tests.servers import BUCKET, unique
from tests.store.proxy import FaultProxy

KEY = StoreKey("packs/aa/aa")


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

    def refusal(self, pair: Pair | None, kind: type[f.TlsFailed], **more) -> f.TlsFailed:
        """What opening and using the store says."""
        store = self.open(pair, **more)
        try:
            with pytest.raises(f.TlsFailed) as caught:
                store.get(KEY)
            assert type(caught.value) is kind
            with pytest.raises(kind):
                store.put(KEY, b"x" * 2_000_000)
        finally:
            store.close()
        assert not caught.value.retryable
        return caught.value


@pytest.fixture(scope="module", params=["s3", "filer"])
def guarded(
    request: pytest.FixtureRequest, weed_server: WeedServer, tmp_path_factory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
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
    if request.param == "s3":
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
        store = made.open(ca.pair("first"), create=True)
        store.put(KEY, b"over mutual tls")
        store.close()
        yield made
    finally:
        process.kill(service)


def test_a_certificate_of_the_servers_authority_opens_the_door(guarded: Guarded):
    store = guarded.open(guarded.ca.pair("anna"))
    assert store.get(KEY) == b"over mutual tls"
    store.close()


def test_a_server_that_wants_a_certificate_says_so(guarded: Guarded):
    error = guarded.refusal(None, f.ClientCertificateWanted)
    assert "storage.client_cert_path" in error.remedy


def test_a_certificate_of_another_authority_is_refused(guarded: Guarded, tmp_path: Path):
    other = Authority(tmp_path, "other authority")
    guarded.refusal(other.pair("eve"), f.ClientCertificateRefused)


def test_an_expired_certificate_is_told_by_us_and_by_the_server(guarded: Guarded):
    expired = guarded.ca.pair("old", days=-1)
    error = guarded.refusal(expired, f.ClientCertificateExpired)
    assert "expired on" in error.message
    # By a clock that is behind it is good still: then the server tells.
    error = guarded.refusal(expired, f.ClientCertificateExpired, now=lambda: 0.0)
    assert "the server says" in error.message


def test_an_unknown_server_is_told_from_a_client_that_is_refused(guarded: Guarded):
    error = guarded.refusal(guarded.ca.pair("anna"), f.ServerCertificateUnknown, ca=None)
    assert "storage.ca_cert_path" in error.remedy


def test_a_renewed_pair_is_used_by_a_store_that_is_open_and_half_of_one_is_not(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
):
    pair, new, late = (guarded.ca.pair("anna", days=days) for days in (10, 365, -1))
    store = guarded.open(pair, now=lambda: 0.0)
    assert store.get(KEY) == b"over mutual tls"
    # An expired pair in its place shows that new connections are made with what is there now.
    pair.write(late)
    with pytest.raises(f.ClientCertificateExpired, match="the server says"):
        store.get(KEY)
    pair.write(new)
    assert store.get(KEY) == b"over mutual tls"
    pair.cert.write_bytes(late.cert.read_bytes())
    guarded.restart()  # so that every connection is a new one
    assert store.get(KEY) == b"over mutual tls"
    assert "what was loaded before is used further" in caplog.text
    store.close()


@pytest.mark.parametrize(
    ("days", "host", "kind", "word"),
    [
        (-1, "127.0.0.1", f.ServerCertificateExpired, "clock"),
        (365, "elsewhere.example", f.ServerCertificateElsewhere, "this address"),
    ],
)
def test_what_is_wrong_with_the_servers_own_certificate_is_told(
    guarded: Guarded, days: float, host: str, kind: type[f.TlsFailed], word: str
):
    pair = guarded.ca.pair("proxy", days=days, hosts=(host,))
    server = guarded.server
    port = server.s3_port if guarded.url.startswith("s3") else server.filer_port
    proxy = FaultProxy(port, tls=pair.server_context())
    try:
        scheme, _, rest = guarded.url.partition("://")
        where = proxy.url.rpartition("/")[2]
        there = replace(guarded, url=f"{scheme}://{where}/{rest.partition('/')[2]}")
        assert word in there.refusal(None, kind).remedy
    finally:
        proxy.close()
