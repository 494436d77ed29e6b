"""The S3 store on a real server: what goes wrong has a name and a remedy."""

import datetime

import pytest
from msgspec.structs import replace

from tcfs.errors import ConfigError, StoreError
from tcfs.model.ids import StoreKey
from tcfs.service.servers.process import free_ports
from tcfs.store import failures as f
from tcfs.store.base import Condition, ObjectMissing, PreconditionFailed, StoreRefused
from tcfs.store.open import Credentials, StoreOptions, open_store
from tcfs.store.s3 import MULTIPART_FROM, S3Store, _passes
from tcfs.store.s3_client import S3Keys, S3Place, make_client
from tests.servers import BUCKET, READER, s3_client, unique
from tests.store.proxy import FaultProxy, Request, Say, Truncate, WrongETag

KEY = StoreKey("packs/00/one")


@pytest.fixture
def place(weed_server):
    return S3Place(weed_server.s3_endpoint, BUCKET, prefix=unique("s3"))


@pytest.fixture
def keys(weed_server):
    return S3Keys(weed_server.access, weed_server.secret)


@pytest.fixture
def store(place, keys):
    made = S3Store(place, lambda: keys)
    yield made
    made.close()


def everything(store: S3Store):
    """Each verb, as a call: none of them may take a failure for an absence."""
    return {
        "get": lambda: store.get(KEY),
        "get_range": lambda: store.get_range(KEY, 0, 1),
        "put": lambda: store.put(KEY, b"x"),
        "head": lambda: store.head(KEY),
        "list": lambda: list(store.list("")),
        "list_dirs": lambda: store.list_dirs(""),
        "delete": lambda: store.delete(KEY),
    }


def refused_alike(store: S3Store, error: type[StoreError]) -> None:
    for verb, call in everything(store).items():
        with pytest.raises(error) as caught:
            call()
        assert caught.value.code == error.code, verb
        assert caught.value.remedy, verb
    store.close()


def test_a_missing_bucket_is_told_as_such_by_every_verb(place, keys):
    store = S3Store(replace(place, bucket="no-such-bucket"), lambda: keys)
    refused_alike(store, f.BucketMissing)


def test_a_wrong_secret_is_told_as_such_by_every_verb(place, keys):
    store = S3Store(place, lambda: S3Keys(keys.access, "not-the-secret"))
    refused_alike(store, f.CredentialsRefused)


def test_an_unknown_key_is_told_as_such(place, keys):
    store = S3Store(place, lambda: S3Keys("NOBODY", "not-the-secret"))
    with pytest.raises(f.CredentialsRefused) as caught:
        store.get(KEY)
    assert "not-the-secret" not in str(caught.value.to_json())


def test_no_credentials_are_told_as_such_and_how_to_give_some(place):
    store = S3Store(place, lambda: None)
    with pytest.raises(f.CredentialsMissing) as caught:
        store.get(KEY)
    assert "TCFS_S3_ACCESS" in caught.value.remedy


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_off_is_told_as_such_by_every_verb(store, monkeypatch, hours):
    def off(remove_tzinfo=True):
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)

    monkeypatch.setattr("botocore.auth.get_current_datetime", off)
    refused_alike(store, f.ClockSkewed)


def test_a_read_only_key_reads_and_is_refused_what_writes(place, store):
    store.put(KEY, b"x")
    reader = S3Store(place, lambda: S3Keys(READER.access, READER.secret))
    assert reader.get(KEY) == b"x"
    assert reader.head(KEY) is not None
    for call in (lambda: reader.put(KEY, b"y"), lambda: reader.delete(KEY)):
        with pytest.raises(f.RightsMissing) as caught:
            call()
        assert "right" in caught.value.remedy
    assert store.get(KEY) == b"x"
    reader.close()


def test_nobody_at_the_endpoint_is_told_as_such_by_every_verb(place, keys):
    (port,) = free_ports(1)
    store = S3Store(replace(place, server=f"http://127.0.0.1:{port}"), lambda: keys)
    refused_alike(store, f.StoreUnreachable)


def test_a_host_that_has_no_address_is_unreachable(place, keys):
    store = S3Store(replace(place, server="http://no-such-host.invalid"), lambda: keys)
    with pytest.raises(f.StoreUnreachable, match="nobody answers"):
        store.get(KEY)


def test_another_kind_of_server_is_told_as_such_by_every_verb(place, keys):
    """Errors of another server are never taken for absent objects."""

    def rule(request: Request) -> Say:
        return Say(404, "")

    proxy = FaultProxy(1, rule)
    try:
        refused_alike(S3Store(replace(place, server=proxy.url), lambda: keys), f.NotThatStore)
    finally:
        proxy.close()


