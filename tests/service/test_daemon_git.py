"""What a daemon makes of git repositories, with real daemons and the real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.machines import Machine, until

WHO = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"))
    },
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(tree: Path, *arguments: str, expect: int | None = 0) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=tree / "repo",
        env={**os.environ, **WHO},
        capture_output=True,
        text=True,
    )
    assert expect is None or done.returncode == expect, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_git_does_on_one_device_is_on_the_other_without_any_command(
    fleet: Callable[..., list[Machine]], tmp_path: Path
):
    environ = {
        "TCFS_REMOTE": f"file://{tmp_path}/store",
        "TCFS_SYNC_POLL_INTERVAL": "1",
        "TCFS_SYNC_SYNC_GIT_DIRS": "true",
    }
    anna, ben = machines = fleet(environ, "anna", "ben")

    def seen(*arguments: str) -> bool:
        """Whether git says the same on both."""
        if not (ben.tree / "repo" / ".git").exists():
            return False
        return git(ben.tree, *arguments, expect=None) == git(anna.tree, *arguments)

    (anna.tree / "repo").mkdir()
    git(anna.tree, "init", "-q", "-b", "main")
    (anna.tree / "repo" / "a.txt").write_text("one\n")
    git(anna.tree, "add", ".")
    git(anna.tree, "commit", "-qm", "first")
    for machine in machines:
        machine.start()
    everything = ("log", "--all", "--format=%H %s")
    until(lambda: seen(*everything), "the repository to arrive")

    # A save and its commit; then what changes no file of the work tree at all.
    (anna.tree / "repo" / "a.txt").write_text("two\n")
    git(anna.tree, "commit", "-qam", "second")
    until(lambda: seen(*everything) and seen("status", "--porcelain"), "a commit of a save")
    assert (ben.tree / "repo" / "a.txt").read_text() == "two\n"
    git(anna.tree, "commit", "-q", "--allow-empty", "-m", "third")
    until(lambda: seen(*everything), "a commit that changes no file")
    git(anna.tree, "branch", "topic", "main~1")
    until(lambda: seen("branch", "--format=%(refname) %(objectname)"), "a branch")
    (anna.tree / "repo" / "a.txt").write_text("three\n")
    git(anna.tree, "stash", "push", "-q", "-m", "later")
    until(lambda: "later" in git(ben.tree, "stash", "list"), "a stash")
    until(lambda: seen("status", "--porcelain"), "the work tree after the stash")

    # And the other way.
    git(ben.tree, "commit", "-q", "--allow-empty", "-m", "from ben")
    until(lambda: "from ben" in git(anna.tree, "log", "--format=%s"), "a commit the other way")
    assert git(anna.tree, "rev-parse", "main") == git(ben.tree, "rev-parse", "main")
    assert anna.end() == ben.end() == 0
    for machine in machines:
        git(machine.tree, "fsck", "--strict")
        assert "Traceback" not in machine.log.read_text()
