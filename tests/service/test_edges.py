"""What stands around the daemon's loop: its report, counters, log, page and notifications."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tcfs.errors import ConfigError
from tcfs.host.lock import file_lock
from tcfs.service.daemon import report as reports
from tcfs.service.daemon.counters import Counters
from tcfs.service.daemon.logs import JsonFormatter, TextFormatter
from tcfs.service.daemon.notify import Notifier
from tcfs.service.daemon.report import FRESH_S, Report, RootReport
from tcfs.service.daemon.web import Web


def written(directory: Path, **values) -> None:
    root = RootReport("/a", "tcfs/default/a", "in sync")
    values = {"pid": os.getpid(), "updated_at": time.time(), **values}
    reports.write(directory, Report(state="running", message="fine", roots=(root,), **values))


def test_the_lock_says_whether_a_daemon_runs_whatever_the_report_says(tmp_path: Path):
    assert reports.read(tmp_path).state == "not running"
    written(tmp_path)
    assert reports.read(tmp_path).state == "not running"
    with file_lock(os.fsencode(tmp_path / reports.LOCK), False):
        found = reports.read(tmp_path)
        assert (found.state, found.pid, found.roots[0].state) == (
            "running",
            os.getpid(),
            "in sync",
        )
    assert reports.read(tmp_path).state == "not running"


def test_a_report_may_name_a_path_that_is_no_text(tmp_path: Path):
    problem = f"{os.fsdecode(b'certs/' + bytes([0xFF]))} expires soon"
    with file_lock(os.fsencode(tmp_path / reports.LOCK), False):
        told = Report(state="running", pid=os.getpid(), updated_at=time.time(), warnings=(problem,))
        reports.write(tmp_path, told)
        assert reports.read(tmp_path) == told


def test_a_report_that_is_old_another_ones_or_damaged_is_not_believed(tmp_path: Path):
    with file_lock(os.fsencode(tmp_path / reports.LOCK), False):
        assert "starting" in reports.read(tmp_path).message
        written(tmp_path, updated_at=time.time() - FRESH_S - 5)
        assert reports.read(tmp_path).state == "not responding"
        written(tmp_path, pid=os.getpid() + 1)
        assert "starting" in reports.read(tmp_path).message
        (tmp_path / reports.FILE).write_text('{"roots": 7}')
        assert "starting" in reports.read(tmp_path).message


def test_counters_are_told_in_prometheus_words():
    counters = Counters()
    counters.add("tcfs_pushes_total", 2)
    counters.add("tcfs_errors_total", step="push", code="store")
    counters.set("tcfs_root_ok", True, root='od"d\n\\')
    counters.took("push", 0.02)
    counters.took("push", 3)
    lines = counters.text().splitlines()
    assert "# TYPE tcfs_pushes_total counter" in lines
    assert "tcfs_pushes_total 2" in lines
    assert 'tcfs_errors_total{code="store",step="push"} 1' in lines
    assert 'tcfs_root_ok{root="od\\"d\\n\\\\"} 1' in lines
    assert 'tcfs_step_seconds_bucket{step="push",le="0.025"} 1' in lines
    assert 'tcfs_step_seconds_bucket{step="push",le="+Inf"} 2' in lines
    assert 'tcfs_step_seconds_count{step="push"} 2' in lines
    assert 'tcfs_step_seconds_sum{step="push"} 3.02' in lines
    assert counters.totals() == {"pushes": 2}


def test_the_page_has_metrics_health_and_readiness():
    well = True
    web = Web(
        "127.0.0.1:0",
        metrics=lambda: "tcfs_up 1\n",
        healthy=lambda: (True, "ok"),
        ready=lambda: (well, "ok" if well else "the store cannot be used"),
    )
    try:

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{web.port}{path}") as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        assert get("/metrics") == (200, "tcfs_up 1\n")
        assert get("/healthz?x=1") == (200, "ok\n")
        assert get("/readyz") == (200, "ok\n")
        well = False
        assert get("/readyz") == (503, "the store cannot be used\n")
        assert get("/other")[0] == 404
        with pytest.raises(ConfigError, match="listened on"):
            Web(
                f"127.0.0.1:{web.port}",
                metrics=str,
                healthy=lambda: (True, ""),
                ready=lambda: (True, ""),
            )
    finally:
        web.close()
    with pytest.raises(ConfigError, match="host:port"):
        Web("nowhere", metrics=str, healthy=lambda: (True, ""), ready=lambda: (True, ""))


def test_systemd_is_told_over_its_socket(tmp_path: Path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
        assert notifier.watchdog_s == 2.0
        notifier.send(READY="1", STATUS="in sync\nMAINPID=1")
        assert listener.recv(100) == b"READY=1\nSTATUS=in sync"
    notifier.send(READY="1")  # systemd is gone
    Notifier({}).send(READY="1")
    assert Notifier({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_a_log_line_is_one_line_whatever_a_file_is_called():
    record = logging.LogRecord(
        "tcfs.daemon", logging.INFO, "f.py", 1, "pushed %s", ("a\n\x1b[2Jb",), None
    )
    record.root = "/x\ny"
    line = TextFormatter().format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    assert "root=/x\\ny" in line
    data = json.loads(JsonFormatter().format(record))
    assert data["message"] == "pushed a\n\x1b[2Jb"
    assert (data["level"], data["root"]) == ("info", "/x\ny")
