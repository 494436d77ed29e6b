"""Words for the stories of what the simulation found."""

from __future__ import annotations

from tests.sim.minimise import replay
from tests.sim.world import WHOLE, Move, Setting


def hold(*moves: Move, **options: object) -> None:
    """All holds after these moves."""
    setting = Setting(**{"seed": 0, **options})  # type: ignore[arg-type]
    outcome = replay(setting, list(moves))
    assert not outcome.failure, outcome.failure


def whole(device: str, *operation: object) -> tuple[Move, Move]:
    """A device does something from beginning to end."""
    return ("operation", device, *operation), ("run", device, WHOLE)
