"""Repositories for tests, made and asked with the real git program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.sync.kit import Device

BUNDLE: dict[str, Any] = {"TCFS_SYNC_SYNC_GIT_DIRS": "true", "TCFS_SYNC_GIT_SYNC_MODE": "bundle"}
RAW = {"TCFS_SYNC_SYNC_GIT_DIRS": "true", "TCFS_SYNC_GIT_SYNC_MODE": "raw"}

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Anna",
    "GIT_AUTHOR_EMAIL": "anna@example.org",
    "GIT_COMMITTER_NAME": "Anna",
    "GIT_COMMITTER_EMAIL": "anna@example.org",
    "LC_ALL": "C",
}


class Repo:
    """A repository in a directory, driven as its user would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(
        self, *arguments: str, check: bool = True, stdin: str = "", **environment: str
    ) -> str:
        """Run git; its output without the last newline."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={**ENVIRONMENT, **environment},
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"git {' '.join(arguments)} failed: {done.stdout!r} {done.stderr!r}"
            )
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def init(self, *options: str) -> Repo:
        """Make it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main", *options)
        return self

    def write(self, name: str, text: str | bytes) -> None:
        """Write a file of the work tree."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def commit(self, name: str, text: str | bytes, message: str = "") -> str:
        """Write a file and commit it; the commit's id."""
        self.write(name, text)
        self("add", "--", name)
        self("commit", "-q", "--allow-empty", "-m", message or f"write {name}")
        return self.head

    @property
    def head(self) -> str:
        """The commit that HEAD leads to."""
        return self("rev-parse", "HEAD")

    def oid(self, ref: str) -> str:
        """What a ref leads to; empty if it is not there."""
        return self("rev-parse", "--verify", "-q", ref, check=False)

    def told(self) -> dict[str, str]:
        """What a user sees: log, branches, tags, notes, stash, status; and that fsck is content."""
        return {
            "head": (self.path / ".git" / "HEAD").read_text().strip(),
            "log": self(
                "log", "--branches", "--tags", "--date-order", "--format=%H %P", check=False
            ),
            "HEAD log": self("log", "--format=%H %an %s", check=False),
            "refs": self("for-each-ref", "--format=%(objectname) %(refname)", *SHOWN),
            "stash": self("stash", "list", "--format=%H %s"),
            "status": self("status", "--porcelain=v2", "--branch"),
            "staged": self("diff", "--cached"),
            "unstaged": self("diff"),
            "fsck": self("fsck", "--strict", "--no-dangling"),
        }


SHOWN = ("refs/heads", "refs/tags", "refs/notes", "refs/stash")


def repo(device: Device, name: str = "repo") -> Repo:
    """A repository in a device's tree."""
    return Repo(Path(os.fsdecode(device.path(name))) if name else device.tree)


def assert_alike(one: Repo, other: Repo) -> None:
    """Fail unless git says the same on both sides."""
    left, right = one.told(), other.told()
    assert left == right, "\n".join(
        f"{key}:\n  {left[key]!r}\n  {right[key]!r}" for key in left if left[key] != right[key]
    )


def clean(result: Any) -> Any:
    """A result without problems."""
    assert result.problems == (), result.problems
    return result
