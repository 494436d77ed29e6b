"""What is told of certificates and NATS credentials, and when it is warned of."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tcfs.config.load import LoadedConfig, load_config
from tcfs.sync.certificates import certificates, expiry_warnings
from tcfs.sync.credentials import list_credentials
from tests.certificates import Authority
from tests.jwts import Operator

DAY_S = 86400.0


def loaded(tmp_path: Path, **values: object) -> LoadedConfig:
    environ = {"HOME": str(tmp_path), "TCFS_HOME": str(tmp_path / "home")}
    environ |= {f"TCFS_{name.upper()}": str(value) for name, value in values.items()}
    return load_config(environ=environ)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_without_any_there_is_nothing_to_tell(tmp_path: Path):
    assert certificates(loaded(tmp_path)) == ()


def test_a_certificate_is_warned_of_from_thirty_days_before_it_expires(
    ca: Authority, tmp_path: Path
):
    pair = ca.pair("anna", days=100)
    config = loaded(
        tmp_path,
        storage_ca_cert_path=ca.file,
        storage_client_cert_path=pair.cert,
        storage_client_key_path=pair.key,
    )
    now = time.time()

    def told(days: float) -> list[str]:
        return expiry_warnings(certificates(config, now=lambda: now + days * DAY_S))

    assert [one.setting for one in certificates(config)] == [
        "storage.ca_cert_path",
        "storage.client_cert_path",
    ]
    assert told(0) == told(69) == []
    (warning,) = told(71)
    assert warning.startswith("storage.client_cert_path: CN=anna expires in 29 days. ")
    assert "expires in 10 days" in told(90)[0]
    assert "expires in 12 hours" in told(99.5)[0]
    assert "has expired" in told(101)[0]


def test_how_long_before_is_a_setting(ca: Authority, tmp_path: Path):
    pair = ca.pair("anna", days=10)
    named = {"sync_nats_client_cert": pair.cert, "sync_nats_client_key": pair.key}
    assert len(expiry_warnings(certificates(loaded(tmp_path, **named)))) == 1
    config = loaded(tmp_path, **named, secrets_expiry_warning="7d")
    assert expiry_warnings(certificates(config)) == []


def test_of_several_authorities_the_last_to_expire_counts(ca: Authority, tmp_path: Path):
    old = ca.pair("old authority", days=1)
    both = tmp_path / "both.pem"
    both.write_bytes(old.cert.read_bytes() + ca.file.read_bytes())
    (info,) = certificates(loaded(tmp_path, storage_ca_cert_path=both))
    assert (info.subject, info.problem) == ("CN=test authority", "")


def test_a_pair_that_systemd_handed_over_is_found(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / "handed-over"
    directory.mkdir()
    pair = ca.pair("anna")
    (directory / "store-client-cert").write_bytes(pair.cert.read_bytes())
    (directory / "store-client-key").write_bytes(pair.key.read_bytes())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    (info,) = certificates(loaded(tmp_path))
    assert (info.subject, info.problem) == ("CN=anna", "")


def test_what_cannot_be_used_is_told_with_its_remedy(ca: Authority, tmp_path: Path):
    one, other = ca.pair("anna"), ca.pair("anna")
    config = loaded(
        tmp_path,
        storage_client_cert_path=one.cert,
        storage_client_key_path=other.key,
        sync_nats_ca_cert=tmp_path / "none.pem",
        sync_nats_credentials_file=tmp_path / "none.creds",
    )
    found = certificates(config)
    assert [info.setting for info in found] == [
        "storage.client_cert_path",
        "sync.nats_ca_cert",
        "sync.nats_credentials_file",
    ]
    assert "does not belong" in found[0].problem
    assert all(info.problem and info.remedy and not info.expires_at for info in found)


def test_an_encrypted_key_opens_with_the_password_of_the_credentials_file(
    ca: Authority, tmp_path: Path
):
    pair = ca.pair("anna", password=b"key-password")
    file = tmp_path / "credentials"
    file.touch(0o600)
    named = {"storage_client_cert_path": pair.cert, "storage_client_key_path": pair.key}
    config = loaded(tmp_path, **named, storage_credentials_file=file)
    assert "encrypted" in certificates(config)[0].problem
    file.write_text("client-key-password = key-password\n")
    (info,) = certificates(config)
    assert (info.subject, info.problem) == ("CN=anna", "")
    assert list_credentials(config).certificates == (info,)


def test_nats_credentials_tell_when_their_jwt_expires(tmp_path: Path):
    account = Operator().account("fleet")
    file = account.user("anna", days=10).write(tmp_path / "anna.creds")
    config = loaded(tmp_path, sync_nats_credentials_file=file)
    (info,) = certificates(config)
    assert info.expires_at == pytest.approx(time.time() + 10 * DAY_S, abs=60)
    assert "anna expires in 10 days" in info.problem
    account.user("anna", days=None).write(file)
    assert certificates(config) == ()
    file.chmod(0o644)
    assert "can be read by others" in certificates(config)[0].problem
