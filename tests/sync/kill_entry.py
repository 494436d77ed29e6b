"""A process that kills itself: ``python -m tests.sync.kill_entry COMMAND TREE K MOMENT``.

Runs a push or pull of the device in ``TCFS_HOME`` and dies by SIGKILL at the K-th change of the
file system, be it the tree's or the store's. With K = -1 it lives and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tcfs.config.load import LoadedConfig, load_config
from tcfs.host.base import Host
from tcfs.host.faults import FaultPlan, Moment, Operation
from tcfs.host.faulty import FaultyFileSystem
from tcfs.host.posix import PosixFileSystem
from tcfs.host.system import system_host
from tcfs.store.local import LocalStore
from tcfs.sync import session, upload


class Deadly(FaultyFileSystem):
    """Workers get the plain one: it is this process that is to die."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return PosixFileSystem, ()


def run(loaded: LoadedConfig, command: str, number: int = -1, moment: str = "before") -> int:
    """Push or pull the whole tree; returns how many changes that took, if it was let live."""

    def hook(operation: Operation, reached: Moment) -> None:
        if operation.number == number and reached == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    plan = FaultPlan(hook)
    files = Deadly(PosixFileSystem(), plan)
    system = system_host()
    host = Host(files, system.clock, system.entropy, system.executor, system.lock)
    root = unquote(loaded.endpoint.removeprefix("file://"))
    fleet = session.open_fleet(
        loaded, actor="test", host=host, store=LocalStore(os.fsencode(root), files=files)
    )
    result = fleet.push([]) if command == "push" else fleet.pull()
    fleet.close()
    assert result.problems == (), result.problems
    return plan.count


def main() -> None:
    command, tree, number, moment = sys.argv[1:]
    # Worker processes take part, however small the tree.
    upload.POOL_WORTH = 0  # type: ignore[misc]
    loaded = load_config(overrides={"sync.sync_root": tree, "sync.jobs": 2})
    sys.stdout.write(str(run(loaded, command, int(number), moment)))


if __name__ == "__main__":
    main()
