"""A store or disk that fails: a clear error, or one path's problem; the next run completes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tcfs.errors import StoreError
from tcfs.host.faults import fail_at
from tests.sync.crashing import Experiment, Point, every, thin

STORE = frozenset(("get", "get_range", "put", "head", "list", "list_dirs", "delete"))
"""Operations of a store; ``transaction`` and ``private`` are neither store's nor file system's."""
ANSWERS = frozenset(("get", "get_range", "head", "list_dirs"))
"""What changes nothing and has one answer: losing the answer is as failing before there was one."""
OURS = frozenset(("transaction", "private"))
FAILING = [
    *("first push", "push in parts", "first pull", "pull", "pull of conflicts", "one file"),
    *("resolve", "undo", "init", "enroll", "invite", "revoke", "recover"),
]


def store_fails() -> BaseException:
    return StoreError("the store is on fire")


def disk_full() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_broken() -> BaseException:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def moments(experiment: Experiment, names: Callable[[str], bool]) -> list[Point]:
    found: list[Point] = [
        (operation.number, moment)
        for operation in experiment.plan.operations
        if names(operation.name)
        for moment in ("before", "after")
        if moment == "before" or operation.name not in ANSWERS
    ]
    operations = experiment.plan.operations
    return thin(found, lambda point: operations[point[0] - 1].name)


def fail_and_go_on(
    experiment: Experiment, point: Point, error: Callable[[], BaseException]
) -> None:
    experiment.fail(fail_at(*point, error))
    experiment.recover()


@pytest.mark.parametrize("experiment", FAILING, indirect=True)
def test_a_store_that_fails_once_loses_nothing(experiment: Experiment) -> None:
    points = moments(experiment, lambda name: name in STORE)
    every(experiment, points, lambda p: fail_and_go_on(experiment, p, store_fails))


@pytest.mark.parametrize("error", [disk_full, disk_broken])
@pytest.mark.parametrize(
    "experiment", ["first push", "pull", "one file", "init", "enroll"], indirect=True
)
def test_a_disk_that_fails_once_loses_nothing(
    experiment: Experiment, error: Callable[[], BaseException]
) -> None:
    points = moments(experiment, lambda name: name not in STORE | OURS)
    every(experiment, points, lambda p: fail_and_go_on(experiment, p, error))
