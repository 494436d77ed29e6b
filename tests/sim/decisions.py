"""Decisions about the fleet that change while all work: how conflicts are settled, what is kept.

Until all is quiet again, a device acts on what it knows: the old decision or the new one. Then all
must say the same, and it must be what an admin decided last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tcfs.model.access import DEFAULT_STRATEGY
from tcfs.sync.gc.survey import rules_of
from tests.sim.model import Model, Violation

if TYPE_CHECKING:
    from tests.sim.fleet import Device
    from tests.sim.world import Setting

CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "strategy": (DEFAULT_STRATEGY, DEFAULT_STRATEGY, "first-write", "last-write", "merge"),
    "retention": (0, 1, 2, 2, 3),
}
"""By operation, what an admin may decide; versions of a path that are kept, 0 for all."""


@dataclass(slots=True)
class Asked:
    """What an admin asked for since the last quiet moment, and whether it heard that it is so."""

    by: str
    what: str
    value: Any
    done: bool = False


class Decisions:
    """What was decided, and what the model may ask for therefore."""

    def __init__(self, setting: Setting, model: Model) -> None:
        self._model = model
        self._agreed: dict[str, Any] = {
            "strategy": setting.strategy or DEFAULT_STRATEGY,
            "retention": setting.retention,
        }
        self._asked: list[Asked] = []
        self._admin_left = False
        self.lets_go = bool(setting.retention)
        """Whether contents that only the history has may be gone."""
        model.merging = setting.strategy == "merge"
        model.by_name = self._by_name

    @property
    def _by_name(self) -> bool:
        return bool(self._agreed["strategy"] == DEFAULT_STRATEGY)

    def asked(self, by: str, what: str, value: Any) -> None:
        """An admin begins to decide this."""
        self._asked.append(Asked(by, what, value))
        if what == "strategy":
            # Who knows of it settles in another way than who does not yet.
            self._model.by_name = False
            self._model.merging |= value == "merge"
        else:
            self.lets_go |= bool(value)

    def done(self, by: str) -> None:
        """It was told that it is so."""
        [*_, last] = (one for one in self._asked if one.by == by)
        last.done = True

    def admin_left(self) -> None:
        """What one decided since the last quiet moment may count no more."""
        self._admin_left = True

    def check(self, devices: Iterable[Device]) -> None:
        """All is quiet: all devices say the same, and what may be. Raises Violation."""
        found = {device.name: _said_by(device) for device in devices}
        for what in CHOICES:
            values = {said[what] for said in found.values()}
            if len(values) != 1:
                raise Violation(f"the devices do not agree about the {what}: {found}")
            [value] = values
            allowed = self._allowed(what)
            if value not in allowed:
                raise Violation(f"the {what} is {value!r}, and was decided to be {allowed}")
            self._agreed[what] = value

    def begin_anew(self) -> None:
        """All was quiet: from here on all act on the same decisions."""
        self._asked.clear()
        self._admin_left = False
        self._model.by_name = self._by_name
        if self.lets_go and not self._agreed["retention"]:
            # What it let go of stays gone; what is owed from here on must be found again.
            self._model.owed.clear()
            self.lets_go = False

    def _allowed(self, what: str) -> list[Any]:
        asked = [one for one in self._asked if one.what == what]
        allowed: list[Any] = []
        if self._admin_left or not any(one.done for one in asked):
            allowed.append(self._agreed[what])
        for by in dict.fromkeys(one.by for one in asked):
            allowed += _last_words([one for one in asked if one.by == by], all_of=self._admin_left)
        return allowed


def _last_words(asked: list[Asked], *, all_of: bool) -> Iterator[Any]:
    """The last that one admin knows to be so, and what it asked for after that, in vain or not."""
    last = max((i for i, one in enumerate(asked) if one.done), default=0)
    return (one.value for one in (asked if all_of else asked[last:]))


def _said_by(device: Device) -> dict[str, Any]:
    context = device.open()._context
    policy = rules_of(context, context.namespace).policy
    return {
        "strategy": context.control.strategy(context.namespace),
        "retention": policy.keep_versions or 0,
    }
