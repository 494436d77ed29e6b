"""Two branches of one chain: what is built on either can be had by all, whichever stands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sync.gc.support import check_clean, collect, noise, settle
from tests.sync.kit import Device, World, assert_same

SMALL = b"only in the branch that does not stand"
INLINE = "inside a segment"
APART = "in a pack of its own"


@contextmanager
def hidden(*paths: Path) -> Iterator[None]:
    """The store does not show these objects yet."""
    aside = [path.with_name(f"{path.name}.aside") for path in paths]
    for path, place in zip(paths, aside, strict=True):
        path.rename(place.parent.parent / place.name)
    try:
        yield
    finally:
        for path, place in zip(paths, aside, strict=True):
            (place.parent.parent / place.name).rename(path)


def of(device: Device) -> set[Path]:
    """The segments of its chain."""
    identity = device.fleet._context.identity.device_id
    return set(device.world.objects(f"ledger/default/{identity}"))


def settled_across_branches(world: World, content: bytes) -> tuple[Device, Device]:
    """Dora took up one branch of ben's chain, learned of the other, and settled what differed.

    Returns anna, who took up the other branch, and dora. Ben's files are no more; his identity is
    revoked where the branch ends that anna has.
    """
    anna, ben = world.devices("anna", "ben")
    dora = world.device("dora", role="admin")
    anna.fill({"a.txt": "first", "large": noise(1)})
    anna.push()
    settle((ben, dora))
    ben.close()
    twin = world.device("twin", join=False)
    shutil.rmtree(twin.home, ignore_errors=True)
    shutil.copytree(ben.home, twin.home)
    twin.pull()
    twin.fill({"a.txt": content})
    twin.push()
    dora.pull()
    assert dora.read("a.txt") == content
    with hidden(*of(ben)):
        # More of it, so that it is this branch which later segments say they had seen.
        ben.fill({"0.txt": "0", "1.txt": "1", "a.txt": "ben's"})
        ben.push()
        ben.fill({"2.txt": "2"})
        ben.push()
        anna.pull()
        anna.fill({"a.txt": "anna's, after ben's"})
        anna.push()
    dora.sync(mode="auto")
    assert content in dora.contents().values()
    assert b"anna's, after ben's" in dora.contents().values()
    with hidden(*(path for path in of(ben) if path not in of_head(anna, ben))):
        anna.fleet.revoke("ben")
    return anna, dora


def of_head(device: Device, other: Device) -> set[Path]:
    """The segment up to which a device took up another's chain."""
    identity = other.fleet._context.identity.device_id
    head = device.fleet._context.state.history.heads(device.fleet._context.namespace)[identity]
    return {path for path in of(other) if head.hash in path.name}


@pytest.fixture(params=[INLINE, APART])
def content(request: pytest.FixtureRequest) -> bytes:
    """What the branch has that is left in the end."""
    return SMALL if request.param == INLINE else noise(7)


def test_what_was_settled_across_branches_can_be_had_by_who_knows_the_other_one(
    world: World, content: bytes
) -> None:
    anna, _dora = settled_across_branches(world, content)
    result = anna.pull()
    assert not result.problems
    assert content in anna.contents().values()
    check_clean(anna)


def test_what_was_settled_across_branches_outlives_collections(
    world: World, content: bytes
) -> None:
    """The device that settled never comes back."""
    anna, dora = settled_across_branches(world, content)
    anna.pull()
    dora.close()
    anna.fleet.gc.expire("dora")
    for round_ in range(3):
        collect(anna)
        anna.fill({"round.txt": str(round_)})
        anna.sync()
        anna.fleet.gc.snapshot(compact=True)
    late = world.device("late")
    assert not late.pull().problems
    assert content in late.contents().values()
    assert_same(anna.tree, late.tree)
    check_clean(anna, late)


def test_who_knows_of_a_fork_takes_snapshots_in_which_everything_has_its_place(
    world: World, content: bytes
) -> None:
    """What it is to tell of again is in them too."""
    anna, dora = settled_across_branches(world, content)
    settle((anna, dora))
    dora.fleet.gc.snapshot()
    late = world.device("late")
    assert not late.pull().problems
    assert_same(anna.tree, late.tree)
    late.fill({"copy": noise(1), "again.txt": content})
    late.push()
    assert not anna.pull().problems
    assert anna.read("copy") == noise(1)
    check_clean(anna, late)


def test_who_counts_on_no_branch_lets_go_of_no_segment_on_which_others_count(
    world: World,
) -> None:
    anna, dora = settled_across_branches(world, SMALL)
    for text in ("once", "twice", "thrice", "again"):
        anna.fill({"1.txt": text})
        anna.push()
    anna.fleet.gc.set_retention(keep_versions=2)
    dora.pull()
    collect(dora)
    for _ in range(2):
        anna.pull()
        dora.fleet.gc.snapshot(compact=True)
    # As it stood in the branch: what anna knows to be in the store she does not send.
    anna.fill({"again.txt": "1"})
    anna.push()
    assert not dora.pull().problems
    assert dora.read("again.txt") == b"1"
    check_clean(anna, dora)
