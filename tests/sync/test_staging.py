"""Files under temporary names: written by worker processes, and rubbish if a pull is cut off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tcfs.host import executor
from tcfs.model.ids import RelPath
from tcfs.state.roots import Intent
from tcfs.store.open import open_store
from tcfs.store.wrappers.count import CountStore
from tcfs.sync import leftovers, receive, session, staging
from tests.sync.kit import Device, Link, World, assert_same

JOBS: dict[str, Any] = {"TCFS_SYNC_JOBS": "2"}


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every pull uses worker processes, in units of three files. Holds the pools' sizes."""
    made: list[int] = []
    real = executor.ProcessExecutor.__init__

    def noted(self: executor.ProcessExecutor, workers: int, *, grace: float = 2.0) -> None:
        made.append(workers)
        real(self, workers, grace=grace)

    monkeypatch.setattr(executor.ProcessExecutor, "__init__", noted)
    monkeypatch.setattr(staging, "POOL_FILES", 1)
    monkeypatch.setattr(staging, "UNIT_FILES", 3)
    return made


def fill(device: Device) -> None:
    device.fill({f"d{n % 3}/{n:02}.txt": f"{n} " * (100 * n) for n in range(20)})
    device.fill({"top": "t", "empty": "", "d1/link": Link(b"to/\xff"), b"d2/\xfe": "odd name"})
    os.chmod(device.path("d1/04.txt"), 0o711)


@pytest.mark.parametrize("encryption", [True, False])
def test_worker_processes_write_the_same_tree(
    world: World, pooled: list[int], encryption: bool
) -> None:
    anna, ben = (world.device(name, join=False, **JOBS) for name in ("anna", "ben"))
    session.init_fleet(anna.loaded, name="anna", encryption=encryption)
    session.enroll_fleet(ben.loaded, name="ben", invite=anna.fleet.invite().code)
    fill(anna)
    anna.push()
    assert ben.pull().problems == ()
    assert pooled == [2]
    assert_same(anna.tree, ben.tree)
    assert not list(Path(os.fsdecode(ben.tree)).glob(".tcfs/tmp-*"))
    assert ben.push().plan.total == 0

    anna.fill({"d0/00.txt": "changed", "d1/04.txt": "changed too", "new/sub/a": "a"})
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def test_a_damaged_pack_costs_the_files_in_it_alone(world: World, pooled: list[int]) -> None:
    anna, ben = world.devices("anna", "ben", **JOBS)
    anna.fill({"d/good.txt": "good"})
    anna.push()
    anna.fill({"d/bad.bin": os.urandom(400_000), "d/near.txt": "near"})
    anna.push()
    (pack,) = world.objects("packs")
    data = bytearray(pack.read_bytes())
    data[200_000] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    result = ben.pull()
    # They share a frame, and what was pushed before is in another pack.
    assert [p.path for p in result.problems] == ["d/bad.bin", "d/near.txt"]
    assert sorted(ben.contents()) == ["d/good.txt"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_neighbouring_units_share_the_reads_of_their_packs(
    world: World, pooled: list[int], jobs: str
) -> None:
    anna, ben = world.device("anna"), world.device("ben", TCFS_SYNC_JOBS=jobs)
    anna.fill({f"{n:02}": os.urandom(100_000) for n in range(30)})
    anna.push()
    counting = CountStore(open_store(world.endpoint))
    ben.reopen(store=counting)
    pulled = ben.pull()
    assert pulled.problems == ()
    assert_same(anna.tree, ben.tree)
    assert counting.count("get_range").requests == 1  # of ten units
    assert pulled.transfer is not None
    assert pulled.transfer.bytes_received == counting.count("get_range").bytes


def test_a_pull_does_not_gather_all_tiny_files_for_one_read(
    world: World, pooled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "SHARING", 2)
    anna, ben = world.device("anna"), world.device("ben", TCFS_SYNC_JOBS="1")
    anna.fill({f"{n:02}": os.urandom(100_000) for n in range(30)})
    anna.push()
    counting = CountStore(open_store(world.endpoint))
    ben.reopen(store=counting)
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)
    assert counting.count("get_range").requests == 5  # of ten units


def test_workers_start_while_the_history_that_they_work_on_is_taken_up(
    world: World, pooled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(place: object, name: str) -> None:
        real = getattr(place, name)

        def note(*arguments: Any) -> None:
            steps.append(name)
            real(*arguments)

        monkeypatch.setattr(place, name, note)

    noted(executor.ProcessExecutor, "start")
    noted(receive, "_take_up")
    anna, ben, carl = (world.device(name, **JOBS) for name in ("anna", "ben", "carl"))
    fill(anna)
    anna.push()
    steps.clear()
    assert ben.pull().problems == ()
    assert steps[:2] == ["start", "_take_up"]
    assert_same(anna.tree, ben.tree)

    steps.clear()
    carl.pull(dry_run=True)
    assert "start" not in steps


def test_unfinished_copies_of_a_pull_that_was_cut_off_are_rubbish(world: World) -> None:
    """One batch was being placed while workers wrote the next."""
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "one"})
    anna.push()
    ben.pull()
    context = ben.fleet._context
    (root,) = context.state.roots.all()
    head = context.state.history.head(root.namespace, RelPath(b"a.txt"))
    context.state.roots.intend(root, [Intent(RelPath(b"a.txt"), "file", head.ids[0])])
    temp = Path(os.fsdecode(ben.tree)) / ".tcfs" / f"tmp-{context.identity.device_id}"
    (temp / "u7" / "3d").mkdir(parents=True)
    (temp / "u7" / "1").write_bytes(b"half of some fi")
    (temp / "u7" / "3d" / "name").write_bytes(b"half of ano")
    (temp / "8").write_bytes(b"an edit that a swap displaced")
    (problem,) = leftovers.recover(context, root)
    assert "recovered.conflict-8" in problem.path
    assert not temp.exists()
    assert sorted(ben.contents()) == ["a.txt", "recovered.conflict-8"]
