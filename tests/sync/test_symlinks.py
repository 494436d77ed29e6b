"""What lies behind a symlink is not the tree's: no name in the fleet reaches it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from tcfs.errors import TcfsError
from tests.sync.kit import Device, Link, World, fill

SECRET = b"-- private --"


def is_known(device: Device, content: bytes) -> bool:
    """Whether the fleet has any version with this content."""
    versions = device.fleet.log(limit=1000).versions
    return blake3(content).hexdigest() in {version.file_hash for version in versions}


def bait(world: World, tmp_path: Path) -> tuple[Device, Device]:
    """A hostile member shares a symlink to where Ben keeps secrets, and a file below its name."""
    fill(tmp_path / "outside", {"id": SECRET, "other": "mine"})
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "a", "x": Link(tmp_path / "outside")})
    anna.push()
    ben.pull()
    assert os.readlink(ben.path("x")) == os.fsencode(tmp_path / "outside")
    fill(tmp_path / "bait", {"id": "bait"})
    anna.fleet.push([os.fsencode(tmp_path / "bait" / "id")], as_remote="x/id")
    return anna, ben


def test_a_pull_sends_nothing_from_behind_a_symlink(world: World, tmp_path: Path) -> None:
    anna, ben = bait(world, tmp_path)
    ben.pull()
    ben.push()
    anna.pull()
    assert is_known(anna, b"bait")
    assert not is_known(anna, SECRET)
    assert (tmp_path / "outside" / "id").read_bytes() == SECRET
    assert sorted(os.listdir(tmp_path / "outside")) == ["id", "other"]


@pytest.mark.parametrize("resolution", ["keep_local", "keep_remote", "keep_both", "merge"])
def test_settling_a_conflict_sends_nothing_from_behind_a_symlink(
    world: World, tmp_path: Path, resolution: str
) -> None:
    anna, ben = bait(world, tmp_path)
    fill(tmp_path / "bait", {"id": "another"})
    carl = world.device("carl")
    carl.fleet.push([os.fsencode(tmp_path / "bait" / "id")], as_remote="x/id")
    ben.pull(mode="defer")
    # Whether it can be settled in that way does not matter here.
    with suppress(TcfsError):
        ben.fleet.resolve("x/id", resolution)  # type: ignore[arg-type]
    ben.push()
    anna.pull()
    assert is_known(anna, b"bait")
    assert not is_known(anna, SECRET)
    assert (tmp_path / "outside" / "id").read_bytes() == SECRET
    assert sorted(os.listdir(tmp_path / "outside")) == ["id", "other"]


def test_a_pull_removes_and_changes_nothing_behind_a_symlink(world: World, tmp_path: Path) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"d/gone": "g", "d/mode": "m", "d/text": "t"})
    anna.push()
    ben.pull()
    # The same inodes, so that only where they are tells them from what was pulled.
    os.rename(ben.path("d"), tmp_path / "outside")
    os.symlink(tmp_path / "outside", ben.path("d"))
    anna.remove("d/gone")
    os.chmod(anna.path("d/mode"), 0o600)
    anna.fill({"d/text": "other"})
    anna.push()
    before = {name: os.lstat(tmp_path / "outside" / name) for name in ("gone", "mode", "text")}
    ben.pull()
    for name, stat in before.items():
        assert os.lstat(tmp_path / "outside" / name) == stat
    assert sorted(os.listdir(tmp_path / "outside")) == ["gone", "mode", "text"]
