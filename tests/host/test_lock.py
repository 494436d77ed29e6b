"""The lock on a path: between processes, threads and forks."""

import os
import subprocess
import sys
import threading

import pytest

from tcfs.errors import BusyError
from tcfs.host.lock import file_lock


@pytest.fixture
def path(tmp_path):
    return os.fsencode(tmp_path / "lock")


def test_a_second_holder_is_refused_and_told_the_pid_of_the_first(path):
    with file_lock(path, False):
        with pytest.raises(BusyError) as caught, file_lock(path, False):
            pass
        assert str(os.getpid()) in caught.value.message
        assert caught.value.details["pid"] == os.getpid()
        assert caught.value.retryable
    with file_lock(path, False):
        pass
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_thread_that_would_wait_for_itself_is_refused(path):
    with file_lock(path, True), pytest.raises(BusyError), file_lock(path, True):
        pass


def test_a_waiting_thread_gets_the_lock_when_it_is_free(path):
    order = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with file_lock(path, True):
            order.append("second")

    with file_lock(path, False):
        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_one_of_many_threads_holds_it_at_a_time(path):
    inside: list[int] = []
    most = []

    def run(number: int) -> None:
        for _ in range(20):
            with file_lock(path, True):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) == 120


HOLDER = """
import os, sys
from tcfs.host.lock import file_lock
with file_lock(sys.argv[1].encode(), False):
    if sys.argv[2] == "alone" or os.fork() == 0:
        print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: bytes, *, forking: bool = False) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "forking" if forking else "alone"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_another_process_is_kept_out_and_a_killed_one_leaves_no_lock(path):
    holder = hold(path)
    with pytest.raises(BusyError) as caught, file_lock(path, False):
        pass
    assert caught.value.details["pid"] == holder.pid
    holder.kill()
    holder.communicate()
    with file_lock(path, False):
        pass


def test_a_program_started_meanwhile_does_not_keep_the_lock(path):
    with file_lock(path, False):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    with file_lock(path, False):
        child.communicate()


def test_a_forked_child_neither_holds_nor_releases_the_lock(path):
    to_child, wake = os.pipe()
    ready, from_child = os.pipe()
    with file_lock(path, False):
        pid = os.fork()
        if pid == 0:
            os.write(from_child, b"r")
            os.read(to_child, 1)
            os._exit(0)
        os.read(ready, 1)
        with pytest.raises(BusyError), file_lock(path, False):
            pass
    with file_lock(path, False):
        os.write(wake, b"x")
        os.waitpid(pid, 0)
    for fd in (to_child, wake, ready, from_child):
        os.close(fd)


def test_a_child_that_leaves_the_context_it_was_forked_in_does_not_unlock(path):
    pid = -1
    try:
        with file_lock(path, False):
            pid = os.fork()
            if pid == 0:
                raise SystemExit
            os.waitpid(pid, 0)
            with pytest.raises(BusyError), file_lock(path, False):
                pass
    finally:
        if pid == 0:
            os._exit(0)


def test_a_child_that_outlives_a_killed_holder_does_not_keep_the_lock(path):
    holder = hold(path, forking=True)
    holder.kill()
    holder.wait()
    with file_lock(path, False):
        holder.communicate()  # ends the child


def test_a_symlink_in_place_of_the_lock_is_not_followed(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(OSError, match="symbolic"), file_lock(path, False):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_without_a_pid_still_says_that_it_is_busy(path):
    with file_lock(path, False):
        os.truncate(path, 0)
        with pytest.raises(BusyError, match="another process"), file_lock(path, False):
            pass
