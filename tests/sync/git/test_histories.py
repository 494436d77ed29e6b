"""Random histories: after every step, wherever it was made, git says the same on all devices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deep import deep
from tests.sync.git.repos import BUNDLE, Repo, assert_alike, clean, repo
from tests.sync.kit import Templates, World

Step = Callable[[Repo, int], None]


def _commit(git: Repo, n: int) -> None:
    git.commit(f"f{n % 3}.txt", f"content {n}\n" * (n + 1))


def _edit(git: Repo, n: int) -> None:
    git.write(f"f{n % 3}.txt", f"edited {n}\n")


def _untracked(git: Repo, n: int) -> None:
    git.write(f"new{n}.txt", "untracked\n")


def _stage(git: Repo, n: int) -> None:
    git.write(f"f{n % 3}.txt", f"staged {n}\n")
    git("add", f"f{n % 3}.txt")


def _commit_all(git: Repo, n: int) -> None:
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", f"all {n}")


def _remove(git: Repo, n: int) -> None:
    git("rm", "-q", "-f", "--ignore-unmatch", f"f{n % 3}.txt")
    git("commit", "-q", "--allow-empty", "-m", f"remove {n}")


def _branch(git: Repo, n: int) -> None:
    git("switch", "-q", "-c", f"topic/{n % 4}", check=False)


def _switch(git: Repo, n: int) -> None:
    names = git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    git("switch", "-q", names[n % len(names)], check=False)


def _delete_branch(git: Repo, n: int) -> None:
    git("branch", "-q", "-D", f"topic/{n % 4}", check=False)


def _merge(git: Repo, n: int) -> None:
    names = git("for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()
    git("merge", "-q", "--no-edit", names[n % len(names)], check=False)
    git("merge", "--abort", check=False)


def _amend(git: Repo, n: int) -> None:
    git("commit", "-q", "--amend", "--allow-empty", "-m", f"amended {n}")


def _rebase(git: Repo, n: int) -> None:
    git("rebase", "-q", "main", check=False)
    git("rebase", "--abort", check=False)


def _reset(git: Repo, n: int) -> None:
    git("reset", "-q", ("--soft", "--mixed", "--hard")[n % 3], "HEAD~1", check=False)


def _stash(git: Repo, n: int) -> None:
    git("stash", "push", "-q", "-u", "-m", f"stash {n}", check=False)


def _pop(git: Repo, n: int) -> None:
    if not git("status", "--porcelain"):
        git("stash", "pop", "-q", f"stash@{{{n % 2}}}", check=False)
        if git("diff", "--name-only", "--diff-filter=U"):
            git("reset", "-q", "--hard")


def _drop(git: Repo, n: int) -> None:
    git("stash", "drop", "-q", f"stash@{{{n % 2}}}", check=False)


def _tag(git: Repo, n: int) -> None:
    if n % 3 == 0:
        git("tag", "-d", f"v{n % 4}", check=False)
    git("tag", *(("-a", "-m", "tagged") if n % 2 else ()), f"v{n % 4}", check=False)


def _note(git: Repo, n: int) -> None:
    git("notes", "append", "-m", f"note {n}")


def _detach(git: Repo, n: int) -> None:
    git("switch", "-q", "--detach", "HEAD~1" if n % 2 else "HEAD", check=False)


def _gc(git: Repo, n: int) -> None:
    git("gc", "-q", "--prune=now")


def _pack_refs(git: Repo, n: int) -> None:
    git("pack-refs", "--all")


STEPS: list[Step] = [
    *(_commit, _commit, _edit, _untracked, _stage, _commit_all, _remove, _branch, _switch),
    *(_delete_branch, _merge, _amend, _rebase, _reset, _stash, _pop, _drop, _tag, _note),
    *(_detach, _gc, _pack_refs),
]

histories = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(STEPS), st.integers(0, 11)),
    min_size=1,
    max_size=7,
)


def play(templates: Templates, history: list[tuple[int, Step, int]], names: list[str]) -> None:
    """Make each step on its device, sync all, and compare what git says everywhere."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory).resolve(), templates)
        try:
            devices = world.devices(*names, **BUNDLE)
            repos = [repo(device) for device in devices]
            repos[0].init()
            repos[0].commit("f0.txt", "base\n")
            repos[0].commit("f1.txt", "base\n")
            for number, (who, step, n) in enumerate([(0, _pack_refs, 0), *history]):
                actor = who % len(devices)
                step(repos[actor], n)
                clean(devices[actor].push())
                for other in (d for d in devices if d is not devices[actor]):
                    result = clean(other.pull())
                    assert result.conflicts == ()
                for other_repo in repos:
                    if other_repo is not repos[actor]:
                        try:
                            assert_alike(repos[actor], other_repo)
                        except AssertionError as error:
                            raise AssertionError(f"after step {number}, {step}: {error}") from None
        finally:
            world.close()


@pytest.mark.parametrize("names", [["anna", "ben"], ["anna", "ben", "cleo"]], ids=["two", "three"])
@settings(max_examples=3, suppress_health_check=list(HealthCheck), derandomize=True)
@given(history=histories)
def test_git_says_the_same_everywhere_after_each_step(
    templates: Templates,
    names: list[str],
    history: list[tuple[int, Step, int]],
) -> None:
    play(templates, history, names)


@deep
@pytest.mark.slow
@pytest.mark.parametrize("names", [["anna", "ben"], ["anna", "ben", "cleo"]], ids=["two", "three"])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(history=histories)
def test_git_says_the_same_everywhere_after_each_of_many_steps(
    templates: Templates,
    names: list[str],
    history: list[tuple[int, Step, int]],
) -> None:
    play(templates, history, names)
