"""Benchmark of git repositories: first bundle, clone elsewhere, then one commit after another.

    .venv/bin/python bench/git.py [--work DIR] [--commits N] [--files N]

Two devices over a directory store, each command a process of its own. ``new objects`` is what git
needs on disk for the objects that a commit made; ``sent`` is everything that the push put into the
store: the bundle, the signed segments, and the changed files of the work tree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TCFS = str(Path(sys.executable).parent / "tcfs")
WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by")


def text(source: random.Random, size: int) -> bytes:
    """Text that compresses as source code does."""
    out: list[str] = []
    length = 0
    while length < size:
        line = " ".join(source.choice(WORDS) + str(source.randrange(50)) for _ in range(8))
        out.append(line)
        length += len(line) + 1
    return ("\n".join(out) + "\n").encode()


def stream(commits: int, files: int, seed: int) -> bytes:
    """A history for ``git fast-import``: each commit changes two files by a few lines."""
    source = random.Random(seed)
    contents = {f"src/d{n % 20}/f{n}.txt": text(source, 6000) for n in range(files)}
    out: list[bytes] = []

    def commit(number: int, changed: dict[str, bytes]) -> None:
        message = f"commit {number}\n".encode()
        out.append(b"commit refs/heads/main\n")
        out.append(b"committer Anna <anna@example.org> %d +0000\n" % (1_600_000_000 + number * 60))
        out.append(b"data %d\n%s" % (len(message), message))
        for name, data in changed.items():
            out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))

    commit(0, contents)
    names = sorted(contents)
    for number in range(1, commits):
        changed = {}
        for name in source.sample(names, 2):
            lines = contents[name].splitlines(keepends=True)
            lines[source.randrange(len(lines))] = text(source, 60)
            changed[name] = contents[name] = b"".join(lines)
        commit(number, changed)
    return b"".join(out)


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    """Run git in a directory."""
    done = subprocess.run(
        ["git", "-c", "user.name=Anna", "-c", "user.email=anna@example.org", *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


class Device:
    """A device with a tree of its own."""

    def __init__(self, top: Path, name: str) -> None:
        self.tree = top / name / "tree"
        self.tree.mkdir(parents=True)
        self.env = os.environ | {
            "TCFS_HOME": str(top / name / "home"),
            "TCFS_REMOTE": (top / "store").as_uri(),
            "TCFS_SYNC_SYNC_ROOT": str(self.tree),
            "TCFS_SYNC_SYNC_GIT_DIRS": "true",
        }

    def run(self, *arguments: str) -> tuple[float, dict[str, Any]]:
        """Seconds that a command took, and its result."""
        started = time.perf_counter()
        done = subprocess.run(
            [TCFS, *arguments, "--json"], env=self.env, capture_output=True, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"tcfs {' '.join(arguments)}: {done.stdout!r} {done.stderr!r}")
        return seconds, json.loads(done.stdout)


def new_objects(repo: Path, since: str) -> int:
    """Bytes on disk of the objects that are new since a commit, as git wrote them."""
    oids = [
        line.split()[0]
        for line in git(repo, "rev-list", "--objects", f"{since}..main").splitlines()
    ]
    sizes = git(
        repo, "cat-file", "--batch-check=%(objectsize:disk)", stdin="\n".join(oids).encode() + b"\n"
    )
    return sum(map(int, sizes.split()))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path)
    parser.add_argument("--commits", type=int, default=3000)
    parser.add_argument("--files", type=int, default=500)
    args = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="tcfs-bench-git-", dir=args.work)).resolve()
    try:
        run(top, args.commits, args.files)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def run(top: Path, commits: int, files: int) -> None:
    """Measure."""
    anna, ben = Device(top, "anna"), Device(top, "ben")
    anna.run("init", "--name", "anna")
    code = anna.run("device", "invite")[1]["code"]
    ben.run("device", "enroll", "--name", "ben", "--invite", code)
    repo, other = anna.tree / "repo", ben.tree / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    git(repo, "fast-import", "--quiet", stdin=stream(commits, files, 1))
    git(repo, "reset", "-q", "--hard")
    started = time.perf_counter()
    git(repo, "bundle", "create", "-q", str(top / "x.bundle"), "--all")
    print(f"{commits} commits, {files} files")
    size = (top / "x.bundle").stat().st_size
    print(f"git bundle create       {time.perf_counter() - started:7.2f} s {size:12,} bytes")
    seconds, pushed = anna.run("push")
    print(f"first push              {seconds:7.2f} s {pushed['transfer']['bytes_sent']:12,} bytes")
    seconds, pulled = ben.run("pull")
    print(
        f"first pull              {seconds:7.2f} s {pulled['transfer']['bytes_received']:12,} bytes"
    )
    assert git(repo, "log", "--format=%H") == git(other, "log", "--format=%H")
    seconds, _ = anna.run("push")
    print(f"push, nothing changed   {seconds:7.2f} s")
    seconds, _ = ben.run("pull")
    print(f"pull, nothing changed   {seconds:7.2f} s")
    source = random.Random(7)
    for label, size in (("one line", 60), ("4 KB", 4000), ("60 KB", 60_000)):
        before = git(repo, "rev-parse", "main")
        name = repo / "src" / "d1" / "f1.txt"
        with name.open("ab") as file:
            file.write(text(source, size))
        git(repo, "commit", "-q", "-a", "-m", label)
        objects = new_objects(repo, before)
        seconds, pushed = anna.run("push")
        sent = pushed["transfer"]["bytes_sent"]
        pull_seconds, pulled = ben.run("pull")
        assert git(repo, "log", "--format=%H") == git(other, "log", "--format=%H")
        assert git(other, "status", "--porcelain") == ""
        print(
            f"a commit of {label:10}  push {seconds:5.2f} s, pull {pull_seconds:5.2f} s, "
            f"new objects {objects:8,} bytes, sent {sent:8,} ({sent / objects:.2f} times)"
        )


if __name__ == "__main__":
    main()
