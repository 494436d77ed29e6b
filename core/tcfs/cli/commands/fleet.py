"""``tcfs fleet``: the fleet as a whole. Its commands are in modules of their own.

To add one, write a module with ``add(fleet)``, which describes its arguments and is cheap, and list
it in ``add`` below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import group

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    from tcfs.cli.commands import (
        fleet_compare,
        fleet_definition,
        fleet_rollout,
        fleet_switch,
        fleet_verify,
    )

    fleet = group(subparsers, "fleet", "manage the fleet as a whole")
    for module in (fleet_definition, fleet_compare, fleet_switch, fleet_rollout, fleet_verify):
        module.add(fleet)
