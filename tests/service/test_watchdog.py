"""What systemd hears of the daemon, over a real notification socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcfs.config.load import load_config
from tcfs.errors import StoreError
from tcfs.service.daemon import serve
from tcfs.sync.fleet import Fleet

TCFS = str(Path(sys.executable).with_name("tcfs"))
PATIENCE_S = 30.0


class Supervisor:
    """Listens where systemd would."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def hear(self, seconds: float = PATIENCE_S) -> dict[str, str]:
        """The next message. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        text = self._socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.splitlines())

    def hear_until_silence(self, seconds: float) -> None:
        """Hear messages until none comes for so long, which raises TimeoutError."""
        while True:
            self.hear(seconds)

    def hear_of(self, *names: str) -> list[dict[str, str]]:
        """Messages up to the one with the last of these names, which come in this order."""
        heard: list[dict[str, str]] = []
        for name in names:
            while name not in (message := self.hear()):
                heard.append(message)
            heard.append(message)
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    made.close()


def test_systemd_hears_when_it_is_ready_that_it_lives_reloads_and_leaves(
    supervisor: Supervisor, tmp_path: Path
):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
    environ |= {"TCFS_HOME": str(tmp_path / "home"), "TCFS_REMOTE": f"file://{tmp_path}/store"}
    subprocess.run([TCFS, "init", "--name", "anna", "-q"], env=environ, check=True)
    notify = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "200000"}
    with (tmp_path / "log").open("wb") as log:
        daemon = subprocess.Popen([TCFS, "daemon"], env=environ | notify, stderr=log)
    try:
        supervisor.hear_of("READY", "WATCHDOG", "WATCHDOG")
        daemon.send_signal(signal.SIGHUP)
        heard = supervisor.hear_of("RELOADING", "READY")
        (reload_,) = [message for message in heard if "RELOADING" in message]
        assert int(reload_["MONOTONIC_USEC"]) > 0
        supervisor.hear_of("WATCHDOG")
        daemon.send_signal(signal.SIGTERM)
        supervisor.hear_of("STOPPING")
        assert daemon.wait(PATIENCE_S) == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_a_loop_that_is_stuck_is_not_said_to_live(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.address)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setattr(serve, "HUNG_S", 0.4)
    monkeypatch.setattr(serve, "OPEN_RETRY_S", (0.05, 0.05))
    stuck, free, moving = threading.Event(), threading.Event(), threading.Event()
    moving.set()

    def open_() -> Fleet:
        if not moving.is_set():
            stuck.set()
            assert free.wait(PATIENCE_S)
            moving.set()
        raise StoreError("the store is away")

    environ = {"HOME": str(tmp_path), "TCFS_HOME": str(tmp_path / "home")}
    service = serve.Service(load_config(environ=environ), open_=open_)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        supervisor.hear_of("READY", "WATCHDOG", "WATCHDOG")
        moving.clear()
        assert stuck.wait(PATIENCE_S)
        with pytest.raises(TimeoutError):
            supervisor.hear_until_silence(1.0)
        assert not service._healthy()[0]
        free.set()
        supervisor.hear_of("WATCHDOG", "WATCHDOG")
        service.inbox.stop()
        supervisor.hear_of("STOPPING")
    finally:
        free.set()
        service.inbox.stop()
        thread.join(PATIENCE_S)
