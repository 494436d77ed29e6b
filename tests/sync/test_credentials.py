"""Credentials taken over, and keys of a store changed, against a real S3 server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tcfs.config.load import LoadedConfig, load_config
from tcfs.errors import ConfigError, StoreError, TcfsError, UsageError
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET
from tcfs.secrets.sources import format_credentials, parse_credentials
from tcfs.service.servers.weed import WeedServer
from tcfs.sync.credentials import import_credentials, list_credentials, rotate_credentials
from tests.secrets.test_sops import FIXTURES, KEY
from tests.servers import BUCKET, READER, unique


def loaded(tmp_path: Path, endpoint: str, **settings: str) -> LoadedConfig:
    environ = {
        "HOME": str(tmp_path),
        "TCFS_HOME": str(tmp_path / "home"),
        "TCFS_REMOTE": endpoint,
        "TCFS_STORAGE_TIMEOUT": "5",
        "TCFS_SYNC_MAX_RETRIES": "0",
        **settings,
    }
    return load_config(environ=environ)


def keys_file(tmp_path: Path, access: str, secret: str) -> Path:
    path = tmp_path / "credentials"
    path.write_text(format_credentials({S3_ACCESS: access, S3_SECRET: secret}))
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "TCFS_S3_ACCESS", "CREDENTIALS_DIRECTORY", "SOPS_AGE_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_keys_are_changed_once_the_new_ones_have_been_seen_to_work(
    tmp_path: Path, weed_server: WeedServer
) -> None:
    file = keys_file(tmp_path, READER.access, READER.secret)
    endpoint = f"{weed_server.s3_endpoint}/{BUCKET}/{unique('rotate')}"
    config = loaded(tmp_path, endpoint, TCFS_STORAGE_CREDENTIALS_FILE=str(file))
    good = {S3_ACCESS: weed_server.access, S3_SECRET: weed_server.secret}
    done = rotate_credentials(config, good)
    assert done.checked == ("list", "write", "read", "delete")
    assert weed_server.secret not in repr(done)
    now = file.read_text()
    assert parse_credentials(now, "f") == good
    assert file.stat().st_mode & 0o777 == 0o600
    # Keys that may not write, and ones that nobody has: the old ones stay.
    for access, secret in ((READER.access, READER.secret), ("NOBODY", "nothing-at-all")):
        with pytest.raises(TcfsError) as caught:
            rotate_credentials(config, {S3_ACCESS: access, S3_SECRET: secret})
        assert secret not in str(caught.value) + repr(caught.value.details)
        assert file.read_text() == now
    with pytest.raises(UsageError, match="in use already"):
        rotate_credentials(config, good)


def test_keys_of_a_server_that_does_not_answer_are_not_changed(tmp_path: Path) -> None:
    file = keys_file(tmp_path, "A", "S")
    config = loaded(tmp_path, "http://127.0.0.1:9/bucket", TCFS_STORAGE_CREDENTIALS_FILE=str(file))
    before = file.read_text()
    with pytest.raises(StoreError):
        rotate_credentials(config, {S3_ACCESS: "B", S3_SECRET: "T"})
    assert file.read_text() == before


def test_keys_that_come_from_elsewhere_are_not_for_us_to_change(tmp_path, monkeypatch) -> None:
    config = loaded(tmp_path, "http://127.0.0.1:9/bucket")
    monkeypatch.setenv("TCFS_S3_ACCESS", "A")
    monkeypatch.setenv("TCFS_S3_SECRET", "S")
    with pytest.raises(ConfigError, match="environment TCFS_S3_ACCESS"):
        rotate_credentials(config, {S3_ACCESS: "B", S3_SECRET: "T"})
    with pytest.raises(UsageError, match="needs no credentials"):
        rotate_credentials(loaded(tmp_path, f"file://{tmp_path}/s"), {})


@pytest.mark.parametrize("name", ["creds.yaml", "creds.age"])
def test_sealed_credentials_are_imported_into_the_private_file(tmp_path, monkeypatch, name) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", KEY)
    target = tmp_path / "new"
    config = loaded(
        tmp_path, "http://127.0.0.1:9/bucket", TCFS_STORAGE_CREDENTIALS_FILE=str(target)
    )
    done = import_credentials(config, str(FIXTURES / name))
    assert done.names == (S3_ACCESS, S3_SECRET)
    assert "fixture-secret" not in repr(done)
    assert parse_credentials(target.read_text(), "f")[S3_ACCESS] == "FIXTUREACCESS"
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="holds none"):
        import_credentials(config, str(FIXTURES / "mac_only.yaml"))


def test_the_list_names_sources_and_the_one_in_use(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", KEY)
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    shutil.copy(FIXTURES / "creds.yaml", sealed)
    config = loaded(tmp_path, "http://127.0.0.1:9/bucket", TCFS_SECRETS_SOPS_DIR=str(sealed))
    found = list_credentials(config)
    assert found.problem == ""
    assert found.in_use == "secrets.sops_dir"
    assert "age identity: SOPS_AGE_KEY" in {s.name for s in found.sources if s.present}
    assert "fixture-secret" not in repr(found)
    assert "AGE-SECRET" not in repr(found)
