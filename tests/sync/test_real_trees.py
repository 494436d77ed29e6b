"""Real trees make the round trip byte-, mode-, mtime- and link-exact."""

from __future__ import annotations

import os
import shutil
import stat
import sysconfig
from pathlib import Path

import pytest

from tests.sync.kit import Device, World, assert_same, path_of

CHECKOUT = Path(__file__).resolve().parents[2]


def round_trip(world: World, source: Path, *ignored: str, **settings: str) -> tuple[Device, Device]:
    """Copy a real tree, push it, pull it elsewhere, compare; then again after a few changes."""
    anna, ben = world.devices("anna", "ben", **settings)
    anna.tree.rmdir()
    shutil.copytree(source, anna.tree, symlinks=True, ignore=shutil.ignore_patterns(*ignored))
    pushed = anna.push()
    assert pushed.problems == ()
    pulled = ben.pull()
    assert (pulled.problems, pulled.conflicts) == ((), ())
    assert_same(anna.tree, ben.tree)
    assert anna.push().plan.total == ben.push().plan.total == 0
    assert anna.pull().plan.total == 0
    return anna, ben


@pytest.mark.slow
def test_the_standard_library_makes_the_round_trip(world: World) -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    anna, ben = round_trip(
        world, library, "site-packages", "dist-packages", "__pycache__", "test", "config-*"
    )
    assert len(ben.contents()) > 500
    os.rename(anna.path("json"), anna.path("renamed"))
    shutil.rmtree(anna.tree / "email")
    for name in ("os.py", "re/__init__.py"):
        if os.path.exists(anna.path(name)):
            anna.fill({name: anna.read(name) + b"\n# edited\n"})
    sent = anna.push()
    assert sent.transfer.bytes_sent < 200_000
    ben.pull()
    assert_same(anna.tree, ben.tree)


def test_this_checkout_makes_the_round_trip(world: World) -> None:
    anna, ben = round_trip(
        world,
        CHECKOUT,
        *(".venv", "build", "__pycache__", ".*_cache", ".hypothesis", ".git"),
    )
    assert b"core/tcfs/sync/push.py" in ben.snapshot()
    links = [n for n, e in ben.snapshot().items() if e.kind == "symlink"]
    originals = [n for n in links if os.path.islink(path_of(CHECKOUT, n))]
    assert links == originals
    found = [path for path in (CHECKOUT / "script").iterdir() if path.is_file()]
    scripts = [path for path in found if path.stat().st_mode & stat.S_IXUSR]
    assert scripts
    for script in scripts:
        assert os.stat(ben.path(f"script/{script.name}")).st_mode & stat.S_IXUSR
    os.rename(anna.path("core"), anna.path("kernel"))
    assert anna.push().transfer.bytes_sent < 300_000
    ben.pull()
    assert_same(anna.tree, ben.tree)
