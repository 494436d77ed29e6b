"""The demo: it tells the truth, it notices what differs, and it leaves nothing behind."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from script.story.trees import copy_tree, differences, objects_with, remove_tree, tree_size

ROOT = Path(__file__).parent.parent
TIME = 1_600_000_000_123_456_789


def make_tree(top: Path) -> bytes:
    top.mkdir()
    (top / "docs").mkdir()
    (top / "docs" / "a.txt").write_text("alpha\n")
    (top / "docs" / "b.txt").write_text("beta\n")
    (top / "notes").mkdir()
    (top / "empty").touch()
    (top / "tool").write_bytes(b"#!/bin/sh\n")
    (top / "tool").chmod(0o755)
    (top / "link").symlink_to("docs/a.txt")
    (top / "nowhere").symlink_to("/no/such/place")
    (top / "new\nline").touch()
    with open(os.fsencode(top) + b"/caf\xe9", "wb") as file:
        file.write(b"not UTF-8")
    for path in (*top.rglob("*"), top):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    return os.fsencode(top)


@pytest.fixture
def two_trees(tmp_path: Path) -> tuple[Path, Path]:
    source = make_tree(tmp_path / "one")
    copy_tree(source, os.fsencode(tmp_path / "two"))
    return tmp_path / "one", tmp_path / "two"


def compared(trees: tuple[Path, Path]) -> list[str]:
    one, two = trees
    return differences(os.fsencode(one), os.fsencode(two), directory_times=True)


def test_a_copy_has_no_difference(two_trees: tuple[Path, Path]):
    assert compared(two_trees) == []


def rewrite(tree: Path) -> None:
    path = tree / "docs" / "a.txt"
    path.write_text("ALPHA\n")
    os.utime(path, ns=(TIME, TIME))


def relink(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("docs/b.txt")
    os.utime(tree / "link", ns=(TIME, TIME), follow_symlinks=False)
    os.utime(tree, ns=(TIME, TIME))


@pytest.mark.parametrize(
    ("change", "path", "word"),
    [
        (rewrite, "docs/a.txt", "other bytes"),
        (relink, "link", "leads to"),
        (lambda tree: (tree / "tool").chmod(0o644), "tool", "mode 755, 644"),
        (lambda tree: os.utime(tree / "empty", ns=(TIME, TIME + 1)), "empty", "mtime"),
        (lambda tree: (tree / "docs" / "new").touch(), "docs/new", "only in"),
        (lambda tree: (tree / "docs" / "b.txt").unlink(), "docs/b.txt", "only in"),
        (lambda tree: os.mkfifo(tree / "pipe"), "pipe", "only in"),
    ],
)
def test_every_kind_of_difference_is_found(
    two_trees: tuple[Path, Path], change: Callable[[Path], object], path: str, word: str
):
    change(two_trees[1])
    assert any(line.startswith(f"{path}: ") and word in line for line in compared(two_trees))


def test_what_tcfs_keeps_in_a_tree_is_not_compared_and_not_copied(
    two_trees: tuple[Path, Path], tmp_path: Path
):
    one, two = two_trees
    (two / ".tcfs").mkdir()
    (two / ".tcfs" / "root").write_text("marker")
    assert differences(os.fsencode(one), os.fsencode(two)) == []
    for name in (".git", ".venv", "cache"):
        (two / name).mkdir()
        (two / name / "much").write_bytes(bytes(1000))
    (two / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    copy_tree(os.fsencode(two), os.fsencode(tmp_path / "three"))
    assert differences(os.fsencode(one), os.fsencode(tmp_path / "three")) == []
    assert tree_size(os.fsencode(two)) == tree_size(os.fsencode(one))


def test_what_cannot_be_copied_is_told(tmp_path: Path):
    source = make_tree(tmp_path / "one")
    os.mkfifo(tmp_path / "one" / "pipe")
    copied = copy_tree(source, os.fsencode(tmp_path / "two"))
    assert copied.omitted == ["pipe: neither file, directory nor symlink"]
    assert (copied.files, copied.directories, copied.links) == (6, 2, 2)


def test_plaintext_in_a_store_is_found_in_bytes_and_in_names(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"..secret..")
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"sealed")
    assert objects_with(os.fsencode(tmp_path), b"secret") == (3, 2)


def test_trees_without_rights_are_removed(tmp_path: Path):
    make_tree(tmp_path / "one")
    (tmp_path / "one" / "docs").chmod(0o500)
    remove_tree(os.fsencode(tmp_path / "one"))
    assert not (tmp_path / "one").exists()


def demo(
    arguments: list[str], tmp_path: Path, scratch: Path | None = None
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    scratch = scratch or tmp_path / "tmp"
    environ = {**os.environ, "TMPDIR": str(scratch), "TCFS_REMOTE": "file:///elsewhere"}
    # Not by way of the script, which may have to make anew the environment that this runs in.
    return subprocess.run(
        [sys.executable, ROOT / "script" / "demo.py", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environ,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path):
    make_tree(tmp_path / "mine")
    done = demo(["mine"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("All three trees are the same.")
    assert "\x1b" not in done.stdout, "colours in a pipe"
    assert done.stderr == ""
    assert os.listdir(tmp_path / "tmp") == []
    assert not (tmp_path / "mine" / ".tcfs").exists(), "the user's directory is only read"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_on_servers_ends_well_and_leaves_nothing_behind(tmp_path: Path):
    make_tree(tmp_path / "mine")
    # Not pytest's own directory: paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="tcfs-") as scratch:
        done = demo(["--servers", "--quick", "mine"], tmp_path, Path(scratch))
        assert done.returncode == 0, done.stdout + done.stderr
        assert os.listdir(scratch) == []
        assert scratch not in _command_lines(), "a process was left behind"
    last = done.stdout.splitlines()[-1]
    assert last.startswith("All four trees are the same.")
    for name in ("xoxd-bates", "yoga", "petting-zoo-mini"):
        assert re.search(rf"on {name} after \d+ ms", " ".join(done.stdout.split()))
    assert not (tmp_path / "mine" / ".tcfs").exists(), "the user's directory is only read"


def _command_lines() -> str:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return listed.stdout


def test_the_demo_says_where_a_path_is_too_long_for_servers(tmp_path: Path):
    make_tree(tmp_path / "mine")
    scratch = tmp_path / ("long" * 20)
    scratch.mkdir()
    done = demo(["--servers", "mine"], tmp_path, scratch)
    assert done.returncode == 1
    assert "too long for sockets" in done.stdout
    assert os.listdir(scratch) == []


def test_the_demo_wants_a_directory(tmp_path: Path):
    done = demo(["missing"], tmp_path)
    assert done.returncode == 2
    assert "not a directory" in done.stderr
    assert os.listdir(tmp_path / "tmp") == []