def test_a_server_without_tls_is_told_as_such(place, keys):
    server = place.server.replace("http:", "https:")
    refused_alike(S3Store(replace(place, server=server), lambda: keys), f.TlsFailed)


def test_tls_can_be_asked_for(weed_server):
    with pytest.raises(ConfigError, match="enforce_tls"):
        open_store(f"{weed_server.s3_endpoint}/{BUCKET}", options=StoreOptions(enforce_tls=True))


def test_new_credentials_are_used_without_opening_the_store_again(place, keys):
    current = [S3Keys("NOBODY", "nothing")]
    store = S3Store(place, lambda: current[0])
    with pytest.raises(f.CredentialsRefused):
        store.put(KEY, b"x")
    current[0] = keys
    store.put(KEY, b"x")
    assert store.get(KEY) == b"x"
    store.close()


def test_a_bucket_is_made_on_request_and_made_once(weed_server):
    keys = S3Keys(weed_server.access, weed_server.secret)
    place = S3Place(weed_server.s3_endpoint, unique("made"))
    for _ in range(2):
        store = S3Store.create(place, lambda: keys)
        store.put(KEY, b"x")
        store.close()
    client = s3_client(weed_server)
    client.delete_object(Bucket=place.bucket, Key=KEY)
    client.delete_bucket(Bucket=place.bucket)
    client.close()


def test_a_prefix_with_other_peoples_objects_is_refused_and_they_are_no_keys(place, keys, store):
    client = make_client(place, lambda: keys)
    client.put_object(Bucket=BUCKET, Key=f"{place.prefix}/Photos/One.JPG", Body=b"x")
    assert list(store.list("")) == []
    with pytest.raises(StoreRefused, match="not from tcfs"):
        S3Store.create(place, lambda: keys)
    client.close()


def test_a_large_object_goes_in_parts_and_a_failed_one_leaves_none(weed_server, place, keys):
    def rule(request: Request):
        return Say(500, "InternalError") if "partNumber=3" in request.path else None

    proxy = FaultProxy(weed_server.s3_port, rule)
    store = S3Store(replace(place, server=proxy.url), lambda: keys)
    data = bytes(1000) * (MULTIPART_FROM // 1000 + 1)
    try:
        with pytest.raises(StoreError):
            store.put(KEY, data)
        assert store.head(KEY) is None
        client = s3_client(weed_server)
        assert not client.list_multipart_uploads(Bucket=BUCKET, Prefix=place.prefix).get("Uploads")
        client.close()
        proxy.rule = lambda request: None
        store.put(KEY, data)
        assert store.get(KEY) == data
        assert sum("partNumber=" in request.path for request in proxy.requests) >= 7
    finally:
        store.close()
        proxy.close()


@pytest.mark.parametrize("fault", [Truncate(), Say(500, "InternalError"), Say(503, "SlowDown")])
def test_a_fault_while_reading_is_an_error_and_never_fewer_bytes(weed_server, place, keys, fault):
    proxy = FaultProxy(weed_server.s3_port)
    store = S3Store(replace(place, server=proxy.url), lambda: keys)
    try:
        store.put(KEY, b"0123456789" * 1000)
        proxy.rule = lambda request: fault
        calls = everything(store)
        for verb in ("get", "get_range", "list", "list_dirs"):
            with pytest.raises(StoreError) as caught:
                calls[verb]()
            assert caught.value.retryable
            assert not isinstance(caught.value, ObjectMissing)
    finally:
        store.close()
        proxy.close()


def test_an_etag_that_is_wrong_never_replaces_what_it_does_not_name(weed_server, place, keys):
    def rule(request: Request):
        return WrongETag() if request.method == "PUT" else None

    proxy = FaultProxy(weed_server.s3_port, rule)
    options = StoreOptions(credentials=Credentials(s3_keys=lambda: keys))
    store = open_store(f"{proxy.url}/{BUCKET}/{place.prefix}", options=options)
    try:
        etag = store.put(KEY, b"one")
        with pytest.raises(PreconditionFailed):
            store.put(KEY, b"two", Condition(if_match=etag))
        assert store.get(KEY) == b"one"
    finally:
        store.close()
        proxy.close()


def test_a_listing_that_starts_after_a_key_looks_into_the_directories_that_seaweedfs_skips():
    assert list(_passes("", "")) == [("", "")]
    assert list(_passes("a/", "")) == [("a/", "")]
    assert list(_passes("b/", "a/x")) == [("b/", "")]
    assert list(_passes("a/", "b")) == []
    assert list(_passes("", "d0-x")) == [("", "d0-x"), ("d0/", ""), ("d0-x/", "")]
    assert list(_passes("a/", "a/0001-ff")) == [
        ("a/", "a/0001-ff"),
        ("a/0001/", ""),
        ("a/0001-ff/", ""),
    ]
