"""Switching this host, with stand-ins for the rebuild programs on PATH."""

import getpass
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tcfs.errors import (
    AccessError,
    CancelledError,
    FleetFileError,
    NotFoundError,
    PlanChangedError,
    SwitchError,
    UsageError,
)
from tcfs.rollout import switch as switching
from tcfs.rollout.switch import plan_switch, switch_host
from tcfs.sync.facade import Progress
from tests.rollout.fixtures import (
    FAILS,
    FAILS_LATE,
    HANGS,
    HOST,
    LEAVES_SOMETHING,
    RECORDS,
    STUBBORN,
    Machine,
    gone,
)


def test_a_plan_says_what_would_run_and_runs_nothing(machine: Machine):
    plan = plan_switch(machine.lab)
    assert plan.command == ("nixos-rebuild", "switch", "--flake", f"{machine.lab}#{HOST}")
    assert (plan.generation, plan.rollback) == (42, "nixos-rebuild switch --rollback")
    assert plan.needs == ""
    assert not machine.record.exists()
    assert plan_switch(machine.lab).hash == plan.hash


def test_a_switch_runs_the_program_and_tells_the_generation_and_the_way_back(machine: Machine):
    told: list[Progress] = []
    done = switch_host(plan_switch(machine.lab), progress=told.append)
    assert machine.recorded() == [
        str(machine.bin / "nixos-rebuild"),
        "switch",
        "--flake",
        f"{machine.lab}#{HOST}",
    ]
    assert "NIX_CONFIG=extra-experimental-features" in Path(f"{machine.record}.env").read_text()
    assert (done.generation, done.changed) == (43, True)
    assert done.rollback == "nixos-rebuild switch --rollback"
    assert done.output == (
        "building the configuration...",
        "warning: no lock file",
        "activating",
        "done",
    )
    assert [progress.message for progress in told] == list(done.output)
    assert [progress.done for progress in told] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("manager", "program", "rollback"),
    [
        ("nixos", "nixos-rebuild", "nixos-rebuild switch --rollback"),
        ("home-manager", "home-manager", "/home-manager-42-link/activate"),
    ],
)
def test_each_manager_has_its_program(machine: Machine, manager: str, program: str, rollback: str):
    machine.host(manager, getpass.getuser())
    machine.program(RECORDS)
    if manager == "home-manager":
        (machine.profiles / "per-user" / getpass.getuser()).mkdir(parents=True)
    plan = plan_switch(machine.lab)
    assert plan.command[0] == program
    assert plan.rollback.endswith(rollback)
    assert switch_host(plan).generation == 43


