"""``fleet_diff`` and ``fleet_drift``: what is declared, against what devices say they run with.

Devices publish digests, not values. Which setting differs is therefore certain; what it is there is
found by trying the values that it may well have: its default, its choices, those of other hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, get_args

from tcfs.config.digest import SettingsDigest, canonical, canonical_value
from tcfs.config.schema import Config, settings
from tcfs.config.show import redact_url
from tcfs.rollout.definition import Definition, Host
from tcfs.rollout.names import option_of
from tcfs.sync.settings_desk import RunningSettings

State = Literal["same", "differs", "silent", "unreadable", "not_enrolled", "undeclared", "invalid"]
"""How a device stands to its declaration.

silent: it has not said what it runs with. unreadable: what it said does not verify. not_enrolled:
declared, and no device of the fleet. undeclared: a device of the fleet without a declaration.
invalid: the declaration is wrong.
"""
STATES: Final = get_args(State)


class Desk(Protocol):
    """What is asked of ``tcfs.sync.settings_desk.SettingsDesk``."""

    def digest(self, config: Config, home: str) -> SettingsDigest: ...
    def digest_value(self, key: str, text: str) -> str: ...
    def running(self) -> list[RunningSettings]: ...


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting that would change.

    Attributes:
        option: its name in Nix.
        declared, running: JSON. ``running`` is empty if it is not known what it is there.
    """

    option: str
    declared: str
    running: str = ""


@dataclass(frozen=True, slots=True)
class HostDiff:
    """One host, or one device without a declaration.

    Attributes:
        published_at: when the device said it: unix seconds by its clock, 0 for never.
        version: of tcfs there.
        note: why it is not to be told, where that is so.
    """

    host: str
    device: str
    device_id: str
    state: State
    changes: tuple[SettingChange, ...] = ()
    published_at: int = 0
    version: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class DiffReport:
    """Every host and device, and how many of them differ from what is declared."""

    fleet: str
    hosts: tuple[HostDiff, ...]
    differing: int
    counts: dict[str, int]


def compare_fleet(definition: Definition, desk: Desk, *, only: Iterable[str] = ()) -> DiffReport:
    """Compare what is declared with what devices say, for all hosts or some.

    Raises:
        FleetFileError: the definition as a whole is wrong.
        StoreError, AccessError: what devices said cannot be read.
    """
    if definition.problems:
        definition.host("")
    wanted = set(only)
    running = desk.running()
    hosts = [
        host for name, host in sorted(definition.hosts.items()) if not wanted or name in wanted
    ]
    guesses = _guesses(definition)
    found = [_compare(host, running, desk, guesses) for host in hosts]
    if not wanted:
        declared = {host.device_name for host in definition.hosts.values()}
        found += [
            HostDiff("", device.name, device.device_id, "undeclared")
            for device in running
            if device.name not in declared
        ]
    counts = {state: sum(diff.state == state for diff in found) for state in STATES}
    return DiffReport(
        fleet=str(definition.folder),
        hosts=tuple(found),
        differing=counts["differs"],
        counts={state: number for state, number in counts.items() if number},
    )


def _compare(
    host: Host, running: Sequence[RunningSettings], desk: Desk, guesses: dict[str, set[str]]
) -> HostDiff:
    if host.settings is None:
        problem = host.problems[0].message if host.problems else ""
        return HostDiff(host.name, "", "", "invalid", note=problem)
    name = host.device_name
    named = [device for device in running if device.name == name]
    if not named:
        return HostDiff(host.name, name, "", "not_enrolled", note="no device has that name")
    if len(named) > 1:
        ids = ", ".join(device.device_id for device in named)
        return HostDiff(host.name, name, "", "unreadable", note=f"several have that name: {ids}")
    [device] = named
    if device.published is None:
        state: State = "unreadable" if device.problem else "silent"
        return HostDiff(host.name, name, device.device_id, state, note=device.problem)
    config = host.config()
    texts = canonical(config, host.home)
    ours = desk.digest(config, host.home).settings
    theirs = device.published.digest.settings
    defaults = canonical(Config(), "")
    changes: list[SettingChange] = []
    for key, text in texts.items():
        other = theirs.get(key)
        if other == ours[key] or (other is None and text == defaults[key]):
            continue
        tried = (t for t in sorted(guesses[key]) if other == desk.digest_value(key, t))
        changes.append(SettingChange(option_of(key), redact_url(text), redact_url(next(tried, ""))))
    return HostDiff(
        host=host.name,
        device=name,
        device_id=device.device_id,
        state="differs" if changes else "same",
        changes=tuple(changes),
        published_at=device.published.at,
        version=device.published.version,
    )


def _guesses(definition: Definition) -> dict[str, set[str]]:
    """Values, as canonical JSON, that a setting may well have somewhere, by dotted key."""
    found = {key: {text} for key, text in canonical(Config(), "").items()}
    for key, field in settings():
        found[key] |= {canonical_value(choice, "") for choice in _choices(field.annotation)}
    for host in definition.hosts.values():
        if host.settings is not None:
            for key, text in canonical(host.config(), host.home).items():
                found[key].add(text)
    return found


def _choices(annotation: Any) -> Iterator[Any]:
    if annotation is bool:
        yield from (False, True)
    elif annotation is int:
        yield from range(257)
    else:
        yield from (c for c in get_args(annotation) if isinstance(c, str | int))


def shown(text: str) -> str:
    """A canonical value for people; ``?`` if it is not known."""
    return text if text and json.loads(text) is not None else ("not set" if text else "?")
