"""One behaviour for serial, threaded and multi-process work; and what can happen to processes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tcfs.errors import LimitError, TcfsError
from tcfs.host.base import Executor
from tcfs.host.executor import IN_FLIGHT, ProcessExecutor, SerialExecutor, ThreadExecutor
from tcfs.host.faults import SimulatedCrash
from tcfs.host.worker import WorkerDied
from tests.host import worker_functions as functions

KINDS: dict[str, Callable[[], Executor]] = {
    "serial": SerialExecutor,
    "threads": lambda: ThreadExecutor(2),
    "processes": lambda: ProcessExecutor(2),
}


@pytest.fixture(params=list(KINDS))
def executor(request):
    executor = KINDS[request.param]()
    yield executor
    executor.close()


@pytest.fixture
def processes():
    executor = ProcessExecutor(2, grace=0.0)
    yield executor
    executor.close()


def test_every_result_comes_once(executor):
    assert sorted(executor.map(functions.square, range(100))) == [i * i for i in range(100)]
    assert list(executor.map(functions.square, [])) == []
    assert executor.workers in (1, 2)


def test_workers_that_were_started_before_do_the_work(processes):
    processes.start()
    started = {worker.pid for worker in processes._idle}
    assert len(started) == 2
    processes.start()
    assert {worker.pid for worker in processes._idle} == started
    assert set(processes.map(functions.process_id, range(20))) <= started


def test_items_are_drawn_as_results_are_taken(executor):
    drawn = []

    def items():
        for number in range(1000):
            drawn.append(number)
            yield number

    results = executor.map(functions.square, items())
    for taken in range(1, 50):
        next(results)
        assert len(drawn) <= taken + IN_FLIGHT * executor.workers
    assert len(drawn) < 100


def test_the_first_failure_is_raised_as_it_was_and_the_rest_dropped(executor):
    drawn = []

    def items():
        for number in range(1000):
            drawn.append(number)
            yield number

    with pytest.raises(LimitError) as caught:
        list(executor.map(functions.fail_from_three, items()))
    assert caught.value.message == "three"
    assert caught.value.remedy == "count on"
    assert caught.value.details == {"number": 3}
    assert len(drawn) <= 3 + IN_FLIGHT * executor.workers
    assert list(executor.map(functions.square, [5])) == [25]


def test_a_failure_of_the_items_themselves_is_raised(executor):
    def items():
        yield 1
        raise OSError("the scan failed")

    with pytest.raises(OSError, match="scan failed"):
        list(executor.map(functions.square, items()))
    assert list(executor.map(functions.square, [5])) == [25]


def test_results_that_nobody_wants_are_dropped_and_the_next_map_is_not_disturbed(executor):
    results = executor.map(functions.square, range(100))
    next(results)
    del results
    assert sorted(executor.map(functions.square, range(5))) == [0, 1, 4, 9, 16]


def test_an_executor_can_be_closed_twice_and_used_again(executor):
    assert list(executor.map(functions.square, [3])) == [9]
    executor.close()
    executor.close()
    assert list(executor.map(functions.square, [4])) == [16]


def test_a_pool_needs_a_worker():
    for kind in (ThreadExecutor, ProcessExecutor):
        with pytest.raises(ValueError, match="worker"):
            kind(0)


def test_threads_work_at_once_and_pass_on_even_a_simulated_crash():
    executor = ThreadExecutor(2)
    meeting = threading.Barrier(2, timeout=30)

    def meet(_: int) -> int:
        return meeting.wait()

    assert sorted(executor.map(meet, range(2))) == [0, 1]

    def crash(_: int) -> None:
        raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        list(executor.map(crash, [1]))
    executor.close()


def test_processes_are_others_at_most_as_many_as_asked_for_and_kept(processes):
    first = set(processes.map(functions.process_id, range(20)))
    second = set(processes.map(functions.process_id, range(20)))
    assert os.getpid() not in first
    assert len(first | second) <= 2


def test_large_items_and_results_pass_both_ways_without_a_deadlock(processes):
    blobs = [bytes([i]) * 3_000_000 for i in range(12)]
    assert sorted(processes.map(functions.echo, blobs)) == blobs


def test_a_failure_in_a_worker_tells_where_it_happened(processes):
    with pytest.raises(LimitError) as caught:
        list(processes.map(functions.fail_from_three, [3]))
    assert "fail_from_three" in "".join(caught.value.__notes__)


def test_an_error_or_result_that_cannot_travel_becomes_one_that_can(processes):
    with pytest.raises(TcfsError, match="this and that"):
        list(processes.map(functions.fail_oddly, [1]))
    with pytest.raises(Exception, match="pickle"):
        list(processes.map(functions.answer_oddly, [1]))
    with pytest.raises(Exception, match="pickle"):
        list(processes.map(lambda item: item, [1]))
    assert list(processes.map(functions.square, [5])) == [25]


def test_a_killed_worker_is_an_error_with_a_remedy_and_not_a_hang(processes):
    with pytest.raises(WorkerDied, match="signal 9") as caught:
        list(processes.map(functions.die, range(100)))
    assert "fewer workers" in caught.value.remedy
    assert sorted(processes.map(functions.square, range(5))) == [0, 1, 4, 9, 16]


def test_a_worker_killed_while_idle_is_an_error_of_the_next_item_alone(processes):
    (pid,) = processes.map(functions.process_id, [1])
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(processes.map(functions.square, [1]))
    assert list(processes.map(functions.square, [5])) == [25]


def test_a_function_that_leaves_does_not_take_the_worker_with_it(processes):
    with pytest.raises(SystemExit):
        list(processes.map(functions.leave, [1]))
    assert list(processes.map(functions.square, [5])) == [25]


def test_workers_ignore_an_interrupt(processes):
    (pid,) = processes.map(functions.process_id, [1])
    assert os.getpgid(pid) == pid, "a terminal's Ctrl-C does not even reach one that just starts"
    os.kill(pid, signal.SIGINT)
    assert list(processes.map(functions.process_id, [1])) == [pid]


def test_a_machine_without_an_interpreter_to_start_is_told_to_use_one_worker(
    processes, monkeypatch
):
    for name, value in (("executable", ""), ("frozen", True)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, value, raising=False)
            with pytest.raises(TcfsError) as caught:
                list(processes.map(functions.square, [1]))
        assert "1" in caught.value.remedy


def test_a_worker_loads_nothing_heavy_and_not_the_parents_main_module(processes):
    (loaded,) = processes.map(functions.modules, [1])
    assert not {"pytest", "multiprocessing", "pydantic", "asyncio", "subprocess"} & set(loaded)


# What follows runs a program of its own, and looks at it from outside.

PRELUDE = """
import os, sys
sys.path[:0] = {path!r}
from tcfs.host.executor import IN_FLIGHT, ProcessExecutor
from tests.host import worker_functions as functions
"""


def start(tmp_path: Path, body: str, **options: object) -> subprocess.Popen[bytes]:
    script = tmp_path / "program.py"
    script.write_text(PRELUDE.format(path=sys.path) + textwrap.dedent(body))
    return subprocess.Popen(
        [sys.executable, os.fspath(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def test_a_program_without_a_main_guard_runs_once_and_keeps_its_stdin_and_stdout(tmp_path):
    program = start(
        tmp_path,
        """
        print("begun", flush=True)
        executor = ProcessExecutor(2)
        print(sorted(executor.map(functions.chatter, range(4))))
        executor.close()
        print(sys.stdin.read())
        """,
    )
    out, err = program.communicate(b"for the parent", timeout=60)
    assert out == b"""begun\n["b''", "b''", "b''", "b''"]\nfor the parent\n"""
    assert err.count(b"printed by a worker") == 4
    assert err.count(b"written by a worker") == 4


def test_modules_in_the_current_directory_are_not_imported_by_workers(tmp_path):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("pickle.py", "traceback.py", "fcntl.py", "tcfs.py"):
        (trap / name).write_text("import os; os.write(2, b'trapped'); os._exit(1)")
    program = start(
        tmp_path,
        """
        executor = ProcessExecutor(1)
        print(list(executor.map(functions.square, [4])))
        executor.close()
        """,
        cwd=trap,
    )
    out, err = program.communicate(timeout=60)
    assert (out, err) == (b"[16]\n", b"")


def test_a_parent_without_standard_streams_has_workers_all_the_same(tmp_path):
    result = tmp_path / "result"
    program = start(
        tmp_path,
        f"""
        for fd in (0, 1, 2):
            os.close(fd)
        executor = ProcessExecutor(2)
        found = sorted(executor.map(functions.square, range(4)))
        found.append(next(executor.map(functions.chatter, [1])))
        executor.close()
        open({os.fspath(result)!r}, "w").write(repr(found))
        """,
    )
    program.communicate(timeout=60)
    assert result.read_text() == repr([0, 1, 4, 9, "b''"])


def wait_until_waiting(program: subprocess.Popen[bytes], count: int) -> None:
    assert program.stderr is not None
    for _ in range(count):
        assert program.stderr.readline() == b"waiting\n"


def test_an_interrupt_ends_the_work_at_once_and_leaves_no_worker(tmp_path):
    fifo = os.fsencode(tmp_path / "fifo")
    os.mkfifo(fifo)
    program = start(
        tmp_path,
        f"""
        executor = ProcessExecutor(2, grace=0.0)
        try:
            list(executor.map(functions.wait_for, [{fifo!r}] * 8))
        except KeyboardInterrupt:
            executor.close()
            sys.exit(7)
        """,
    )
    wait_until_waiting(program, 2)
    program.send_signal(signal.SIGINT)
    # Workers share the standard error: that it ends says that they have ended too.
    program.communicate(timeout=60)
    assert program.returncode == 7


def test_idle_workers_end_when_their_parent_is_killed(tmp_path):
    program = start(
        tmp_path,
        """
        executor = ProcessExecutor(2)
        print(len(list(executor.map(functions.process_id, range(8)))), flush=True)
        sys.stdin.read()
        """,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"8\n"
    program.kill()
    program.communicate(timeout=60)


def test_busy_workers_end_when_their_parent_is_killed(tmp_path):
    """At once on Linux, elsewhere after their item."""
    fifos = [os.fsencode(tmp_path / name) for name in ("one", "two")]
    for fifo in fifos:
        os.mkfifo(fifo)
    program = start(tmp_path, f"list(ProcessExecutor(2).map(functions.wait_for, {fifos!r}))")
    wait_until_waiting(program, 2)
    program.kill()
    program.wait(timeout=60)
    if sys.platform != "linux":
        for fifo in fifos:
            with open(fifo, "wb") as file:
                file.write(b"go on")
    program.communicate(timeout=60)
