"""What the simulation found, each as the shortest story that showed it."""

from __future__ import annotations

import pytest

from tests.sim.minimise import replay
from tests.sim.world import WHOLE, Move, Setting


def hold(*moves: Move, **options: object) -> None:
    """All holds after these moves."""
    outcome = replay(Setting(0, **options), list(moves))  # type: ignore[arg-type]
    assert not outcome.failure, outcome.failure


@pytest.mark.parametrize("salt", [5, 6, 7])
def test_a_file_that_was_pushed_is_what_was_pushed_after_a_power_loss(salt: int) -> None:
    for operation in ("push", "sync"):
        hold(
            ("share",),
            ("user", "bob", False, "write", b"a", b"first\n"),
            ("operation", "bob", operation),
            ("run", "bob", WHOLE),
            ("crash", "bob", "all", salt),
        )


def test_a_disk_that_fails_under_a_pull_is_an_error_of_ours() -> None:
    for steps in range(9, 40):
        hold(
            ("user", "ann", True, "write", b"p/x", b"1\n"),
            ("operation", "ann", "push"),
            ("run", "ann", WHOLE),
            ("operation", "bob", "pull", "auto"),
            ("run", "bob", steps),
            ("run", "bob", WHOLE, "broken"),
        )


def test_an_edit_that_meets_a_file_while_it_is_put_back_survives() -> None:
    """Two edits within one replacement: the second goes into the file that tcfs takes away."""
    hold(
        ("user", "ann", True, "write", b"b", b"before\n"),
        ("settle",),
        ("user", "ann", True, "write", b"b", b"theirs, and longer\n"),
        ("operation", "ann", "push"),
        ("run", "ann", WHOLE),
        ("operation", "bob", "pull", "auto"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "replace", b"b", b"mine\n"),
        ("run", "bob", WHOLE, "", "tree"),
        ("user", "bob", True, "write", b"b", b"mine again\n"),
    )


def test_a_marker_that_a_killed_process_left_is_durable_before_the_root_is_recorded() -> None:
    """Otherwise a power loss leaves a root without its marker, which nobody may use any more."""
    for first in range(17, 22):
        hold(
            ("operation", "ann", "pull", "defer"),
            ("run", "ann", first),
            ("crash", "ann", None, 1),
            ("operation", "ann", "pull", "defer"),
            ("run", "ann", first + 3),
            ("crash", "ann", "none", 2),
        )
