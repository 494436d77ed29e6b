"""Whose temporary files are removed, and whose are not."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs.model.ids import StoreKey
from tcfs.store.local import LocalStore

KEY = StoreKey("packs/aa/one")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root):
    store = LocalStore.create(root)
    yield store
    store.close()


def temps(root: Path) -> list[str]:
    return sorted(os.listdir(root / ".tmp"))


def test_the_temporary_files_of_a_live_writer_are_never_removed(store, root):
    store.put(KEY, b"x")
    mine = Path(os.fsdecode(store._temps.new()))
    mine.write_bytes(b"being written")
    os.utime(mine, (0, 0))
    other = LocalStore(root)
    other.put(KEY, b"y")
    assert mine.exists()
    other.close()
    assert mine.exists()


def test_the_temporary_files_of_a_killed_writer_are_removed_by_the_next(store, root):
    script = (
        "import os, sys, signal\n"
        "from tcfs.store.local import LocalStore\n"
        "store = LocalStore(sys.argv[1].encode())\n"
        "open(store._temps.new(), 'wb').write(b'half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, root], env=environment)
    assert len(temps(root)) == 2
    store.put(KEY, b"x")
    assert len(temps(root)) == 1
    store.close()
    assert temps(root) == []


def test_a_writer_whose_new_lock_was_taken_for_a_dead_ones_takes_another(store, monkeypatch):
    # The sweeper comes between the making of the lock file and the taking of the lock.
    real_flock = fcntl.flock
    swept: list[int] = []

    def flock(fd, operation):
        if not swept:
            swept.append(fd)
            (name,) = os.listdir(os.fsdecode(store._temps._directory))
            os.unlink(os.path.join(os.fsdecode(store._temps._directory), name))
        real_flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    temp = store._temps.new()
    assert swept
    token = os.path.basename(temp).split(b"-")[0]
    assert os.path.exists(os.path.dirname(temp) + b"/" + token + b".lock")


def test_a_lost_temporary_directory_is_made_again(store, root):
    store.put(KEY, b"x")
    store.close()
    shutil.rmtree(root / ".tmp")
    store.put(KEY, b"y")
    assert store.get(KEY) == b"y"
