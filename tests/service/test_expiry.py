"""The daemon's watch over certificates: gauges, warnings, and that a new one is noticed."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from tcfs.config.load import load_config
from tcfs.service.daemon.counters import Counters
from tcfs.service.daemon.expiry import EVERY_S, ExpiryWatch
from tests.certificates import Authority

SETTING = "storage.client_cert_path"


def test_a_certificate_that_expires_is_warned_of_until_it_is_renewed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ca = Authority(tmp_path)
    pair = ca.pair("anna", days=10)
    counters = Counters()
    environ = {
        "HOME": str(tmp_path),
        "TCFS_HOME": str(tmp_path / "home"),
        "TCFS_STORAGE_CLIENT_CERT_PATH": str(pair.cert),
        "TCFS_STORAGE_CLIENT_KEY_PATH": str(pair.key),
    }
    watch = ExpiryWatch(load_config(environ=environ), counters)
    with caplog.at_level(logging.WARNING):
        assert watch.look(0.0)
        assert not watch.look(EVERY_S)
    assert caplog.text.count("CN=anna expires in 10 days") == 1
    assert len(watch.warnings) == 1
    assert counters.get("tcfs_certificate_ok", setting=SETTING) == 0
    when = counters.get("tcfs_certificate_expiry_timestamp_seconds", setting=SETTING)
    assert when == pytest.approx(time.time() + 10 * 86400, abs=60)
    assert f"{when:.0f}\n" in counters.text(), "no digit of it is rounded away"

    pair.write(ca.pair("anna", days=100))
    assert not watch.look(EVERY_S + 1), "not yet"
    watch.again()
    assert watch.look(EVERY_S + 1)
    assert list(watch.warnings) == []
    assert counters.get("tcfs_certificate_ok", setting=SETTING) == 1
