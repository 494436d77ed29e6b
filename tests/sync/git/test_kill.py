"""Processes killed by the system between bundle, ledger and ref update: no repository ever breaks.

A child dies by SIGKILL at its k-th step: a run of git, a put into the store, a record in the state,
a rename; before or after it. The next run completes what it left.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tcfs.host.posix import PosixFileSystem
from tcfs.state.git import GitBases
from tcfs.store.local import LocalStore
from tcfs.sync.git.program import Program
from tests.deep import deep
from tests.sync.git.repos import BUNDLE, Repo, assert_alike, clean, repo
from tests.sync.kit import Device, World

STEPS = (
    (Program, "call"),
    (LocalStore, "put"),
    (GitBases, "begin"),
    (GitBases, "record"),
    (GitBases, "end"),
    (PosixFileSystem, "rename_new"),
    (PosixFileSystem, "rename"),
)


def killed(device: Device, work: Callable[[Device], object], number: int, moment: str) -> bool:
    """Do it in a child that dies at its step ``number``. Returns whether it came so far."""
    device.close()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _die_at(number, moment)
            work(device)
            device.close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(number: int, moment: str) -> None:
    count = 0

    def wrap(owner: type, name: str) -> None:
        inner = getattr(owner, name)

        def step(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            mine = count
            if mine == number and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = inner(*args, **options)
            if mine == number and moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, step)

    for owner, name in STEPS:
        wrap(owner, name)


def push(device: Device) -> None:
    clean(device.push())


def pull(device: Device) -> None:
    clean(device.pull())


def change(git: Repo, n: int) -> None:
    """A bit of everything that moves refs, HEAD, index or stash."""
    git.write("a.txt", f"stashed {n}\n")
    git("stash", "push", "-q", "-m", f"stash {n}")
    if n % 4 == 3:
        git("stash", "drop", "-q", "stash@{2}", check=False)
    git("switch", "-q", "-c", f"topic-{n}")
    git.commit(f"f{n % 5}.txt", f"content {n}\n")
    git("tag", "-f", "latest")
    if n % 2:
        git("switch", "-q", "main")
        git("merge", "-q", "--no-edit", f"topic-{n}")
        git("branch", "-q", "-D", f"topic-{n}")
    if n % 3 == 0:
        git("commit", "-q", "--amend", "-m", f"amended {n}")
    git.write("a.txt", f"staged {n}\n")
    git("add", "a.txt")
    git.write("b.txt", f"edited {n}\n")


def sound(git: Repo) -> None:
    """Fail unless the repository can be used: fsck, HEAD, index and refs."""
    git("fsck", "--strict", "--no-dangling")
    git("status")
    git("log", "--all", "--oneline")
    git("rev-parse", "HEAD^{tree}")


def cycle(anna: Device, ben: Device, numbers: range, moment: str) -> int:
    """One killed push and one killed pull for each number; returns how many died."""
    one, other = repo(anna), repo(ben)
    died = 0
    for number in numbers:
        change(one, number)
        before = one.told()
        died += killed(anna, push, number, moment)
        assert one.told() == before
        push(anna)
        died += killed(ben, pull, number, moment)
        sound(other)
        # What was cut off is no change of ben's: pushing sends nothing of it.
        ben.push()
        ben.pull()
        assert ben.fleet.conflicts().conflicts == ()
        assert_alike(one, other)
        clean(anna.pull())
        assert_alike(one, other)
        assert not list((other.path).glob(".tcfs-tmp-*"))
    return died


@pytest.fixture
def pair(world: World) -> tuple[Device, Device]:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one = repo(anna).init()
    one.commit("a.txt", "one\n")
    one.commit("b.txt", "one\n")
    return anna, ben


@pytest.mark.parametrize(("moment", "start"), [("before", 4), ("after", 9)])
def test_a_process_killed_at_some_steps_leaves_repositories_whole(
    pair: tuple[Device, Device], moment: str, start: int
) -> None:
    anna, ben = pair
    push(anna)
    pull(ben)
    assert cycle(anna, ben, range(start, 50, 20), moment)


@deep
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_at_every_step_leaves_repositories_whole(
    pair: tuple[Device, Device], moment: str
) -> None:
    anna, ben = pair
    push(anna)
    pull(ben)
    assert cycle(anna, ben, range(1, 75), moment) > 50


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_clone_killed_at_every_step_is_made_by_the_next_pull(world: World, moment: str) -> None:
    anna = world.devices("anna", **BUNDLE)[0]
    one = repo(anna).init()
    one.commit("a.txt", "one\n")
    one("tag", "v1")
    push(anna)
    number = 1
    alive = 0
    while not alive:
        ben = world.devices(f"ben{number}", **BUNDLE)[0]
        alive = not killed(ben, pull, number, moment)
        other = repo(ben)
        if (other.path / ".git").exists():
            sound(other)
        pull(ben)
        assert_alike(one, other)
        assert not list(other.path.glob(".tcfs-tmp-*"))
        ben.close()
        number += 2
    assert number > 20
