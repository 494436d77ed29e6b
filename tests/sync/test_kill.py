"""Real processes, killed by the system: what they leave, the next one completes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tcfs.config.load import LoadedConfig, load_config
from tcfs.host.lock import file_lock
from tcfs.sync import session, upload
from tests.sync.crashing import fast_directory, leftovers, snapshot
from tests.sync.kill_entry import run

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0


class Fleet:
    """Devices ``a`` and ``b`` over an embedded store; what is killed is a process of its own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in "ab":
            self.tree(name).mkdir()
        session.init_fleet(self.loaded("a"), name="a")
        a = session.open_fleet(self.loaded("a"), actor="test")
        code = a.invite().code
        a.close()
        session.enroll_fleet(self.loaded("b"), name="b", invite=code)

    def tree(self, name: str) -> Path:
        return self.top / f"{name}-tree"

    def environ(self, name: str) -> dict[str, str]:
        return {
            "HOME": str(self.top),
            "TCFS_HOME": str(self.top / name),
            "TCFS_REMOTE": (self.top / "store").as_uri(),
        }

    def loaded(self, name: str) -> LoadedConfig:
        return load_config(
            environ=self.environ(name),
            overrides={"sync.sync_root": self.tree(name), "sync.jobs": 2},
        )

    def start(self, name: str, command: str, number: int = -1, moment: str = "before") -> Process:
        """A process that is to be killed."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.sync.kill_entry"),
                *(command, str(self.tree(name)), str(number), moment),
            ],
            env=os.environ | self.environ(name),
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def complete(self, name: str, command: str) -> int:
        """Run to the end, in this process; returns how many changes that took."""
        return run(self.loaded(name), command)

    def check(self) -> None:
        """Both trees are the same, nothing is left over, and all of the store verifies."""
        assert snapshot(self.tree("a")) == snapshot(self.tree("b"))
        for name in "ab":
            assert leftovers(self.tree(name)) == []
            fleet = session.open_fleet(self.loaded(name), actor="test")
            report = fleet.verify(read_data=True, local=True)
            status = fleet.status()
            fleet.close()
            assert report.ok, report.problems
            assert status.outbox == 0
            assert status.conflicts == 0
        assert list((self.top / "store").glob(".tmp/*-*")) == []


Process = subprocess.Popen[bytes]


def wait_for_all(process: Process) -> None:
    """Until the process and all it started have ended: each of them holds standard error."""
    process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    # As in the processes that are killed.
    monkeypatch.setattr(upload, "POOL_WORTH", 0)
    with tempfile.TemporaryDirectory(prefix="tcfs-kill-", dir=fast_directory()) as top:
        yield Fleet(Path(top).resolve())


def change(top: Path, seed: int) -> None:
    """A tree of a few hundred files, or another one like it."""
    source = random.Random(seed)
    for number in range(250):
        path = top / f"d{number % 7}" / f"f{number:03}"
        if seed and source.random() < 0.6:
            continue
        path.parent.mkdir(exist_ok=True)
        if seed and source.random() < 0.2:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(source.randbytes(source.choice([0, 10, 5000, 60_000])))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_at_a_change_is_completed_by_the_next(fleet: Fleet, moment: str) -> None:
    change(fleet.tree("a"), 0)
    count = {"push": fleet.complete("a", "push"), "pull": fleet.complete("b", "pull")}
    fleet.check()
    for seed in range(1, 7):
        change(fleet.tree("a"), seed)
        for name, command in (("a", "push"), ("b", "pull")):
            number = max(1, count[command] * seed // 8)
            process = fleet.start(name, command, number, moment)
            wait_for_all(process)
            assert process.returncode in (0, -9)
            with file_lock(os.fsencode(fleet.loaded(name).state_db.parent / "lock"), False):
                pass
            count[command] = fleet.complete(name, command)
        fleet.check()


def test_a_process_killed_at_any_time_is_completed_by_the_next(fleet: Fleet) -> None:
    times = random.Random(11)
    killed = 0
    for seed in range(8):
        change(fleet.tree("a"), seed)
        for name, command in (("a", "push"), ("b", "pull")):
            process = fleet.start(name, command)
            try:
                process.wait(timeout=times.uniform(0.2, 1.0))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            wait_for_all(process)
            fleet.complete(name, command)
        fleet.check()
    assert killed
