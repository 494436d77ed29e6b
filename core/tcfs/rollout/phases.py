"""The rollout plan of RFC 0001: its six phases and its checklist, as steps for a fleet's hosts.

A step is either *seen*, which this program can tell for itself each time it is asked, or *told*: a
person or an assistant did it and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tcfs.errors import TcfsError
from tcfs.rollout.compare import HostDiff, compare_fleet
from tcfs.rollout.definition import Definition, Host, read_definition
from tcfs.sync.facade import FleetApi

PHASES: Final = {
    1: "Define and pin",
    2: "Enroll devices",
    3: "Smoke test",
    4: "Conflict validation",
    5: "Git repositories",
    6: "Live events",
    7: "Verification checklist",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be seen of the fleet from here.

    Attributes:
        diffs: how each host stands to its declaration, by host; None if the store was not asked.
        unasked: why it was not.
    """

    definition: Definition
    diffs: Mapping[str, HostDiff] | None = None
    unasked: str = "the fleet's store was not asked"


def look(folder: Path, open_fleet: Callable[[], AbstractContextManager[FleetApi]]) -> Facts:
    """What can be seen of a fleet: its definition, and its devices as far as there is a store.

    Raises:
        FleetFileError: there is no definition, or Nix is not there.
    """
    definition = read_definition(folder)
    if definition.problems:
        return Facts(definition, unasked="the definition does not evaluate")
    try:
        with open_fleet() as fleet:
            report = compare_fleet(definition, fleet.settings)
    except TcfsError as error:
        # A rollout begins before this machine belongs to any fleet.
        return Facts(definition, unasked=f"the fleet cannot be asked: {error.message}")
    return Facts(definition, {diff.host: diff for diff in report.hosts if diff.host})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        id: stable, such as ``2.enroll/yoga``.
        host: where; empty for anywhere.
        commands: what a person runs there.
        expect: what shows that it is done.
        seen: None if it has to be told; otherwise whether it is done, or why not in ``why``.
    """

    id: str
    phase: int
    title: str
    host: str = ""
    commands: tuple[str, ...] = ()
    expect: str = ""
    seen: bool | None = None
    why: str = field(default="")


def steps(facts: Facts) -> list[Step]:
    """All steps for this fleet, in order."""
    definition = facts.definition
    hosts = [host for _, host in sorted(definition.hosts.items()) if host.enable]
    found = [*_define(definition)]
    for host in hosts:
        found += _enroll(host, facts)
    if hosts:
        found += _smoke(hosts)
        found += _conflicts(hosts)
        found += _git(hosts)
        found += _live(hosts)
        found += _checklist(hosts, facts)
    return found


def _define(definition: Definition) -> Iterator[Step]:
    wrong = sum(bool(host.problems) for host in definition.hosts.values())
    yield Step(
        "1.check",
        1,
        "Every host's definition evaluates",
        commands=("tcfs fleet check",),
        expect="no problem with any host",
        seen=definition.ok and bool(definition.hosts),
        why="" if definition.ok else f"hosts with problems: {wrong or 'all'}",
    )
    pinned = _pinned(definition.folder)
    yield Step(
        "1.pin",
        1,
        "The flake pins a version of tcfs",
        commands=("nix flake update tcfs",),
        expect="flake.lock names tcfs",
        seen=pinned,
        why="" if pinned else "there is no flake.lock that names tcfs",
    )
    for name in sorted({host.platform for host in definition.hosts.values() if host.platform}):
        yield Step(
            f"1.build/{name}",
            1,
            f"The configurations of {name} build",
            commands=("nix flake check",),
            expect=f"it succeeds on a machine of {name}",
        )


def _enroll(host: Host, facts: Facts) -> Iterator[Step]:
    diff = (facts.diffs or {}).get(host.name)
    unknown = facts.unasked if facts.diffs is None else ""
    enrolled = diff is not None and diff.state not in ("not_enrolled", "invalid")
    yield Step(
        f"2.switch/{host.name}",
        2,
        f"{host.name} has its configuration",
        host=host.name,
        commands=("tcfs fleet switch", "tcfs fleet switch --apply"),
        expect="a new generation is active",
    )
    yield Step(
        f"2.enroll/{host.name}",
        2,
        f"{host.name} belongs to the fleet",
        host=host.name,
        commands=(
            "tcfs device invite --expires 1h   (on a device that is an admin)",
            f"tcfs device enroll --name {host.device_name} --invite -",
        ),
        expect=f"tcfs device list shows {host.device_name}",
        seen=enrolled,
        why="" if enrolled else unknown or "no device of the fleet has its name",
    )
    same = diff is not None and diff.state == "same"
    yield Step(
        f"2.settings/{host.name}",
        2,
        f"{host.name} runs with the declared settings",
        host=host.name,
        commands=("tcfs sync",),
        expect="tcfs fleet drift does not name it",
        seen=same,
        why="" if same else unknown or (diff.state if diff else "unknown"),
    )


def _smoke(hosts: list[Host]) -> Iterator[Step]:
    first, *others = hosts
    yield Step(
        "3.push",
        3,
        f"{first.name} pushes a file",
        host=first.name,
        commands=(
            "echo 'fleet sync test' > fleet-test.txt   (in the sync root)",
            "tcfs push fleet-test.txt",
        ),
        expect="one file is sent",
    )
    for host in others:
        yield Step(
            f"3.pull/{host.name}",
            3,
            f"{host.name} gets it, byte for byte",
            host=host.name,
            commands=("tcfs pull", "cat fleet-test.txt"),
            expect="fleet sync test",
        )


def _conflicts(hosts: list[Host]) -> Iterator[Step]:
    if len(hosts) < 2:
        return
    one, other = hosts[0], hosts[1]
    yield Step(
        "4.edit",
        4,
        f"{one.name} and {other.name} change one file at the same time",
        commands=(
            f"echo '{one.name} version' > conflict.txt && tcfs push conflict.txt   (on {one.name})",
            f"echo '{other.name} version' > conflict.txt && tcfs push conflict.txt"
            f"   (on {other.name}, before it pulls)",
        ),
        expect="the second push ends with exit code 10: a conflict, and nothing is overwritten",
    )
    yield Step(
        "4.resolve",
        4,
        "The conflict is settled, and both versions are still there",
        host=other.name,
        commands=(
            "tcfs conflicts",
            "tcfs resolve-conflict conflict.txt --keep-local",
            "tcfs log conflict.txt",
        ),
        expect="tcfs conflicts is empty, tcfs log shows both versions",
    )


def _git(hosts: list[Host]) -> Iterator[Step]:
    for host in hosts:
        if not (host.settings or {}).get("sync", {}).get("sync_git_dirs"):
            continue
        yield Step(
            f"5.push/{host.name}",
            5,
            f"{host.name} pushes a Git repository",
            host=host.name,
            commands=("tcfs push test-repo",),
            expect="the repository's history goes along",
        )
        yield Step(
            f"5.pull/{host.name}",
            5,
            f"Another machine gets the repository of {host.name}",
            commands=("tcfs pull", "git -C test-repo log --oneline"),
            expect="git log says the same on both",
        )


def _live(hosts: list[Host]) -> Iterator[Step]:
    live = [h for h in hosts if (h.settings or {}).get("sync", {}).get("nats_url")]
    for host in live:
        yield Step(
            f"6.reach/{host.name}",
            6,
            f"{host.name} reaches the NATS server, and its daemon runs",
            host=host.name,
            commands=("tcfs status",),
            expect="the daemon runs and is connected",
        )
    if len(live) > 1:
        yield Step(
            "6.propagate",
            6,
            f"A change on {live[0].name} is on {live[1].name} within seconds",
            commands=("date > live-test.txt   (in the sync root)",),
            expect="the file is there without anyone pulling",
        )
        yield Step(
            "6.catch-up",
            6,
            f"{live[1].name} catches up after it was offline",
            host=live[1].name,
            expect="changes made meanwhile arrive when it is back",
        )


def _checklist(hosts: list[Host], facts: Facts) -> Iterator[Step]:
    diffs = facts.diffs
    states = [diffs[host.name].state if diffs and host.name in diffs else "" for host in hosts]
    enrolled = diffs is not None and not {"not_enrolled", ""} & set(states)
    same = diffs is not None and set(states) == {"same"}
    unknown = facts.unasked if diffs is None else ""
    yield Step(
        "7.enrolled",
        7,
        "Every host is enrolled",
        seen=enrolled,
        why="" if enrolled else unknown or "some are not",
    )
    yield Step(
        "7.settings",
        7,
        "Every host runs with what is declared",
        seen=same,
        why="" if same else unknown or "see tcfs fleet drift",
    )
    for name, title, commands in (
        ("round-trip", "A push and a pull give the same bytes", ()),
        ("conflicts", "Concurrent edits are found, never overwritten", ()),
        ("resolver", "Mode auto picks the same winner on every device", ("tcfs policy",)),
        ("verify", "History and clocks verify", ("tcfs verify",)),
        ("rollback", "A switch can be rolled back", ()),
        ("assistant", "The tools answer", ("tcfs-mcp call device_status",)),
    ):
        yield Step(f"7.{name}", 7, title, commands=commands)


def _pinned(folder: Path) -> bool:
    for place in (folder, *folder.parents):
        lock = place / "flake.lock"
        if not lock.is_file():
            continue
        try:
            found: dict[str, Any] = json.loads(lock.read_text(encoding="utf-8"))
            return "tcfs" in found["nodes"][found["root"]]["inputs"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return False
