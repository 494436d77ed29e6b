"""What is declared against what devices of a real fleet say they run with."""

from pathlib import Path
from typing import Any

import pytest

from tcfs.rollout.compare import DiffReport, compare_fleet, shown
from tcfs.rollout.definition import read_definition
from tcfs.rollout.names import options
from tests.nix.support import host_expression
from tests.sync.kit import Device, World


def declare(folder: Path, **hosts: dict[str, Any]) -> None:
    """A definition with these hosts' values."""
    folder.mkdir(exist_ok=True)
    inner = " ".join(
        f"{name} = {host_expression({'platform': 'x86_64-linux', **values})};"
        for name, values in hosts.items()
    )
    (folder / "fleet.nix").write_text(f"{{ hosts = {{ {inner} }}; }}")


def running(device: Device) -> dict[str, Any]:
    """What a device runs with, as values by option."""
    dumped = device.loaded.config.model_dump(mode="json")
    values = {
        option: dumped[key.partition(".")[0]][key.partition(".")[2]]
        for option, key in options().items()
    }
    return values | {"deviceName": device.name}


def report(folder: Path, device: Device, *only: str) -> DiffReport:
    return compare_fleet(read_definition(folder, only), device.fleet.settings, only=only)


def named(device: Device) -> Device:
    device.close()
    device.settings["TCFS_SYNC_DEVICE_NAME"] = device.name
    return device


@pytest.fixture
def fleet(lab: Path) -> Path:
    return lab


def test_a_device_with_what_is_declared_is_the_same(world: World, fleet: Path):
    anna = named(world.device("anna"))
    anna.push()
    declare(fleet, anna=running(anna))
    found = report(fleet, anna)
    assert [(host.host, host.state) for host in found.hosts] == [("anna", "same")]
    assert (found.differing, found.counts) == (0, {"same": 1})
    assert found.hosts[0].published_at > 0


def test_what_would_change_is_told_by_option_with_the_value_there_where_it_can_be(
    world: World,
    fleet: Path,
):
    anna = named(world.device("anna"))
    anna.settings["TCFS_SYNC_CONFLICT_MODE"] = "defer"
    anna.settings["TCFS_SYNC_NAMESPACE"] = "default"
    anna.settings["TCFS_STORAGE_REGION"] = "secret-region"
    anna.settings["TCFS_SYNC_MAX_RETRIES"] = "7"
    anna.push()
    wanted = running(anna) | {
        "conflictMode": "auto",
        "storage.region": "us-east-1",
        "maxRetries": 5,
    }
    declare(fleet, anna=wanted)
    [host] = report(fleet, anna).hosts
    assert host.state == "differs"
    assert {c.option: (shown(c.running), shown(c.declared)) for c in host.changes} == {
        "conflictMode": ('"defer"', '"auto"'),
        # Nobody who only knows the declaration can tell what it is there.
        "storage.region": ("?", '"us-east-1"'),
        "maxRetries": ("7", "5"),
    }


def test_a_path_in_the_home_is_the_same_however_it_is_written(
    world: World,
    fleet: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    anna = named(world.device("anna"))
    monkeypatch.setenv("HOME", str(anna.tree.parent))
    anna.push()
    values = running(anna) | {"syncRoot": "~/tree", "homeDirectory": "/home/elsewhere"}
    declare(fleet, anna=values)
    assert report(fleet, anna).hosts[0].state == "same"
    declare(fleet, anna=values | {"syncRoot": "/home/elsewhere/tree"})
    assert report(fleet, anna).hosts[0].state == "same"
    declare(fleet, anna=values | {"syncRoot": "~/other"})
    [host] = report(fleet, anna).hosts
    assert [(c.option, c.declared) for c in host.changes] == [("syncRoot", '"~/other"')]


def test_every_host_and_device_has_its_state(world: World, fleet: Path):
    anna, _ben, _carl = world.devices("anna", "ben", "carl")
    named(anna).push()
    declare(fleet, anna=running(anna), ben={}, dora={}, wrong={"jobs": "x"})
    states = {host.host or host.device: host.state for host in report(fleet, anna).hosts}
    assert states == {
        "anna": "same",
        "ben": "silent",
        "carl": "undeclared",
        "dora": "not_enrolled",
        "wrong": "invalid",
    }
    assert [host.host for host in report(fleet, anna, "ben").hosts] == ["ben"]


def test_settings_of_an_older_version_that_it_does_not_know_are_no_drift(
    world: World,
    fleet: Path,
):
    anna = named(world.device("anna"))
    desk = anna.fleet.settings
    real = desk.digest

    def older(config, home):
        found = real(config, home)
        found.settings.pop("sync.workers")
        return found

    desk.digest = older  # type: ignore[method-assign]
    desk.publish()
    desk.digest = real  # type: ignore[method-assign]
    declare(fleet, anna=running(anna))
    assert report(fleet, anna).hosts[0].state == "same"
    declare(fleet, anna=running(anna) | {"workers": 3})
    assert [c.option for c in report(fleet, anna).hosts[0].changes] == ["workers"]
