"""The filer's own API on a real filer: what goes wrong has a name, and absent is never assumed."""

import base64
import hashlib
import hmac
import json

import pytest

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.service.servers.process import free_ports
from tcfs.store import failures as f
from tcfs.store.base import IF_ABSENT, ObjectMissing, StoreRefused
from tcfs.store.endpoint import parse_endpoint
from tcfs.store.http import HttpClient
from tcfs.store.seaweedfs import SeaweedStore, filer_token
from tests.servers import unique
from tests.store.proxy import FaultProxy, Request, Reset, Say, Stall, Truncate

KEY = StoreKey("packs/00/one")


def opened(server, directory, key, *, port=0, create=False, scheme="seaweedfs", timeout=60.0):
    place = parse_endpoint(f"{scheme}://127.0.0.1:{port or server.filer_port}/{directory}")
    client = HttpClient(place.server, timeout=timeout)
    make = SeaweedStore.create if create else SeaweedStore
    return make(place, client, lambda: key)


@pytest.fixture
def directory(weed_server):
    name = unique("filer")
    opened(weed_server, name, weed_server.filer_key, create=True).close()
    return name


@pytest.fixture
def proxy(weed_server):
    made = FaultProxy(weed_server.filer_port)
    yield made
    made.close()


def everything(store):
    return {
        "get": lambda: store.get(KEY),
        "get_range": lambda: store.get_range(KEY, 0, 1),
        "put": lambda: store.put(KEY, b"x"),
        "head": lambda: store.head(KEY),
        "list": lambda: list(store.list("")),
        "list_dirs": lambda: store.list_dirs(""),
        "delete": lambda: store.delete(KEY),
    }


def refused_alike(store, error, *, but=()):
    for verb, call in everything(store).items():
        if verb not in but:
            with pytest.raises(error) as caught:
                call()
            assert caught.value.code == error.code, verb
            assert caught.value.remedy, verb
    store.close()


def test_a_filer_that_asks_for_a_token_says_what_to_give(weed_server, directory):
    store = opened(weed_server, directory, "")
    refused_alike(store, f.CredentialsMissing)
    with pytest.raises(f.CredentialsMissing) as caught:
        store.get(KEY)
    assert "TCFS_FILER_KEY" in caught.value.remedy
    store.close()


def test_a_wrong_key_is_told_as_such_by_every_verb(weed_server, directory):
    refused_alike(opened(weed_server, directory, "wrong"), f.CredentialsRefused)


def test_nobody_at_the_endpoint_is_told_as_such_by_every_verb(weed_server):
    (port,) = free_ports(1)
    refused_alike(opened(weed_server, "a", "", port=port), f.StoreUnreachable)


def test_another_server_is_told_as_such(weed_server, directory):
    """The master answers with pages of its own."""
    store = opened(weed_server, directory, "", port=weed_server.master_port)
    for verb, call in everything(store).items():
        with pytest.raises(StoreError) as caught:
            call()
        assert not isinstance(caught.value, ObjectMissing), verb
        assert not caught.value.retryable, verb
    store.close()


def test_tls_with_a_server_that_has_none_is_told_as_such(weed_server, directory):
    store = opened(weed_server, directory, "", scheme="seaweedfs+https")
    refused_alike(store, f.TlsFailed)


def test_where_no_store_was_made_nothing_is_absent(weed_server):
    """A filer that lost its data, or another directory, is no empty store."""
    store = opened(weed_server, unique("never"), weed_server.filer_key)
    for verb in ("get", "get_range", "head", "list", "list_dirs"):
        with pytest.raises(StoreRefused, match="there is no store"):
            everything(store)[verb]()
    store.close()


def test_a_store_is_made_in_an_empty_directory_alone(weed_server, directory):
    key = weed_server.filer_key
    store = opened(weed_server, directory, key, create=True)  # the one there is
    store.put(KEY, b"x")
    store.close()
    with pytest.raises(StoreRefused, match="is not empty"):
        opened(weed_server, f"{directory}/packs", key, create=True)


@pytest.mark.parametrize(
    "fault",
    [Truncate(), Reset(), Reset(after=True), Say(500, "x"), Say(503, "x")],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_is_an_error_that_may_pass_and_never_fewer_bytes(
    weed_server, directory, proxy, fault
):
    store = opened(weed_server, directory, weed_server.filer_key, port=proxy.port)
    store.put(KEY, b"0123456789" * 1000)
    proxy.rule = lambda request: fault
    for verb in ("get", "get_range", "list", "list_dirs"):
        with pytest.raises(StoreError) as caught:
            everything(store)[verb]()
        assert caught.value.retryable, verb
        assert isinstance(caught.value, f.StoreBusy) == (fault == Say(503, "x"))
    store.close()


def test_a_filer_that_stalls_is_left(weed_server, directory, proxy):
    key = weed_server.filer_key
    store = opened(weed_server, directory, key, port=proxy.port, timeout=0.3)
    proxy.rule = lambda request: Stall()
    with pytest.raises(f.StoreUnreachable) as caught:
        store.get(KEY)
    assert caught.value.details["timeout"]
    store.close()


def test_a_kept_connection_that_was_closed_is_replaced_at_once(weed_server, directory, proxy):
    store = opened(weed_server, directory, weed_server.filer_key, port=proxy.port)
    store.put(KEY, b"x")
    broken: list[Request] = []

    def rule(request: Request):
        if broken:
            return None
        broken.append(request)
        return Reset()

    proxy.rule = rule
    assert store.get(KEY) == b"x"
    assert len(broken) == 1
    store.close()


def test_bytes_that_were_changed_on_their_way_are_told(weed_server, directory):
    class Changing(HttpClient):
        def request(self, method, target, *, body=None, headers=None):
            changed = b"y" if body is not None and bytes(body) == b"x" else body
            return super().request(method, target, body=changed, headers=headers)

    place = parse_endpoint(f"seaweedfs://127.0.0.1:{weed_server.filer_port}/{directory}")
    client = Changing(place.server, timeout=60)
    store = SeaweedStore(place, client, lambda: weed_server.filer_key)
    with pytest.raises(StoreError, match="other bytes") as caught:
        store.put(KEY, b"x")
    assert caught.value.retryable
    store.close()


def test_conditions_are_refused_rather_than_ignored(weed_server, directory):
    store = opened(weed_server, directory, weed_server.filer_key)
    assert not store.capabilities.conditional_writes
    with pytest.raises(StoreRefused):
        store.put(KEY, b"x", IF_ABSENT)
    assert store.head(KEY) is None
    store.close()


def test_a_token_is_signed_and_ends_and_is_made_anew_in_time(weed_server, directory):
    header, claims, signature = filer_token("key", 1234).split(".")

    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decoded(claims)) == {"exp": 1234}
    made = hmac.digest(b"key", f"{header}.{claims}".encode(), hashlib.sha256)
    assert decoded(signature) == made

    times = iter([1000.0, 1001.0, 5000.0])
    seen = []

    class Recording(HttpClient):
        def request(self, method, target, *, body=None, headers=None):
            seen.append(headers["Authorization"])
            return super().request(method, target, body=body, headers={})

    place = parse_endpoint(f"seaweedfs://127.0.0.1:{weed_server.filer_port}/{directory}")
    client = Recording(place.server, timeout=60)
    store = SeaweedStore(place, client, lambda: "key", now=lambda: next(times))
    for _ in range(3):
        with pytest.raises(StoreError):
            store.put(KEY, b"x")
    assert seen[0] == seen[1] != seen[2]
    store.close()
