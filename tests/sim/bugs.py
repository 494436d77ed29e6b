"""Deliberate bugs, to test the rig: each replaces one function or constant of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug to plant.

    Attributes:
        what: in words.
        plant: makes it; returns what takes it back.
    """

    what: str
    plant: Callable[[], Callable[[], None]]


BUGS: Final[dict[str, Bug]] = {}


def _replace(owner: Any, name: str, new: Any) -> Callable[[], None]:
    old = getattr(owner, name)
    setattr(owner, name, new)
    return lambda: setattr(owner, name, old)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The engine has this bug while it lasts."""
    take_back = BUGS[name].plant()
    try:
        yield
    finally:
        take_back()
