"""Long work goes on as a job, can be asked for and stopped, and one at a time changes things."""

import threading

import pytest

from tcfs.errors import BusyError, CancelledError, NotFoundError, StoreError
from tcfs.sync.facade import Cancel, Progress, ProgressFn
from tcfs_mcp.answers import SyncAnswer
from tcfs_mcp.context import Signal
from tcfs_mcp.jobs import Jobs, Work
from tests.tcfs_mcp.fake import FakeFleet, make_door, until_cancelled, until_released

ANSWER = SyncAnswer("push: 1 add", "done")


def when(go_on: threading.Event) -> Work:
    """Work that ends when the test says so."""

    def work(_progress: ProgressFn, _cancel: Cancel) -> SyncAnswer:
        assert go_on.wait(10)
        return ANSWER

    return work


def test_a_job_has_its_answer_once_it_ended(jobs: Jobs):
    job = jobs.start("push", lambda _progress, _cancel: ANSWER, exclusive=True)
    assert job.wait(10)
    assert job.describe().state == "done"
    assert job.describe().result == ANSWER


def test_a_failed_job_tells_code_and_remedy(jobs: Jobs):
    def fail(_progress, _cancel):
        raise StoreError("the store is gone", remedy="Find it.")

    job = jobs.start("push", fail, exclusive=True)
    assert job.wait(10)
    described = job.describe()
    assert described.state == "failed"
    assert (described.error.code, described.error.remedy) == ("store", "Find it.")


def test_an_unexpected_failure_is_logged_and_not_told(jobs: Jobs, caplog: pytest.LogCaptureFixture):
    def fail(_progress, _cancel):
        raise RuntimeError("hunter2")

    job = jobs.start("push", fail, exclusive=True)
    assert job.wait(10)
    assert "hunter2" not in str(job.describe())
    assert "hunter2" in caplog.text


def test_progress_is_told_while_a_job_runs(jobs: Jobs):
    told, go_on = threading.Event(), threading.Event()

    def work(progress, _cancel):
        progress(Progress("upload", 3, 9, "files"))
        told.set()
        assert go_on.wait(10)
        return ANSWER

    job = jobs.start("push", work, exclusive=True)
    assert told.wait(10)
    assert job.describe().progress.done == 3
    assert "3 of 9 files" in job.describe().summary
    go_on.set()
    assert job.wait(10)


def test_a_second_job_that_changes_things_has_to_wait(jobs: Jobs):
    go_on = threading.Event()
    first = jobs.start("push", when(go_on), exclusive=True)
    with pytest.raises(BusyError, match=first.id):
        jobs.start("pull", lambda _p, _c: ANSWER, exclusive=True)
    planning = jobs.start("push", lambda _p, _c: ANSWER, exclusive=False)
    assert planning.wait(10)
    go_on.set()
    assert first.wait(10)
    assert jobs.start("pull", lambda _p, _c: ANSWER, exclusive=True).wait(10)


def test_waiting_ends_when_the_caller_gives_up(jobs: Jobs):
    go_on, gave_up = threading.Event(), Signal()
    job = jobs.start("push", when(go_on), exclusive=True)
    gave_up.set()
    assert not job.wait(1000, gave_up)
    go_on.set()
    assert job.wait(10)


def test_ended_jobs_are_forgotten_oldest_first():
    jobs = Jobs(kept=3)
    ids = []
    for _ in range(5):
        job = jobs.start("push", lambda _p, _c: ANSWER, exclusive=True)
        assert job.wait(10)
        ids.append(job.id)
    assert jobs.get(ids[-1]).answer == ANSWER
    with pytest.raises(NotFoundError):
        jobs.get(ids[0])


def test_shutting_down_stops_every_job(fleet: FakeFleet):
    jobs = Jobs()
    door = make_door(fleet, jobs=jobs)
    fleet.during_push = until_cancelled
    answer = door.run("push", {"local_path": "/a", "background": True}, door.context("test"))
    jobs.shutdown()
    assert jobs.get(answer["job_id"]).describe().state == "cancelled"
    assert fleet.stopped.is_set()


