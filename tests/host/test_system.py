"""What the engine gets when it is not a test."""

import os

from tcfs.host.executor import ProcessExecutor, SerialExecutor
from tcfs.host.posix import PosixFileSystem
from tcfs.host.system import system_host


def test_the_machine_is_made_of_the_real_parts(tmp_path):
    host = system_host()
    assert host.files == PosixFileSystem()
    assert host.clock.now() > 1.7e9
    assert host.clock.monotonic() <= host.clock.monotonic()
    assert len(host.entropy.token(32)) == 32
    assert host.entropy.token(32) != host.entropy.token(32)
    with host.lock(os.fsencode(tmp_path / "lock"), False):
        pass


def test_one_worker_needs_no_other_process():
    host = system_host()
    assert isinstance(host.executor(1), SerialExecutor)
    several = host.executor(3)
    assert isinstance(several, ProcessExecutor)
    assert several.workers == 3
    several.close()
