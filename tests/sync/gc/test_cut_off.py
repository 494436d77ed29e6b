"""Who collects is let go in the middle of it: what only his segments tell of is nobody's place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcfs.host.faults import SimulatedCrash
from tests.sync.gc.support import (
    SIZE,
    check_clean,
    collect,
    crash_on,
    noise,
    packs,
    settle,
)
from tests.sync.kit import Device, World


def half_a_collection(world: World) -> tuple[Device, Device, Device, str]:
    """Cara moved what is needed out of a pack, told it, and was let go before she marked that pack.

    Dave has taken up what she told; anna, who let her go, had not seen it.
    """
    anna, cara, dave = world.devices("anna", "cara", "dave")
    anna.fill({"one": noise(1, SIZE * 2), "two": noise(2)})
    anna.push()
    (old,) = packs(world)
    for text in (b"small", b"smaller"):
        anna.fill({"one": text})
        anna.push()
    anna.fleet.gc.set_retention(keep_versions=2)
    settle((cara, dave))
    chain = f"ledger/default/{cara.fleet._context.identity.device_id}"
    crash_on(cara, "put", "ledger/_control/", "before")
    before = set(world.objects("ledger"))
    with pytest.raises(SimulatedCrash):
        collect(cara)
    (told,) = [path for path in world.objects(chain) if path not in before]
    dave.pull()
    hidden = Path(f"{told}.hidden")
    told.rename(hidden)
    anna.fleet.revoke("cara")
    hidden.rename(told)
    return anna, cara, dave, old


def test_a_pack_stays_while_its_content_is_elsewhere_by_the_word_of_who_was_let_go(
    world: World,
) -> None:
    anna, _, dave, old = half_a_collection(world)
    settle((dave, anna))
    done = collect(dave)
    # Where only cara's lost word says it is, it is no more.
    assert (done.unused.packs, done.orphans.packs, done.problems) == (0, 1, ())
    settle((dave, anna))
    done = collect(dave)
    assert (done.problems, done.swept.packs) == ((), 1)
    assert old in packs(world)
    anna.remove("two")
    anna.fleet.pull("two", anna.path("again"))
    assert anna.read("again") == noise(2)
    check_clean(anna, dave)
