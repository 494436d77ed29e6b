"""Large files: written in pieces by whoever has time, verified as they become whole."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tcfs.content.ingest import ingest_small
from tcfs.errors import CancelledError, LocalFileError
from tcfs.sync import pieces, staging, upload
from tests.sync.kit import Device, World, assert_same, watched_host

JOBS: dict[str, Any] = {"TCFS_SYNC_JOBS": "2"}
SIZE = 3_000_000
"""Three frames."""


@pytest.fixture(params=["here", "workers"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files from 100 KB on are large, and their pieces are a frame, or some 300 KB."""
    monkeypatch.setattr(staging, "LARGE", 100_000)
    monkeypatch.setattr(pieces, "SEALED_WINDOW", 200_000)
    monkeypatch.setattr(pieces, "WINDOW", 300_000)
    if request.param == "workers":
        monkeypatch.setattr(staging, "POOL_BYTES", 1)
    return str(request.param)


def random_bytes(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def text(lines: int) -> bytes:
    return b"".join(b"line %d of a log that compresses well\n" % n for n in range(lines))


def temporary(device: Device) -> list[Path]:
    return list(Path(os.fsdecode(device.tree)).glob(".tcfs/tmp-*/**/*"))


def test_large_files_come_back_in_pieces(world: World, small: str) -> None:
    anna, ben = world.devices("anna", "ben", **JOBS)
    repeated = random_bytes(3, 150_000) * 15
    anna.fill(
        {
            "random": random_bytes(1),
            "d/log": text(60_000),
            "d/repeated": repeated,
            "d/zeros": bytes(700_000),
            "just": random_bytes(2, 100_000),
            "small": "s",
        }
    )
    os.chmod(anna.path("random"), 0o750)
    os.chmod(anna.path("d/log"), 0o400)
    anna.push()
    told: list[tuple[int, int]] = []
    assert ben.pull(progress=lambda p: told.append((p.done, p.total))).problems == ()
    assert_same(anna.tree, ben.tree)
    assert temporary(ben) == []
    assert ben.push().plan.total == 0
    # How far it is shows in pieces, not in files.
    assert told[-1][0] == told[-1][1]
    assert len({done for done, _ in told}) > 10

    anna.fill({"random": random_bytes(1)[:1_400_000] + b"inserted" + random_bytes(1)[1_400_000:]})
    anna.push()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def damage(world: World, share: float) -> None:
    (pack,) = world.objects("packs")
    data = bytearray(pack.read_bytes())
    data[int(len(data) * share)] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_large_file_with_a_damaged_piece_is_not_there_and_the_others_are(
    world: World, small: str, share: float
) -> None:
    anna, ben = world.devices("anna", "ben", **JOBS)
    anna.fill({"good": text(20_000)})
    anna.push()
    for pack in world.objects("packs"):
        pack.rename(pack.with_suffix(".kept"))
    anna.fill({"bad": random_bytes(5), "good2": text(3)})
    anna.push()
    damage(world, share)
    for kept in (p for p in world.objects("packs") if p.suffix == ".kept"):
        kept.rename(kept.with_suffix(""))
    result = ben.pull()
    assert "bad" in {p.path for p in result.problems}
    assert all("pack" in p.message for p in result.problems)
    assert "bad" not in ben.contents()
    assert ben.contents()["good"] == text(20_000)
    assert temporary(ben) == []


def test_chunks_that_are_not_the_signed_file_never_get_its_name(
    world: World, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote the manifest signed another hash, or another size."""
    anna, ben = world.devices("anna", "ben", **JOBS)
    anna.fill({"hash": random_bytes(6), "longer": random_bytes(7), "shorter": random_bytes(8)})

    def lying(batch: Any) -> Any:
        result = ingest_small(batch)
        told = []
        for file in result.stored:
            name = batch.sources[file.ref - batch.sources[0].ref].path.rpartition(b"/")[2]
            if name == b"hash":
                file = file._replace(file_hash=bytes(32))
            told.append(file)
        return result._replace(stored=told)

    monkeypatch.setattr(upload, "ingest_small", lying)
    anna.push()
    result = ben.pull()
    assert [p.path for p in result.problems] == ["hash"]
    assert "signed" in result.problems[0].message
    assert sorted(ben.contents()) == ["longer", "shorter"]
    assert temporary(ben) == []


@pytest.mark.parametrize("method", ["write_new", "write_at", "open", "set_attributes"])
def test_a_disk_that_fails_costs_the_file_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(staging, "LARGE", 100_000)
    anna, ben = world.devices("anna", "ben")
    anna.fill({"bad": random_bytes(1), "small": "s"})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    calls = [0]

    def before(name: str, path: bytes) -> None:
        if name == method and b"/tmp-" in path and b"/u" in path:
            calls[0] += 1
            # The small file is made first.
            if calls[0] == (2 if method == "write_new" else 1):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    files.before = before
    result = ben.pull()
    assert [p.path for p in result.problems] == ["bad"]
    assert ben.contents() == {"small": b"s"}
    assert temporary(ben) == []
    ben.reopen()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def test_what_is_read_back_must_be_what_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "LARGE", 100_000)
    anna, ben = world.devices("anna", "ben")
    anna.fill({"large": random_bytes(1)})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)

    def after(name: str, path: bytes) -> None:
        if name == "write_at":
            with open(path, "r+b") as file:
                file.write(b"other bytes than these")

    files.after = after
    (problem,) = ben.pull().problems
    assert "not what was written" in problem.message
    assert ben.contents() == {}
    assert temporary(ben) == []


def test_a_full_disk_stops_the_pull_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "LARGE", 100_000)
    monkeypatch.setattr(pieces, "SEALED_WINDOW", 200_000)
    anna, ben = world.devices("anna", "ben")
    anna.fill({f"large{n}": random_bytes(n) for n in range(3)})
    anna.push()
    host, files = watched_host()
    ben.reopen(host=host)
    written = [0]

    def before(name: str, path: bytes) -> None:
        written[0] += name == "write_at"
        if name == "write_at" and written[0] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    files.before = before
    with pytest.raises(LocalFileError, match="no space"):
        ben.pull()
    assert written[0] == 4
    assert temporary(ben) == []
    ben.reopen()
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def test_a_pull_that_is_stopped_between_pieces_leaves_nothing_and_goes_on(
    world: World, small: str
) -> None:
    anna, ben = world.devices("anna", "ben", **JOBS)
    anna.fill({"large": random_bytes(1), "other": text(50_000)})
    anna.push()
    done = [0]

    def progress(told: Any) -> None:
        done[0] = told.done

    with pytest.raises(CancelledError):
        ben.pull(progress=progress, cancel=lambda: done[0] > 2_000_000)
    assert ben.contents() == {}
    assert temporary(ben) == []
    assert ben.pull().problems == ()
    assert_same(anna.tree, ben.tree)


def test_files_take_turns_and_a_finished_one_makes_place() -> None:
    sources = iter([iter("aaa"), iter("b"), iter(""), iter("cc")])
    assert "".join(pieces._in_turn(sources, 2)) == "abaacc"
