"""A repository in a place that this device may not write to."""

from __future__ import annotations

from tests.sync.git.repos import BUNDLE, clean, repo
from tests.sync.kit import World


def test_its_new_history_is_reported_and_stays_while_the_rest_is_sent(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    source, copy = repo(anna).init(), repo(ben)
    source.commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    place = source.path.relative_to(anna.tree)
    anna.fleet.access.set(f"{place}/**", ["read"], everyone=True)
    head = source("rev-parse", "HEAD")
    copy.commit("a.txt", "two\n")
    ben.fill({"free.txt": "sent"})
    result = ben.push()
    assert f"{place}/.git" in {p.path for p in result.problems}
    assert {p.code for p in result.problems} == {"access"}
    anna.pull()
    assert anna.read("free.txt") == b"sent"
    assert source("rev-parse", "HEAD") == head
    assert copy("log", "--format=%s", "-1") != "", "what was committed is here still"
