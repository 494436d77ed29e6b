"""Checking everything again: what is damaged is found, named, and brought back where possible."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.sync.kit import Device, World, assert_same

LARGE = secrets.token_bytes(600_000)


def filled(world: World) -> tuple[Device, Device]:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"big.bin": LARGE, "small.txt": "small", "d/e.txt": "e"})
    anna.push()
    ben.pull()
    ben.fill({"small.txt": "edited"})
    ben.push()
    anna.pull()
    return anna, ben


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(data)


def test_a_sound_repository_verifies(world: World) -> None:
    anna, _ben = filled(world)
    report = anna.fleet.verify(read_data=True, local=True)
    assert (report.ok, report.problems) == (True, ())
    assert report.segments == 2
    assert report.packs >= 2
    assert report.files >= 3
    assert report.bytes_read > len(LARGE)


def test_a_flipped_byte_anywhere_in_a_pack_is_found(world: World) -> None:
    anna, _ben = filled(world)
    (pack,) = world.objects("packs")
    size = pack.stat().st_size
    for at in (0, 9, 30, 100, size // 2, size - 20, size - 9, size - 1):
        flip(pack, at)
        assert anna.fleet.verify().ok, "without reading data it cannot be seen"
        report = anna.fleet.verify(read_data=True)
        assert not report.ok, at
        assert pack.name in report.problems[0].path
        flip(pack, at)
    assert anna.fleet.verify(read_data=True).ok


def test_a_damaged_pack_is_reported_with_the_paths_it_concerns(world: World) -> None:
    anna, _ben = filled(world)
    (pack,) = world.objects("packs")
    flip(pack, 300_000)
    report = anna.fleet.verify(read_data=True)
    assert any("big.bin" in p.remedy for p in report.problems)
    assert {p.code for p in report.problems} == {"integrity"}


def test_a_missing_pack_is_found_without_reading_data(world: World) -> None:
    anna, _ben = filled(world)
    (pack,) = world.objects("packs")
    pack.unlink()
    report = anna.fleet.verify()
    assert not report.ok
    assert "not in the store" in report.problems[0].message
    assert "big.bin" in report.problems[0].remedy


def test_a_truncated_pack_is_found(world: World) -> None:
    anna, _ben = filled(world)
    (pack,) = world.objects("packs")
    pack.write_bytes(pack.read_bytes()[:-100])
    assert not anna.fleet.verify(read_data=True).ok


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_a_damaged_segment_is_found(world: World, damage: str) -> None:
    anna, ben = filled(world)
    (segment,) = world.objects(f"ledger/default/{ben.fleet.status().device_id}")
    data = segment.read_bytes()
    if damage == "truncate":
        segment.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        flip(segment, len(data) // 2)
    elif damage == "empty":
        segment.write_bytes(b"")
    else:
        segment.unlink()
    report = anna.fleet.verify()
    assert not report.ok
    assert any(ben.fleet.status().device_id in p.path for p in report.problems)


def test_silent_corruption_of_a_local_file_is_found_and_repaired_and_its_bytes_kept(
    world: World,
) -> None:
    anna, ben = filled(world)
    path = Path(os.fsdecode(anna.path("big.bin")))
    before = path.stat()
    # As a disk does it: the bytes change and no time does. ctime cannot be set, so the base is.
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"rotten")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    rotten = path.read_bytes()
    database = anna.fleet._context.state.database.connection
    database.execute(
        "UPDATE base SET ctime_ns = ? WHERE path = ?", (path.stat().st_ctime_ns, b"big.bin")
    )

    assert anna.push().plan.total == 0
    found = anna.fleet.verify(local=True)
    assert [(p.path, p.code) for p in found.problems] == [("big.bin", "integrity")]
    assert path.read_bytes() == rotten
    repaired = anna.fleet.verify(local=True, repair=True)

    assert repaired.repaired == ("big.bin",)
    assert path.read_bytes() == LARGE
    assert anna.read("big.conflict-anna.bin") == rotten
    assert anna.fleet.verify(local=True).ok
    os.unlink(anna.path("big.conflict-anna.bin"))
    assert_same(anna.tree, ben.tree)
    assert anna.push().plan.total == 0


def test_an_edited_local_file_is_no_corruption(world: World) -> None:
    anna, _ben = filled(world)
    anna.fill({"big.bin": "edited"})
    report = anna.fleet.verify(local=True, repair=True)
    assert (report.ok, report.repaired) == (True, ())
    assert anna.read("big.bin") == b"edited"