def test_background_returns_a_job_at_once_and_job_status_waits_for_it(fleet: FakeFleet, jobs: Jobs):
    door = make_door(fleet, jobs=jobs)
    fleet.during_push = until_released
    started = door.run("push", {"local_path": "/a", "background": True}, door.context("test"))
    assert started["status"] == "running"
    job_id = started["job_id"]
    asked = door.run("job_status", {"job_id": job_id}, door.context("test"))
    assert (asked["state"], asked["tool"]) == ("running", "push")
    fleet.hold.set()
    asked = door.run("job_status", {"job_id": job_id, "wait_s": 30}, door.context("test"))
    assert asked["state"] == "done"
    assert asked["result"]["plan"]["counts"] == {"add": 1}


def test_work_that_takes_too_long_for_a_call_becomes_a_job(fleet: FakeFleet, jobs: Jobs):
    door = make_door(fleet, jobs=jobs, job_after=0.05)
    fleet.during_push = until_released
    answer = door.run("push", {"local_path": "/a"}, door.context("test"))
    assert answer["status"] == "running"
    assert "job_status" in answer["summary"]
    fleet.hold.set()
    asked = door.run("job_status", {"job_id": answer["job_id"], "wait_s": 30}, door.context("test"))
    assert asked["state"] == "done"


def test_a_call_that_became_a_job_gets_no_more_progress(fleet: FakeFleet, jobs: Jobs):
    heard: list[Progress] = []
    late = threading.Event()

    def work(fake: FakeFleet, asked) -> None:
        until_released(fake, asked)
        asked["progress"](Progress("upload", 9, 10, "files"))
        late.set()

    door = make_door(fleet, jobs=jobs, job_after=0.05)
    fleet.during_push = work
    context = door.context("test", progress=heard.append)
    answer = door.run("push", {"local_path": "/a"}, context)
    assert [progress.done for progress in heard] == [1]
    fleet.hold.set()
    assert late.wait(10)
    assert jobs.get(answer["job_id"]).wait(10)
    assert [progress.done for progress in heard] == [1]


def test_a_job_can_be_stopped(fleet: FakeFleet, jobs: Jobs):
    door = make_door(fleet, jobs=jobs)
    fleet.during_push = until_cancelled
    started = door.run("push", {"local_path": "/a", "background": True}, door.context("test"))
    stopped = door.run("job_cancel", {"job_id": started["job_id"]}, door.context("test"))
    assert stopped["cancel_requested"]
    assert jobs.get(started["job_id"]).wait(10)
    asked = door.run("job_status", {"job_id": started["job_id"]}, door.context("test"))
    assert (asked["state"], asked["error"]["code"]) == ("cancelled", "cancelled")


def test_giving_up_a_call_stops_its_work(fleet: FakeFleet, jobs: Jobs):
    door = make_door(fleet, jobs=jobs)
    fleet.during_push = until_cancelled
    gave_up = Signal()
    context = door.context("test", cancelled=gave_up)

    def give_up() -> None:
        fleet.entered.wait(10)
        gave_up.set()

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    with pytest.raises(CancelledError):
        door.run("push", {"local_path": "/a"}, context)
    giving_up.join()
    assert fleet.stopped.wait(10)


def test_an_unknown_job_is_not_found(fleet: FakeFleet, jobs: Jobs):
    door = make_door(fleet, jobs=jobs)
    with pytest.raises(NotFoundError):
        door.run("job_status", {"job_id": "none"}, door.context("test"))


def test_without_a_server_there_are_no_jobs_and_background_waits(fleet: FakeFleet):
    door = make_door(fleet)
    answer = door.run("push", {"local_path": "/a", "background": True}, door.context("call"))
    assert answer["status"] == "done"
    with pytest.raises(NotFoundError, match="no jobs here"):
        door.run("job_status", {"job_id": "x"}, door.context("call"))
