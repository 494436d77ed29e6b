"""What this device's settings make of a store."""

import stat

import pytest

from tcfs.config.load import load_config
from tcfs.store.open import MIB
from tcfs.sync.stores import (
    REMEMBERED,
    configured_endpoint,
    known_conditional,
    source_in_use,
    store_options,
    uploads_at_once,
)


def loaded_with(tmp_path, **settings):
    return load_config(environ={"HOME": str(tmp_path), "TCFS_HOME": str(tmp_path), **settings})


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"TCFS_REMOTE": "s3://bucket/p"}, "s3://bucket/p"),
        (
            {"TCFS_REMOTE": "https://s3.example", "TCFS_STORAGE_REGION": "eu-west-1"},
            "s3+https://s3.example/tcfs?region=eu-west-1",
        ),
        (
            {"TCFS_REMOTE": "http://h:1/other/x", "TCFS_STORAGE_PREFIX": "y"},
            "s3+http://h:1/other/x/y",
        ),
        ({"TCFS_REMOTE": "seaweedfs://h:8888/a"}, "seaweedfs://h:8888/a"),
    ],
)
def test_settings_name_a_place_in_full(tmp_path, settings, url):
    assert configured_endpoint(loaded_with(tmp_path, **settings), environ={}).url == url


def test_a_url_that_stands_alone_is_used_where_no_endpoint_is_set_and_as_it_is(tmp_path):
    loaded = loaded_with(tmp_path, TCFS_STORAGE_PREFIX="mine", TCFS_STORAGE_BUCKET="mine")
    url = "s3+http://h:1/theirs/p"
    assert configured_endpoint(loaded, url, environ={}).url == url


def test_amazons_endpoint_can_be_moved_as_for_its_own_programs(tmp_path):
    loaded = loaded_with(tmp_path, TCFS_REMOTE="s3://bucket")
    environ = {"AWS_ENDPOINT_URL": "http://one:1"}
    assert configured_endpoint(loaded, environ=environ).server == "http://one:1"
    environ["AWS_ENDPOINT_URL_S3"] = "http://two:2"
    assert configured_endpoint(loaded, environ=environ).server == "http://two:2"


def test_settings_reach_the_store(tmp_path):
    loaded = loaded_with(
        tmp_path,
        TCFS_SYNC_WORKERS="3",
        TCFS_SYNC_MAX_RETRIES="7",
        TCFS_SYNC_MEMORY_MB="128",
        TCFS_STORAGE_UPLOAD_LIMIT="1000",
        TCFS_STORAGE_DOWNLOAD_LIMIT="2000",
        TCFS_STORAGE_TIMEOUT="5s",
        TCFS_STORAGE_ENFORCE_TLS="true",
        TCFS_STORAGE_ADDRESSING_STYLE="virtual",
    )
    options = store_options(loaded)
    assert (options.workers, options.retries, options.memory_bytes) == (3, 7, 128 * MIB)
    assert (options.upload_limit, options.download_limit) == (1000, 2000)
    assert (options.timeout, options.enforce_tls, options.addressing) == (5.0, True, "virtual")


def test_as_many_packs_are_on_their_way_as_workers_and_memory_allow(tmp_path):
    def uploads(**settings: str) -> int:
        config = loaded_with(tmp_path, **settings).config
        return uploads_at_once(config, "s3://bucket")

    assert uploads() == 3
    assert uploads(TCFS_SYNC_WORKERS="2") == 2
    assert uploads(TCFS_SYNC_MEMORY_MB="64") == 1
    assert uploads(TCFS_SYNC_MEMORY_MB="4096") == 8
    assert uploads_at_once(loaded_with(tmp_path).config, "file:///srv") == 2


def test_what_was_found_out_about_a_server_is_kept_for_this_user_and_for_a_while(
    tmp_path, monkeypatch
):
    loaded = loaded_with(tmp_path)
    url = "s3+http://h:1/bucket"
    assert known_conditional(loaded, url) is None
    store_options(loaded).memory.remember(url, False)
    store_options(loaded).memory.remember("s3://other", True)
    assert known_conditional(loaded, url) is False
    assert known_conditional(loaded, "s3://other") is True
    path = loaded.state_db.parent / REMEMBERED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setattr("time.time", lambda: path.stat().st_mtime + 31 * 86400)
    assert known_conditional(loaded, url) is None
    path.write_text("damaged")
    assert known_conditional(loaded, url) is None


@pytest.mark.parametrize(
    ("url", "kept"), [("file:///srv", True), ("memory://m", True), ("seaweedfs://h:1/a", False)]
)
def test_of_other_kinds_of_stores_it_is_known_beforehand(tmp_path, url, kept):
    assert known_conditional(loaded_with(tmp_path), url) is kept


def test_a_directory_needs_no_credentials(tmp_path):
    from tcfs.secrets.sources import credential_chain

    loaded = loaded_with(tmp_path)
    chain = credential_chain(loaded.config, environ={"TCFS_S3_ACCESS": "half"})
    assert source_in_use(loaded, chain) == ""
