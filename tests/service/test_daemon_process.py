"""The daemon as a process: on real servers, killed ones included, beside commands, told to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tcfs.service.servers import private
from tcfs.service.servers.nats import NatsServer
from tcfs.service.servers.process import free_ports
from tcfs.service.servers.weed import WeedServer
from tests.deep import deep
from tests.guarded import guarded_server
from tests.service.machines import TCFS, Machine, until


def on_servers(store: WeedServer, events: NatsServer, tmp_path: Path) -> dict[str, str]:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(events.token)
    return {
        **private.store_environment(store),
        "TCFS_NATS_URL": events.url,
        "TCFS_SYNC_NATS_CREDENTIALS_FILE": str(token),
        "TCFS_SYNC_POLL_INTERVAL": "2",
    }


def test_a_daemon_says_how_it_is_works_beside_commands_and_ends_when_told(
    fleet: Callable[..., list[Machine]], tmp_path: Path
):
    (port,) = free_ports(1)
    environ = {
        "TCFS_REMOTE": f"file://{tmp_path}/store",
        "TCFS_SYNC_POLL_INTERVAL": "1",
        "TCFS_DAEMON_LOG_FORMAT": "json",
        "TCFS_DAEMON_METRICS_ADDR": f"127.0.0.1:{port}",
    }
    (anna,) = fleet(environ, "anna")
    anna.start()
    until(lambda: anna.in_sync("polling"), "the daemon")
    (anna.tree / "a.txt").write_text("one")
    until(lambda: "a.txt" in anna.tcfs("log", "--json"), "the watched file")
    # Commands beside it, and a second daemon, which is refused.
    (anna.tree / "b.txt").write_text("two")
    anna.tcfs("push", str(anna.tree))
    anna.tcfs("daemon", expect=17)
    status = json.loads(anna.tcfs("status", "--json"))["daemon"]
    assert (status["state"], status["live"]) == ("running", "polling")
    assert "no NATS server is configured" in status["live_message"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.read() == b"ok\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"tcfs_pushes_total" in answer.read()
    assert anna.end() == 0
    assert json.loads(anna.tcfs("status", "--json"))["daemon"]["state"] == "not running"
    assert json.loads(anna.tcfs("verify", "--json"))["ok"]
    lines = [json.loads(line) for line in anna.log.read_text().splitlines()]
    assert lines[-1]["message"] == "stopped"
    assert not [line for line in lines if line["level"] == "error"]


@pytest.mark.slow
def test_servers_are_killed_robbed_and_restarted_and_nothing_is_lost(
    fleet: Callable[..., list[Machine]],
    start_weed: Callable[..., WeedServer],
    start_nats: Callable[..., NatsServer],
    tmp_path: Path,
):
    store, events = start_weed(), start_nats()
    private.make_bucket(store)
    anna, ben = machines = fleet(on_servers(store, events, tmp_path), "anna", "ben")
    for machine in machines:
        machine.start()
    for machine in machines:
        until(machine.in_sync, f"{machine.name} to be live")
    (anna.tree / "one.txt").write_text("one")
    until(lambda: ben.read("one.txt") == "one", "an event to move a file")

    events.kill()
    shutil.rmtree(events.directory / "data")
    (ben.tree / "two.txt").write_text("two")
    until(lambda: anna.read("two.txt") == "two", "polling to move a file")
    assert anna.report.live == "polling"
    assert "NATS cannot be used" in anna.report.live_message
    events.start()
    for machine in machines:
        until(machine.in_sync, f"{machine.name} to be live again")

    store.kill()
    (anna.tree / "three.txt").write_text("three")
    (ben.tree / "four.txt").write_text("four")
    until(lambda: anna.report.store_problem, "the store's failure to be told")
    assert ben.end(signal.SIGKILL) == -signal.SIGKILL
    store.start()
    ben.start()
    until(lambda: ben.read("three.txt") == "three", "the store's return")
    until(lambda: anna.read("four.txt") == "four", "what a killed daemon had not sent")
    assert anna.end() == ben.end() == 0
    for machine in machines:
        assert json.loads(machine.tcfs("verify", "--read-data", "--json"))["ok"]
    for log in (anna.log, ben.log):
        assert "Traceback" not in log.read_text()


@deep  # its parts are shown by tests/store/test_tls.py and tests/live/test_nats.py
def test_a_daemon_warns_of_its_certificate_and_works_on_with_the_new_one(
    fleet: Callable[..., list[Machine]],
    weed_server: WeedServer,
    start_nats: Callable[..., NatsServer],
    tmp_path: Path,
):
    port, monitor = free_ports(2)
    with guarded_server("s3", weed_server, tmp_path) as store:
        ca, server = store.ca, store.ca.pair("nats")
        events = start_nats(
            token="",
            more=f'''
            tls {{ cert_file: "{server.cert}", key_file: "{server.key}", ca_file: "{ca.file}",
                   verify_and_map: true }}
            authorization {{ users: [{{ user: "CN=old" }}, {{ user: "CN=new" }}] }}
            http: "127.0.0.1:{monitor}"
            ''',
        )
        pair = ca.pair("old", days=10)
        environ = {
            "TCFS_REMOTE": store.url,
            "TCFS_S3_ACCESS": weed_server.access,
            "TCFS_S3_SECRET": weed_server.secret,
            "TCFS_STORAGE_CA_CERT_PATH": str(ca.file),
            "TCFS_STORAGE_CLIENT_CERT_PATH": str(pair.cert),
            "TCFS_STORAGE_CLIENT_KEY_PATH": str(pair.key),
            "TCFS_NATS_URL": events.url,
            "TCFS_SYNC_NATS_CA_CERT": str(ca.file),
            "TCFS_SYNC_NATS_CLIENT_CERT": str(pair.cert),
            "TCFS_SYNC_NATS_CLIENT_KEY": str(pair.key),
            "TCFS_DAEMON_METRICS_ADDR": f"127.0.0.1:{port}",
        }

        def metric(setting: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            name = f'tcfs_certificate_ok{{setting="{setting}"}} '
            return "".join(line.removeprefix(name) for line in lines if line.startswith(name))

        def user() -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/connz?auth=1") as answer:
                return [one["authorized_user"] for one in json.load(answer)["connections"]]

        (anna,) = fleet(environ, "anna")
        anna.start()
        until(anna.in_sync, "the daemon to be live")
        warning = "storage.client_cert_path: CN=old expires in 10 days"
        assert any(warning in told for told in anna.report.warnings)
        assert warning in anna.tcfs("status", "--json")
        assert metric("storage.client_cert_path") == metric("sync.nats_client_cert") == "0"
        assert (metric("storage.ca_cert_path"), user()) == ("1", ["CN=old"])

        before = anna.report.counters.get("pushes", 0)
        pair.write(ca.pair("late", days=-1))
        (anna.tree / "now.txt").write_text("while it has expired")
        until(lambda: "expired on" in anna.report.store_problem, "the expiry to be told")
        assert anna.report.counters.get("pushes", 0) == before
        # Every connection after this is a new one, and shows what stands there now.
        pair.write(ca.pair("new", days=300))
        store.restart()
        events.kill()
        events.start()
        (anna.tree / "later.txt").write_text("with the new pair")
        until(lambda: anna.report.counters.get("pushes", 0) > before, "the daemon to push")
        until(lambda: anna.in_sync() and user() == ["CN=new"], "the daemon to be live again")
        os.kill(anna.report.pid, signal.SIGHUP)
        until(lambda: not anna.report.warnings, "the warning to go")
        assert metric("storage.client_cert_path") == metric("sync.nats_client_cert") == "1"
        assert anna.end() == 0
    text = anna.log.read_text()
    assert "taken up anew" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_the_rfc_is_carried_out_as_written_on_real_servers(
    weed_server: WeedServer, nats_server: NatsServer, tmp_path: Path
):
    operator = Machine(tmp_path, "operator", on_servers(weed_server, nats_server, tmp_path))
    before = _keys(weed_server)
    result = json.loads(
        subprocess.run(
            [TCFS, "fleet", "verify", "--json"],
            env=operator.environ,
            capture_output=True,
            text=True,
            timeout=115,
        ).stdout
    )
    failed = [step for step in result["steps"] if not step["ok"]]
    assert failed == []
    assert [step["phase"] for step in result["steps"]] == [2] * 3 + [3] * 3 + [4] * 3 + [6] * 5
    assert result["events"] == "nats"
    assert result["left_behind"] == []
    left = {key for key in _keys(weed_server) - before if key.startswith(result["scratch"])}
    assert left == set()


def _keys(server: WeedServer) -> set[str]:
    from tests.servers import s3_client

    client = s3_client(server)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=private.BUCKET)
        return {item["Key"] for page in pages for item in page.get("Contents", ())}
    finally:
        client.close()
