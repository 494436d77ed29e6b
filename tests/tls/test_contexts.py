"""Files of certificates: what is read, what is refused, and what a change of them does."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path

import pytest

from tcfs.errors import ConfigError
from tcfs.tls.certificates import read_certificates
from tcfs.tls.contexts import STORE, TlsContexts, TlsFiles, own_certificate
from tcfs.tls.trouble import TlsTrouble, ssl_error_in, trouble_of
from tests.certificates import Authority, Pair

DAY_S = 86400


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, **more) -> TlsFiles:
    return TlsFiles(STORE, cert=pair.cert, key=pair.key, **more)


def _problem(contexts: TlsContexts) -> str:
    return contexts.problem.text if contexts.problem else ""


def test_a_certificate_tells_whose_it_is_and_when_it_ends(ca: Authority):
    chain = ca.pair("anna", days=10).cert.read_bytes() + ca.file.read_bytes()
    own, authority = read_certificates(chain)
    assert (own.subject, own.issuer) == ("CN=anna", "CN=test authority")
    assert authority.subject == own.issuer
    assert own.not_before < time.time()
    assert own.not_after == pytest.approx(time.time() + 10 * DAY_S, abs=60)
    with pytest.raises(ValueError, match="PEM"):
        read_certificates(b"no certificate")


def test_the_context_is_the_same_until_a_file_changes(ca: Authority, tmp_path: Path):
    pair, new = ca.pair("anna"), ca.pair("anna")
    contexts = TlsContexts(files(pair, ca=ca.file))
    first = contexts.context()
    assert contexts.context() is first
    pair.write(new)
    second = contexts.context()
    assert second is not first
    assert contexts.context() is second
    before = second.get_ca_certs()
    ca.file.write_bytes(ca.file.read_bytes() + Authority(tmp_path, "next").file.read_bytes())
    assert len(contexts.context().get_ca_certs()) == len(before) + 1


def test_half_of_a_new_pair_changes_nothing_and_is_warned_of_once(
    ca: Authority, caplog: pytest.LogCaptureFixture
):
    pair, new = ca.pair("anna"), ca.pair("anna")
    contexts = TlsContexts(files(pair))
    first = contexts.context()
    old_key = pair.key.read_bytes()
    pair.cert.write_bytes(new.cert.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert contexts.context() is first
        assert contexts.context() is first
    assert "does not belong to the certificate" in _problem(contexts)
    assert caplog.text.count("does not belong") == 1
    pair.key.write_bytes(b"")
    assert contexts.context() is first
    pair.key.unlink()
    assert contexts.context() is first
    pair.key.touch(0o600)
    pair.key.write_bytes(new.key.read_bytes())
    assert contexts.context() is not first
    assert _problem(contexts) == ""
    # Without anything that was good before, it is an error.
    pair.key.write_bytes(old_key)
    with pytest.raises(TlsTrouble, match="does not belong") as caught:
        TlsContexts(files(pair)).context()
    assert caught.value.kind == "files"


def test_an_expired_certificate_is_refused_before_a_server_can_and_a_new_one_is_taken_up(
    ca: Authority,
):
    now = time.time()
    pair = ca.pair("anna", days=1)
    contexts = TlsContexts(files(pair, now=lambda: now))
    contexts.context()
    now += 2 * DAY_S
    with pytest.raises(TlsTrouble, match=r"client_cert_path\) expired on 20") as caught:
        contexts.context()
    assert caught.value.kind == "client_expired"
    assert "without a restart" in caught.value.remedy
    pair.write(ca.pair("anna", days=100))
    assert contexts.context().cert_store_stats()["x509"] >= 0


def test_a_key_that_others_can_read_is_refused(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pair = ca.pair("anna")
    pair.key.chmod(0o640)
    with pytest.raises(TlsTrouble, match="can be read by others") as caught:
        own_certificate(files(pair))
    assert "chmod 600" in caught.value.remedy
    # systemd keeps the directory of what it hands over; modes there show its access lists.
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = own_certificate(files(pair))
    assert found is not None
    assert found.subject == "CN=anna"


def test_an_encrypted_key_opens_with_the_password_and_is_never_asked_for(ca: Authority):
    pair = ca.pair("anna", password=b"key-password")
    with pytest.raises(TlsTrouble, match="encrypted") as caught:
        own_certificate(files(pair))
    assert "TCFS_CLIENT_KEY_PASSWORD" in caught.value.remedy
    with pytest.raises(TlsTrouble, match="another password"):
        own_certificate(files(pair, password=lambda: "wrong"))
    assert own_certificate(files(pair, password=lambda: "key-password"))

    def broken() -> str:
        raise ConfigError("the credentials file is damaged", remedy="Mend it.")

    with pytest.raises(TlsTrouble, match="credentials file is damaged"):
        own_certificate(files(pair, password=broken))


def test_files_that_cannot_be_used_name_their_setting(ca: Authority, tmp_path: Path):
    pair, none, empty = ca.pair("anna"), tmp_path / "none", tmp_path / "empty"
    empty.touch(0o600)
    for wrong, words in (
        (TlsFiles(STORE, ca=none), "storage.ca_cert_path: .* cannot be read"),
        (TlsFiles(STORE, ca=empty), "storage.ca_cert_path: .* holds no certificates"),
        (TlsFiles(STORE, cert=pair.cert), "client_cert_path is set, and .*key_path is not"),
        (TlsFiles(STORE, key=pair.key), "client_key_path is set, and .*cert_path is not"),
        (TlsFiles(STORE, cert=none, key=pair.key), "client_cert_path: .* cannot be read"),
        (TlsFiles(STORE, cert=empty, key=pair.key), "client_cert_path: .* no certificates"),
        (TlsFiles(STORE, cert=pair.cert, key=none), "client_key_path: .* is not there"),
        (TlsFiles(STORE, cert=pair.cert, key=empty), "client_key_path: .* no private key"),
    ):
        with pytest.raises(TlsTrouble, match=words) as caught:
            TlsContexts(wrong).context()
        assert caught.value.kind == "files"
        assert caught.value.remedy


def test_a_connection_that_merely_ended_is_no_trouble_of_tls():
    assert ssl_error_in(ssl.SSLEOFError(8, "EOF occurred")) is None
    assert ssl_error_in(ConnectionResetError()) is None
    alert = ssl.SSLError(1, "alert")
    wrapped = ValueError("x")
    wrapped.__cause__ = OSError(alert)
    assert ssl_error_in(wrapped) is alert


@pytest.mark.parametrize(
    ("reason", "with_cert", "kind"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", False, "client_wanted"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", False, "client_wanted"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", True, "client_refused"),
        ("TLSV1_ALERT_UNKNOWN_CA", True, "client_refused"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", True, "client_expired"),
        ("WRONG_VERSION_NUMBER", False, "no_tls"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", True, "server_refused"),
        ("", False, "server_refused"),
    ],
)
def test_alerts_have_kinds(reason: str, with_cert: bool, kind: str):
    error = ssl.SSLError(1, reason)
    error.reason = reason
    trouble = trouble_of(error, STORE, with_cert=with_cert)
    assert trouble.kind == kind
    assert trouble.text
    assert trouble.remedy
