"""The kit itself: a tree travels from one device to the next."""

from __future__ import annotations

from tests.sync.kit import Link, World, assert_same


def test_a_tree_travels_between_two_devices(world: World) -> None:
    anna, ben = world.devices("anna", "ben")
    anna.fill({"a.txt": "hello", "d/b.txt": b"\0\1", "empty": b"", "e/": None, "l": Link("a.txt")})

    sent = anna.push()
    assert sent.problems == ()
    received = ben.pull()

    assert received.problems == ()
    assert_same(anna.tree, ben.tree)
