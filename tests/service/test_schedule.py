"""When what is due."""

from __future__ import annotations

from tcfs.model.ids import RelPath
from tcfs.service.daemon.schedule import (
    GIT_LONGEST_S,
    GIT_QUIET_S,
    LONGEST_S,
    QUIET_S,
    SECOND_LOOKS_S,
    TOO_MANY,
    Due,
    Pending,
)

A, B = RelPath(b"a"), RelPath(b"b")


def test_a_path_is_pushed_once_it_is_left_alone():
    pending = Pending()
    assert not pending.due(0)
    pending.touched({A}, 10.0)
    assert not pending.due(10.0)
    pending.touched({B}, 10.0 + QUIET_S / 2)
    assert not pending.due(10.0 + QUIET_S)
    assert pending.due(pending.when())
    assert pending.take() == {A, B}
    assert not pending
    assert pending.when() == float("inf")


def test_a_path_that_is_written_without_end_is_pushed_all_the_same():
    pending, now = Pending(), 100.0
    while not pending.due(now):
        now += QUIET_S / 2
        pending.touched({A}, now)
        assert now < 100 + 2 * LONGEST_S


REF = RelPath(b"repo/.git/refs/heads/main")


def test_a_save_and_the_commit_that_follows_are_one_push_once_git_is_done():
    pending = Pending(git=True)
    pending.touched({A}, 10.0)
    pending.touched({REF}, 10.01)
    assert not pending.due(10.01 + GIT_QUIET_S - 0.001)
    assert pending.due(10.01 + GIT_QUIET_S)
    assert pending.take() == {A, REF}
    # A save alone is not held up by what git did before.
    pending.touched({A}, 11.0)
    assert pending.when() == 11.0 + QUIET_S


def test_git_that_works_without_end_is_looked_at_all_the_same():
    pending, now = Pending(git=True), 100.0
    while not pending.due(now):
        now += GIT_QUIET_S / 2
        pending.touched({REF}, now)
        assert now < 100 + 2 * GIT_LONGEST_S
    assert now > 100 + LONGEST_S


def test_where_git_directories_do_not_travel_they_hold_nothing_up():
    pending = Pending()
    pending.touched({A, REF}, 10.0)
    assert pending.when() == 10.0 + QUIET_S


def test_very_many_paths_become_one_look_at_everything():
    pending = Pending()
    pending.touched({RelPath(b"%d" % i) for i in range(TOO_MANY + 1)}, 0)
    assert pending.take() is None


def test_a_new_directory_is_looked_at_again_and_again():
    pending = Pending()
    pending.made({A}, 0)
    found = []
    for wait in SECOND_LOOKS_S:
        assert not pending.due(wait - 0.1)
        assert pending.due(wait)
        found.append(pending.take())
    assert found == [{A}] * len(SECOND_LOOKS_S)
    assert pending.when() == float("inf")


def test_what_could_not_be_pushed_stays_pending():
    pending = Pending()
    pending.touched({A}, 0)
    pending.put_back(pending.take(), 1)
    pending.touched({B}, 1)
    assert pending.take() == {A, B}
    pending.all(2)
    pending.put_back(pending.take(), 3)
    assert pending.take() is None


def test_a_failure_puts_off_longer_each_time_and_no_wish_comes_before_it():
    due, waits, now = Due(), [], 0.0
    for _ in range(6):
        due.failed(now, 1.0, 10.0)
        due.wish(now)
        waits.append(due.when() - now)
        now = due.when()
        assert due.due(now)
        due.begun()
    assert waits == [1, 2, 4, 8, 10, 10]
    due.succeeded()
    due.wish(now)
    assert due.due(now)
