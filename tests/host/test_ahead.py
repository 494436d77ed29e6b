"""Looking ahead: what other processes tell of a tree is what a look of one's own would find."""

from __future__ import annotations

import errno
import os
import random
import select
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tcfs.host import ahead as module
from tcfs.host import child
from tcfs.host.ahead import AheadProcesses, look_ahead
from tcfs.host.child import start_python
from tcfs.host.posix import PosixFileSystem

NAMES = ("a", "a-b", "a.b", "a0", "b", "ä", "a!", ".d", "left-out")


def grow(top: Path, source: random.Random, depth: int = 3) -> None:
    for name in NAMES:
        if source.random() < 0.3:
            continue
        if depth and source.random() < 0.6:
            (top / name).mkdir()
            grow(top / name, source, depth - 1)
        elif source.random() < 0.2:
            (top / name).symlink_to("nowhere")
        else:
            (top / name).write_text(name)


def directories(top: bytes) -> list[bytes]:
    """All of them, by their paths below the top, in the order in which a walk comes to them."""
    found = [os.path.relpath(place, top) for place, _, _ in os.walk(top)]
    paths = (b"" if path == b"." else path for path in found)
    return sorted(paths, key=lambda path: path and path + b"/")


def begin(top: Path, *avoided: bytes) -> AheadProcesses:
    found = look_ahead(os.fsencode(top), avoided)
    assert isinstance(found, AheadProcesses)
    return found


def end(looking: AheadProcesses) -> None:
    """Close it; nothing of it may be left."""
    pids = looking.pids
    looking.close()
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)


@pytest.mark.parametrize("seed", range(2))
def test_every_directory_that_is_told_of_is_told_as_a_look_finds_it(tmp_path: Path, seed: int):
    grow(tmp_path, random.Random(seed))
    looking, top, told = begin(tmp_path, b"left-out"), os.fsencode(tmp_path), 0
    for directory in directories(top):
        entries = looking.entries(directory)
        apart = b"/." in b"/" + directory or b"left-out" in directory
        assert (entries is None) == apart, directory
        if entries is not None:
            told += 1
            place, prefix = os.path.join(top, directory), directory and directory + b"/"
            found = PosixFileSystem().scan(place)
            assert entries == sorted((prefix + name, *stat[:6]) for name, stat in found)
    assert told > 20
    assert looking.entries(b"z") is None
    end(looking)


def test_directories_that_nobody_asks_for_are_passed_over(tmp_path: Path):
    for name in ("a/b/c", "a/d", "e/f/g"):
        (tmp_path / name).mkdir(parents=True)
    looking = begin(tmp_path)
    for directory in (b"", b"e", b"e/f", b"e/f/g"):
        assert looking.entries(directory) is not None
    assert looking.entries(b"e") is None  # it is past that
    end(looking)


def test_what_is_below_a_directory_with_patterns_of_its_own_is_left_to_who_knows_them(
    tmp_path: Path,
):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/.tcfsignore").write_text("b\n")
    looking = begin(tmp_path)
    assert looking.entries(b"") is not None
    assert looking.entries(b"a") is not None
    assert looking.entries(b"a/b") is None
    end(looking)


def test_a_directory_that_cannot_be_listed_is_an_error_and_not_empty(tmp_path: Path):
    looking = begin(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        looking.entries(b"")
    end(looking)
    (tmp_path / "file").write_text("x")
    looking = begin(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        looking.entries(b"")
    end(looking)


def test_of_processes_that_were_killed_nothing_is_taken_for_empty(tmp_path: Path):
    (tmp_path / "a").mkdir()
    looking = begin(tmp_path)
    for process in looking._processes:
        process._process.kill()
        process._process.wait()
        process._answers.read()
    assert looking.entries(b"") is None
    assert looking.entries(b"a") is None
    end(looking)


def test_without_an_interpreter_or_a_process_more_nobody_looks_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def none(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(module, "start_python", none)
        assert look_ahead(os.fsencode(tmp_path), ()) is None
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert look_ahead(os.fsencode(tmp_path), ()) is None


def large(top: Path) -> Path:
    """A tree of which each process has more to tell than a pipe holds that was not widened."""
    for number in range(24):
        part = top / f"{number % 3}" / f"{number}"
        part.mkdir(parents=True)
        for other in range(40):
            (part / f"{other:03}{'x' * 240}").touch()
    return top


def test_closing_ends_processes_that_wait_for_somebody_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(child, "_widen", lambda fd: None)
    looking = begin(large(tmp_path / "tree"))
    assert looking.entries(b"") is not None
    end(looking)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when somebody's child ends")
def test_nobody_looks_on_when_who_asked_was_killed(tmp_path: Path):
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import sys
                from tcfs.host import child
                from tcfs.host.ahead import look_ahead
                child._widen = lambda fd: None
                looking = look_ahead({os.fsencode(large(tmp_path / "tree"))!r}, ())
                looking.entries(b"")
                print(*looking.pids, flush=True)
                sys.stdin.read()
                """
            ),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    others = [os.pidfd_open(int(pid)) for pid in program.stdout.readline().split()]
    assert len(others) == module.PARTS
    program.kill()
    program.communicate(timeout=60)
    for other in others:
        assert select.select([other], [], [], 60)[0]
        os.close(other)


def test_a_process_that_looks_ahead_loads_next_to_nothing():
    code = "before = set(sys.modules); import tcfs.host.listing; print(*set(sys.modules) - before)"
    process = start_python(code, site=False)
    loaded = set(process.communicate(timeout=60)[0].decode().split())
    assert {"tcfs", "tcfs.host", "tcfs.host.listing"} <= loaded
    assert not {"typing", "re", "dataclasses", "pickle", "subprocess", "ctypes"} & loaded
    assert len(loaded) < 20, loaded
