"""Mutual TLS with SeaweedFS: its S3 gateway and its filer, each asking for client certificates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tcfs.errors import ConfigError
from tcfs.model.ids import StoreKey
from tcfs.service.servers.weed import WeedServer
from tcfs.store import failures as f
from tcfs.store.open import StoreOptions, open_store
from tcfs.tls.contexts import STORE, TlsFiles
from tests.certificates import Authority, Pair
from tests.guarded import Guarded, guarded_server
from tests.store.proxy import FaultProxy

KEY = StoreKey("packs/aa/aa")


def refusal(guarded: Guarded, pair: Pair | None, kind: type[f.TlsFailed], **more) -> f.TlsFailed:
    """What opening and using the store says."""
    store = guarded.open(pair, **more)
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
    with guarded_server(request.param, weed_server, tmp_path_factory.mktemp("tls")) as made:
        store = made.open(made.ca.pair("first"), create=True)
        store.put(KEY, b"over mutual tls")
        store.close()
        yield made


def test_a_certificate_of_the_servers_authority_opens_the_door(guarded: Guarded):
    store = guarded.open(guarded.ca.pair("anna"))
    assert store.get(KEY) == b"over mutual tls"
    store.close()


def test_a_server_that_wants_a_certificate_says_so(guarded: Guarded):
    error = refusal(guarded, None, f.ClientCertificateWanted)
    assert "storage.client_cert_path" in error.remedy


def test_a_certificate_of_another_authority_is_refused(guarded: Guarded, tmp_path: Path):
    other = Authority(tmp_path, "other authority")
    refusal(guarded, other.pair("eve"), f.ClientCertificateRefused)


def test_an_expired_certificate_is_told_by_us_and_by_the_server(guarded: Guarded):
    expired = guarded.ca.pair("old", days=-1)
    error = refusal(guarded, expired, f.ClientCertificateExpired)
    assert "expired on" in error.message
    # By a clock that is behind it is good still: then the server tells.
    error = refusal(guarded, expired, f.ClientCertificateExpired, now=lambda: 0.0)
    assert "the server says" in error.message


def test_an_unknown_server_is_told_from_a_client_that_is_refused(guarded: Guarded):
    error = refusal(guarded, guarded.ca.pair("anna"), f.ServerCertificateUnknown, ca=None)
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


def test_a_certificate_for_a_server_without_tls_is_a_mistake_that_is_told(tmp_path: Path):
    pair = Authority(tmp_path).pair("anna")
    options = StoreOptions(tls=TlsFiles(STORE, cert=pair.cert, key=pair.key))
    for url in ("http://127.0.0.1:1/bucket", "seaweedfs://127.0.0.1:1/x"):
        with pytest.raises(ConfigError, match="has no TLS"):
            open_store(url, options=options)


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
        assert word in refusal(there, None, kind).remedy
    finally:
        proxy.close()
