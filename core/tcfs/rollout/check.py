"""``fleet_check``: every host evaluated, and what is wrong by host, option and place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tcfs.errors import UsageError
from tcfs.rollout.definition import HOSTS, Definition, Host, HostProblem, read_definition
from tcfs.rollout.nixtext import HostText


@dataclass(frozen=True, slots=True)
class HostCheck:
    """One host, and whether it is well defined."""

    name: str
    platform: str
    manager: str
    ok: bool
    problems: tuple[HostProblem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The whole fleet. ``problems`` are the definition's own: its hosts are then unknown."""

    fleet: str
    ok: bool
    hosts: tuple[HostCheck, ...]
    problems: tuple[HostProblem, ...] = ()


def check_fleet(folder: Path, only: Iterable[str] = ()) -> CheckReport:
    """Evaluate the hosts of a fleet, or some of them.

    Raises:
        FleetFileError: there is no definition, or Nix is not there.
        NotFoundError: there is no host of that name.
    """
    return report_of(read_definition(folder, only))


def report_of(definition: Definition) -> CheckReport:
    """The check of a definition that was read."""
    hosts = tuple(
        HostCheck(
            name=host.name,
            platform=host.platform,
            manager=host.manager,
            ok=not host.problems,
            problems=tuple(_placed(definition.folder, host, p) for p in host.problems),
            warnings=host.warnings,
        )
        for _, host in sorted(definition.hosts.items())
    )
    return CheckReport(str(definition.folder), definition.ok, hosts, definition.problems)


def _placed(folder: Path, host: Host, problem: HostProblem) -> HostProblem:
    """The problem with the place of its option, where the host's own file sets it."""
    file = Path(HOSTS, f"{host.name}.nix")
    if problem.file or not problem.option:
        return problem
    try:
        text = (folder / file).read_text(encoding="utf-8")
        known = HostText(text, str(file)).bindings
    except (OSError, ValueError, UsageError):
        # It is defined elsewhere, or in a way that only Nix understands.
        return problem
    found = known.get(problem.option)
    if found is None:
        return problem
    return replace(problem, file=str(file), line=text.count("\n", 0, found.start) + 1)
