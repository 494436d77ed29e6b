"""A fleet's definition, evaluated: its hosts, and what is wrong with each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from tcfs.config.schema import Config
from tcfs.errors import FleetFileError, NotFoundError
from tcfs.rollout.names import option_of
from tcfs.rollout.nix import NixFailure, evaluate, library

FILE: Final = "fleet.nix"
HOSTS: Final = "hosts"


@dataclass(frozen=True, slots=True)
class HostProblem:
    """Something wrong with a host: the option, and where it stands if that is known."""

    option: str
    message: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """One host as it is declared.

    Attributes:
        manager: ``home-manager``, ``nixos`` or ``nix-darwin``.
        settings: the tables of its settings file; None if something is wrong with it.
        option: where its settings stand in Nix, such as ``programs.tcfs``.
    """

    name: str
    platform: str = ""
    manager: str = ""
    user: str = ""
    home: str = ""
    enable: bool = True
    option: str = ""
    settings: dict[str, dict[str, Any]] | None = None
    problems: tuple[HostProblem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def device_name(self) -> str:
        """The name that its device is to have."""
        sync = (self.settings or {}).get("sync", {})
        return str(sync.get("device_name") or self.name)

    def config(self) -> Config:
        """Its settings as the program reads them. Raises FleetFileError."""
        if self.settings is None:
            raise FleetFileError(f"the host {self.name} is not well defined")
        return Config.model_validate(self.settings)


@dataclass(frozen=True, slots=True)
class Definition:
    """A fleet as it is declared.

    Attributes:
        problems: what is wrong with all of it; its hosts are then unknown.
    """

    folder: Path
    hosts: dict[str, Host] = field(default_factory=dict)
    problems: tuple[HostProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every host is well defined."""
        return not self.problems and not any(host.problems for host in self.hosts.values())

    def host(self, name: str) -> Host:
        """A host that is well defined.

        Raises:
            NotFoundError: there is none of that name.
            FleetFileError: something is wrong with it, or with the whole definition.
        """
        if self.problems:
            raise FleetFileError(f"{self.folder / FILE}: {self.problems[0].message}")
        found = self.hosts.get(name)
        if found is None:
            known = ", ".join(sorted(self.hosts)) or "none"
            raise NotFoundError(
                f"the fleet has no host {name[:100]!r}", remedy=f"Its hosts are: {known}"
            )
        if found.problems:
            first = found.problems[0]
            raise FleetFileError(f"host {name}: {first.option}: {first.message}")
        return found


def read_definition(
    folder: Path, only: Iterable[str] = (), *, instead: Path | None = None
) -> Definition:
    """Evaluate a fleet's definition, or some hosts of it.

    What is wrong in it is part of the result.

    Args:
        instead: a file below the folder that takes the place of the one host's own.

    Raises:
        FleetFileError: there is no definition, or Nix is not there.
        NotFoundError: there is no host of that name.
    """
    folder = Path(os.path.realpath(folder))
    if not (folder / FILE).is_file():
        raise FleetFileError(
            f"{folder} holds no {FILE}",
            remedy="Name the folder of the fleet's definition with --fleet, or start one with: "
            "nix flake init -t tcfs#fleet",
        )
    names = sorted(set(only))
    given: dict[str, Any] = {"only": names} if names else {}
    if instead is not None:
        given["instead"] = os.fspath(instead)
    try:
        report = _report(folder, given)
        hosts = {name: _host(name, found) for name, found in report.items()}
        problems: tuple[HostProblem, ...] = ()
    except NixFailure as failure:
        hosts, problems = _one_by_one(folder, names, given, failure)
    missing = [name for name in names if name not in hosts]
    if missing and not problems:
        raise NotFoundError(
            f"the fleet has no host {missing[0][:100]!r}",
            remedy="See its hosts with: tcfs fleet check",
        )
    return Definition(folder, hosts, problems)


def _report(folder: Path, arguments: dict[str, Any]) -> Any:
    top = library()
    given = {"fleet": os.fspath(folder), **arguments}
    return evaluate(top / "lib" / "report.nix", given, folders=(folder, top))


def _one_by_one(
    folder: Path, names: list[str], given: dict[str, Any], failure: NixFailure
) -> tuple[dict[str, Host], tuple[HostProblem, ...]]:
    """The hosts that evaluate, and those that do not with the reason."""
    try:
        known = names or list(_report(folder, {"namesOnly": True}))
    except NixFailure:
        return {}, (_problem(folder, failure),)
    hosts: dict[str, Host] = {}
    for name in known:
        try:
            report = _report(folder, {**given, "only": [name]})
        except NixFailure as error:
            hosts[name] = Host(name, problems=(_problem(folder, error),))
            continue
        hosts |= {found: _host(found, report[found]) for found in report}
    return hosts, ()


def _problem(folder: Path, failure: NixFailure) -> HostProblem:
    file = failure.file
    if file.startswith(f"{folder}/"):
        file = file[len(os.fspath(folder)) + 1 :]
    message = failure.message
    if "restricted mode" in message:
        message += " (a definition may read its own folder alone)"
    return HostProblem("", message, file, failure.line)


def _host(name: str, found: dict[str, Any]) -> Host:
    problems = tuple(HostProblem(p["option"], p["message"]) for p in found["problems"])
    host = Host(
        name=name,
        platform=found["platform"],
        manager=found["manager"],
        user=found["user"],
        home=found["homeDirectory"],
        enable=found["enable"],
        option=found["option"],
        settings=found["settings"],
        problems=problems,
        warnings=tuple(found["warnings"]),
    )
    if problems:
        return host
    try:
        host.config()
    except ValidationError as error:
        # What only the program itself can check.
        wrong = tuple(
            HostProblem(
                option_of(".".join(str(part) for part in item["loc"][:2])),
                item["msg"].removeprefix("Value error, "),
            )
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        )
        return replace(host, problems=wrong, settings=None)
    return host
