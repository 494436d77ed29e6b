"""From endpoints to stores."""

import os

import pytest

from tcfs.errors import ConfigError
from tcfs.model.ids import StoreKey
from tcfs.store.base import StoreRefused
from tcfs.store.local import LocalStore
from tcfs.store.open import StoreOptions, open_store

KEY = StoreKey("a")


def test_a_file_endpoint_opens_the_store_in_that_directory(tmp_path):
    endpoint = f"file://{tmp_path}/store"
    made = open_store(endpoint, create=True)
    made.put(KEY, b"x")
    assert isinstance(made, LocalStore)
    for same in (endpoint, endpoint + "/", f"file://localhost{tmp_path}/store", made.endpoint):
        assert open_store(same).get(KEY) == b"x"


@pytest.mark.parametrize("name", ["with space", "per%cent", "häß", "q?#", "\udcff\udcfe"])
def test_any_directory_can_be_named_percent_encoded(tmp_path, name):
    endpoint = LocalStore.create(tmp_path / name).endpoint
    assert endpoint.isascii()
    open_store(endpoint).put(KEY, b"x")
    assert (tmp_path / name / "a").exists()


def test_an_unencoded_name_is_taken_as_it_stands(tmp_path):
    open_store(f"file://{tmp_path}/with space \udcff", create=True)
    assert os.path.isdir(os.fsencode(tmp_path) + b"/with space \xff")


def test_an_absent_store_is_an_error_unless_it_is_to_be_made(tmp_path):
    with pytest.raises(StoreRefused):
        open_store(f"file://{tmp_path}/store")
    with pytest.raises(StoreRefused):
        open_store("memory://never-made")


def test_a_memory_endpoint_is_one_store_in_this_process():
    open_store("memory://shared", create=True).put(KEY, b"x")
    assert open_store("memory://shared").get(KEY) == b"x"
    assert open_store("memory://shared", create=True).get(KEY) == b"x"
    assert open_store("memory://other", create=True).head(KEY) is None


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "/srv/tcfs",
        "srv/tcfs",
        "file:/srv/tcfs",
        "file://srv/tcfs",
        "file://",
        "file:///",
        "file:////",
        "file://host/srv",
        "file:///srv?x=1",
        "file:///srv#x",
        "file:///srv%00x",
        "ftp://host/dir",
        "FILE:///srv",
    ],
)
def test_what_is_no_endpoint_is_a_configuration_error_that_says_what_would_be(endpoint):
    with pytest.raises(ConfigError) as caught:
        open_store(endpoint, create=True)
    assert "file:///srv/tcfs" in caught.value.remedy


@pytest.mark.parametrize("scheme", ["s3", "seaweedfs", "https"])
def test_credentials_in_an_endpoint_are_refused_and_never_shown(scheme):
    with pytest.raises(ConfigError) as caught:
        open_store(f"{scheme}://ACCESS:S3CRET@host/bucket")
    assert "S3CRET" not in repr(caught.value.to_json())


def test_a_prefix_is_a_store_within_the_store(tmp_path):
    whole = open_store(f"file://{tmp_path}/store", create=True)
    part = open_store(f"file://{tmp_path}/store?prefix=a/b")
    part.put(KEY, b"x")
    assert [info.key for info in whole.list("")] == ["a/b/a"]
    assert open_store(part.endpoint).get(KEY) == b"x"


@pytest.mark.parametrize(
    "endpoint", ["file://user:S3CRET@host/dir", "x:S3CRET@y", "ftp://S3CRET@h"]
)
def test_errors_show_nothing_of_an_endpoint_but_its_scheme(endpoint):
    with pytest.raises(ConfigError) as caught:
        open_store(endpoint)
    assert "S3CRET" not in repr(caught.value.to_json())


def test_a_directory_is_held_to_its_bytes_a_second_too(tmp_path):
    waited: list[float] = []
    options = StoreOptions(upload_limit=1000, download_limit=500, wait=waited.append)
    store = open_store(f"file://{tmp_path}/store", create=True, options=options)
    store.put(KEY, bytes(5000))
    assert sum(waited) == pytest.approx(4, abs=0.1)  # a second's worth goes at once
    waited.clear()
    store.get(KEY)
    assert sum(waited) == pytest.approx(9, abs=0.1)
