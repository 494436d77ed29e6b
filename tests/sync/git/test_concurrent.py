"""Devices that work at the same time: whatever happens, all end alike and no commit is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcfs.errors import TcfsError
from tests.deep import deep
from tests.sync.git import test_histories as steps
from tests.sync.git.repos import BUNDLE, Repo, repo
from tests.sync.kit import Device, Templates, World

STEPS = [
    *(steps._commit, steps._commit, steps._commit, steps._edit, steps._stage, steps._untracked),
    *(steps._commit_all, steps._remove, steps._branch, steps._switch, steps._delete_branch),
    *(steps._merge, steps._amend, steps._reset, steps._stash, steps._tag, steps._detach),
]
RESOLUTIONS = ("keep_local", "keep_remote", "keep_both", "merge")
rounds = st.lists(
    st.tuples(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(STEPS), st.integers(0, 11)),
            min_size=2,
            max_size=5,
        ),
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from(RESOLUTIONS)), min_size=1),
    ),
    min_size=1,
    max_size=2,
)


def made_here(git: Repo) -> set[str]:
    """Every commit that this repository ever had checked out or on a branch."""
    listed = git("log", "--all", "--reflog", "--format=%H", check=False)
    return set(listed.split())


def settle(devices: list[Device], choices: list[tuple[int, str]]) -> None:
    """Decide every conflict, on this device or that, until none stands and all are in step."""
    turn = 0
    found: list[str] = []
    for _ in range(30):
        for device in devices:
            device.sync()
        found = [c.path for c in devices[0].fleet.conflicts().conflicts]
        if not found:
            return
        for path in found:
            who, choice = choices[turn % len(choices)]
            turn += 1
            chosen = devices[who % len(devices)]
            # Who has no part in a conflict cannot say which side is the local one.
            for device in (chosen, *devices):
                device.sync()
                if _resolved(device, path, (choice, "keep_local", "keep_remote")):
                    break
    raise AssertionError(f"conflicts stay: {found}")


def _resolved(device: Device, path: str, resolutions: tuple[str, ...]) -> bool:
    for resolution in resolutions:
        try:
            device.fleet.resolve(path, resolution)  # type: ignore[arg-type]
        except TcfsError:
            continue
        return True
    return False


def play(templates: Templates, history, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory).resolve(), templates)
        try:
            devices = world.devices(*names, **BUNDLE)
            repos = [repo(device) for device in devices]
            repos[0].init()
            repos[0].commit("f0.txt", "base\n")
            repos[0].commit("f1.txt", "base\n")
            for device in devices:
                device.sync()
            commits: set[str] = set()
            for work, choices in history:
                for who, step, n in work:
                    step(repos[who % len(repos)], n)
                for git in repos:
                    commits |= made_here(git)
                settle(devices, choices)
                for _ in range(2):
                    for device in devices:
                        device.sync()
                told = [git.told() for git in repos]
                for other in told[1:]:
                    for key in ("head", "log", "HEAD log", "refs", "stash", "fsck"):
                        assert other[key] == told[0][key], key
                for commit in commits:
                    assert any(git("cat-file", "-t", commit, check=False) for git in repos)
        finally:
            world.close()


@pytest.mark.parametrize("names", [["anna", "ben"]], ids=["two"])
@settings(max_examples=1, suppress_health_check=list(HealthCheck), derandomize=True)
@given(history=rounds)
def test_devices_that_worked_at_once_end_alike(templates: Templates, names, history) -> None:
    play(templates, history, names)


@deep
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("names", [["anna", "ben"], ["anna", "ben", "cleo"]], ids=["two", "three"])
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(history=rounds)
def test_many_devices_that_worked_at_once_end_alike(templates: Templates, names, history) -> None:
    play(templates, history, names)
