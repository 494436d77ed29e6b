"""Going by way of the proxy that the environment names."""

from __future__ import annotations

import socket
import threading

import pytest

from tcfs.model.ids import StoreKey
from tcfs.store.failures import StoreUnreachable
from tcfs.store.http import HttpClient
from tcfs.store.proxies import proxy_to
from tcfs.store.s3 import S3Store
from tcfs.store.s3_client import S3Place
from tcfs.store.sigv4 import S3Keys
from tests.servers import BUCKET, unique
from tests.store.proxy import FaultProxy


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_none_is_named_and_none_is_used():
    assert proxy_to("https://s3.example") is None


def test_the_variables_say_which_and_for_whom_none(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:s%40cret@proxy.example:3128/")
    monkeypatch.setenv("NO_PROXY", "local.example")
    assert proxy_to("http://s3.example") is None
    assert proxy_to("https://local.example:8333") is None
    found = proxy_to("https://s3.example")
    assert found is not None
    assert found.host == "proxy.example:3128"
    assert found.headers == {"Proxy-Authorization": "Basic YW5uYTpzQGNyZXQ="}
    assert "YW5" not in repr(found)


def test_a_store_without_tls_is_used_through_the_proxy(weed_server, monkeypatch):
    proxy = FaultProxy(weed_server.s3_port)
    monkeypatch.setenv("http_proxy", proxy.url)
    keys = S3Keys(weed_server.access, weed_server.secret)
    place = S3Place(weed_server.s3_endpoint, BUCKET, prefix=unique("proxy"))
    store = S3Store(place, lambda: keys)
    try:
        store.put(StoreKey("one"), b"x")
        assert store.get(StoreKey("one")) == b"x"
        assert [r.path for r in proxy.requests] == [
            f"{weed_server.s3_endpoint}/{BUCKET}/{place.prefix}/one"
        ] * 2
    finally:
        store.close()
        proxy.close()


def test_a_store_with_tls_is_asked_for_by_a_tunnel(monkeypatch):
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            said = b""
            while not said.endswith(b"\r\n\r\n"):
                said += connection.recv(4096)
            heard.append(said)
            connection.sendall(b"HTTP/1.1 407 No\r\n\r\n")

    thread = threading.Thread(target=refuse)
    thread.start()
    port = listener.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://anna:secret@127.0.0.1:{port}")
    client = HttpClient("https://s3.example", timeout=10, proxies=True)
    with pytest.raises(StoreUnreachable):
        client.request("GET", "/")
    thread.join()
    listener.close()
    client.close()
    assert heard[0].startswith(b"CONNECT s3.example:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic " in heard[0]