def test_a_mac_is_switched_by_darwin_rebuild(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    (machine.lab / "hosts" / f"{HOST}.nix").write_text(
        '{ manager = "nix-darwin"; platform = "aarch64-darwin"; syncRoot = null; }'
    )
    machine.manager = "nix-darwin"
    machine.program(RECORDS)
    monkeypatch.setattr(switching, "this_platform", lambda: "aarch64-darwin")
    plan = plan_switch(machine.lab)
    assert plan.command[0] == "darwin-rebuild"
    assert plan.rollback == "darwin-rebuild --rollback"


def test_a_failure_tells_the_end_of_the_output_and_that_nothing_changed(machine: Machine):
    machine.program(FAILS)
    with pytest.raises(SwitchError, match="exit status 3: error: attribute missing") as caught:
        switch_host(plan_switch(machine.lab))
    assert caught.value.details["output"] == ["building", "error: attribute missing"]
    assert caught.value.details["generation"] == 42
    assert "Generation 42 is active as before" in caught.value.remedy


def test_a_failure_after_the_activation_tells_the_way_back(machine: Machine):
    machine.program(FAILS_LATE)
    with pytest.raises(SwitchError) as caught:
        switch_host(plan_switch(machine.lab))
    assert "Generation 43 is active now" in caught.value.remedy
    assert "nixos-rebuild switch --rollback" in caught.value.remedy


@pytest.mark.parametrize("program", [HANGS, STUBBORN])
def test_a_program_that_hangs_is_stopped_with_what_it_started(
    machine: Machine, program: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(switching, "_GRACE_S", 0.2)
    machine.program(program)
    with pytest.raises(SwitchError, match="did not end within") as caught:
        switch_host(plan_switch(machine.lab), timeout_s=0.5)
    assert gone(int(machine.record.read_text()))
    assert caught.value.details["generation"] == 42


def test_whoever_asked_can_stop_it(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(switching, "_GRACE_S", 0.2)
    machine.program(HANGS)
    asked = threading.Event()
    with pytest.raises(CancelledError):
        switch_host(plan_switch(machine.lab), progress=lambda _: asked.set(), cancel=asked.is_set)
    assert gone(int(machine.record.read_text()))


def test_what_the_program_leaves_in_the_background_is_not_waited_for(machine: Machine):
    machine.program(LEAVES_SOMETHING)
    started = time.monotonic()
    try:
        done = switch_host(plan_switch(machine.lab))
        assert done.output == ("done",)
        assert time.monotonic() - started < 5
    finally:
        subprocess.run(["kill", machine.record.read_text().strip()], check=False)


def test_a_plan_that_is_no_longer_so_is_refused(machine: Machine):
    plan = plan_switch(machine.lab)
    machine.active(44)
    with pytest.raises(PlanChangedError):
        switch_host(plan)
    machine.active(42)
    (machine.lab / "flake.lock").write_text("{}")
    with pytest.raises(PlanChangedError):
        switch_host(plan)
    (machine.lab / "flake.lock").unlink()
    more = machine.lab / "more.nix"
    more.write_text("{ }")
    with pytest.raises(PlanChangedError):
        switch_host(plan)
    more.unlink()
    (machine.lab / "rollout.json").write_text("marks")
    assert plan_switch(machine.lab).hash == plan.hash
    file = machine.lab / "hosts" / f"{HOST}.nix"
    file.write_text(file.read_text().replace("syncRoot = null", "syncRoot = null; jobs = 3"))
    with pytest.raises(PlanChangedError):
        switch_host(plan)
    assert not machine.record.exists()


def test_a_system_is_switched_by_root_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    plan = plan_switch(machine.lab)
    assert "sudo" in plan.needs
    with pytest.raises(AccessError):
        switch_host(plan)
    assert not machine.record.exists()


def test_a_home_is_switched_by_its_owner_alone(machine: Machine):
    machine.host("home-manager", "somebody-else")
    machine.program(RECORDS)
    plan = plan_switch(machine.lab)
    assert "somebody-else" in plan.needs
    with pytest.raises(AccessError):
        switch_host(plan)


def test_another_host_is_not_switched_here(machine: Machine):
    with pytest.raises(UsageError, match="not yoga"):
        plan_switch(machine.lab, "yoga")
    with pytest.raises(UsageError, match="is a aarch64-darwin"):
        plan_switch(machine.lab, "xoxd-bates", here=True)
    with pytest.raises(NotFoundError):
        plan_switch(machine.lab, "nobody", here=True)


def test_a_wrong_definition_is_not_switched_to(machine: Machine):
    (machine.lab / "hosts" / f"{HOST}.nix").write_text('{ platform = "x"; }')
    with pytest.raises(FleetFileError, match="platform"):
        plan_switch(machine.lab)


def test_a_missing_program_and_a_missing_flake_are_told(machine: Machine):
    (machine.bin / "nixos-rebuild").unlink()
    with pytest.raises(FleetFileError, match="nixos-rebuild is not on PATH"):
        plan_switch(machine.lab)
    machine.program(RECORDS)
    (machine.lab / "flake.nix").unlink()
    with pytest.raises(FleetFileError, match=r"no flake\.nix"):
        plan_switch(machine.lab)


def test_a_plan_is_a_plain_value(machine: Machine):
    from tcfs.sync.jsonify import to_json_text

    assert json.loads(to_json_text(plan_switch(machine.lab)))["host"] == HOST
