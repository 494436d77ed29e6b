"""Private servers as processes."""

import http.client
import os
import signal
import stat
from pathlib import Path

import pytest

from tcfs.errors import BusyError, ConfigError, LocalFileError
from tcfs.service.servers import nats, process, weed
from tests.servers import BUCKET, READER, s3_client, unique


def a_service(directory: Path, *command: str, ready=lambda: True) -> process.Service:
    return process.Service("sleeper", directory, command, ready)


def test_a_server_runs_until_it_is_stopped_and_is_known_by_its_lock(tmp_path):
    service = a_service(tmp_path / "new", "/bin/sleep", "60")
    assert process.running(service) is None
    pid = process.start(service)
    assert process.running(service) == pid
    with pytest.raises(BusyError):
        process.start(service)
    assert process.stop(service)
    assert process.running(service) is None
    assert not process.stop(service)


def test_a_server_that_was_killed_is_not_running_whoever_has_its_pid_now(tmp_path):
    service = a_service(tmp_path, "/bin/sleep", "60")
    process.start(service)
    assert process.kill(service)
    service.lock.write_text(f"{os.getpid()}\n")
    assert process.running(service) is None
    assert not process.stop(service)


def test_a_server_that_ignores_sigterm_is_killed(tmp_path):
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done"
    service = a_service(tmp_path, "/bin/sh", "-c", script, ready=ready.exists)
    process.start(service)
    assert process.stop(service, timeout=0.3)
    assert process.running(service) is None


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(tmp_path):
    service = a_service(tmp_path, "/bin/sh", "-c", "echo no such disk >&2", ready=lambda: False)
    with pytest.raises(LocalFileError, match="no such disk"):
        process.start(service)


def test_a_server_that_never_serves_is_stopped_again(tmp_path):
    service = a_service(tmp_path, "/bin/sleep", "60", ready=lambda: False)
    with pytest.raises(LocalFileError, match="did not serve"):
        process.start(service, timeout=0.2)
    assert process.running(service) is None


def test_an_absent_program_is_an_error_that_says_what_to_install():
    with pytest.raises(ConfigError) as caught:
        process.find_program("no-such-program")
    assert "tcfs[servers]" in caught.value.remedy


def test_free_ports_are_distinct_and_nothing_listens_on_them():
    ports = process.free_ports(6)
    assert len(set(ports)) == 6
    assert not any(process.connects(port) for port in ports)


def test_the_gateway_takes_the_admins_key_and_holds_the_reader_to_reading(weed_server):
    admin, reader = s3_client(weed_server), s3_client(weed_server, READER)
    key = unique("servers") + "/a"
    admin.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    assert reader.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"
    with pytest.raises(reader.exceptions.ClientError, match="AccessDenied"):
        reader.put_object(Bucket=BUCKET, Key=key, Body=b"y")
    for client in (admin, reader):
        client.close()


def test_the_filer_refuses_who_has_no_token(weed_server):
    connection = http.client.HTTPConnection("127.0.0.1", weed_server.filer_port)
    connection.request("GET", "/buckets/")
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.parametrize("module", [weed, nats])
def test_keys_are_kept_in_private_files_and_on_no_command_line(tmp_path, module):
    server = module.plan(tmp_path)
    server.save()
    assert module.load(tmp_path) == server
    assert stat.S_IMODE((tmp_path / "settings.json").stat().st_mode) == 0o600
    secrets = [server.secret, server.filer_key] if module is weed else [server.token]
    for secret in secrets:
        assert len(secret) > 20
        assert secret not in " ".join(server.service.command)


def test_damaged_settings_are_an_error_and_absent_ones_are_none(tmp_path):
    assert weed.load(tmp_path) is None
    assert nats.load(tmp_path) is None
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "settings.json").chmod(0o600)
    for module in (weed, nats):
        with pytest.raises(ConfigError):
            module.load(tmp_path)


def test_nats_can_be_started_again_after_a_kill(start_nats):
    server = start_nats()
    assert process.connects(server.port)
    pid = server.running()
    os.kill(pid, signal.SIGKILL)
    server.kill()
    assert server.running() is None
    server.start()
    assert server.running() not in (None, pid)
