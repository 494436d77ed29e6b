"""Switching this host, with stand-ins for the rebuild programs on PATH."""

import getpass
import json
import os
import platform
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
from tcfs.rollout.render import this_platform
from tcfs.rollout.switch import plan_switch, switch_host

HOST = platform.node().partition(".")[0]

RECORDS = """\
#!/bin/sh
printf '%s\\n' "$0" "$@" > "$RECORD"
env > "$RECORD.env"
echo "building the configuration..."
echo "warning: no lock file" >&2
printf 'activating\\r\\033[31mdone\\033[0m\\n'
ln -sfn "$GENERATION" "$PROFILE"
"""
FAILS = "#!/bin/sh\necho building\necho 'error: attribute missing' >&2\nexit 3\n"
FAILS_LATE = RECORDS + "echo 'activation failed' >&2\nexit 4\n"
HANGS = '#!/bin/sh\nsleep 1000 &\necho $! > "$RECORD"\necho building\nwait\n'
STUBBORN = (
    "#!/bin/sh\ntrap '' TERM\necho $$ > \"$RECORD\"\necho building\nwhile :; do sleep 1; done\n"
)
LEAVES_SOMETHING = '#!/bin/sh\nsleep 1000 &\necho $! > "$RECORD"\necho done\n'


class Machine:
    """This machine as one host of a fleet, managed by stand-ins."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
        self.lab = lab
        self.record = folder / "record"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.profiles = folder / "nix" / "profiles"
        self.profiles.mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        monkeypatch.setenv("RECORD", str(self.record))
        monkeypatch.setenv("NIX_STATE_DIR", str(folder / "nix"))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
        self._monkeypatch = monkeypatch
        self.host("nixos", getpass.getuser())

    def host(self, manager: str, user: str) -> None:
        """Declare this machine."""
        self.manager = manager
        settings = f'manager = "{manager}"; user = "{user}"; platform = "{this_platform()}";'
        (self.lab / "hosts" / f"{HOST}.nix").write_text(f"{{ {settings} syncRoot = null; }}")
        name = "home-manager" if manager == "home-manager" else "system"
        self.profile = self.profiles / name
        self._monkeypatch.setenv("PROFILE", str(self.profile))
        self._monkeypatch.setenv("GENERATION", f"{name}-43-link")
        self.active(42)

    def active(self, generation: int) -> None:
        """Let this generation be the active one."""
        self.profile.unlink(missing_ok=True)
        self.profile.symlink_to(f"{self.profile.name}-{generation}-link")

    def program(self, text: str) -> None:
        """Let the manager's program be this."""
        file = self.bin / switching.PROGRAMS[self.manager]
        file.write_text(text)
        file.chmod(0o755)

    def recorded(self) -> list[str]:
        return self.record.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Path) -> Machine:
    made = Machine(tmp_path, monkeypatch, lab)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made.program(RECORDS)
    return made


def test_a_plan_says_what_would_run_and_runs_nothing(machine: Machine):
    plan = plan_switch(machine.lab)
    assert plan.command == ("nixos-rebuild", "switch", "--flake", f"{machine.lab}#{HOST}")
    assert (plan.generation, plan.rollback) == (42, "nixos-rebuild switch --rollback")
    assert plan.needs == ""
    assert not machine.record.exists()
    assert plan_switch(machine.lab).hash == plan.hash


def test_a_switch_runs_the_program_and_tells_the_generation_and_the_way_back(machine: Machine):
    told = []
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


def gone(pid: int) -> bool:
    """Whether a process has ended; one that waits for its parent's look has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


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
