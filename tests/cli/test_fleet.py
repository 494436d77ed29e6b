"""``tcfs fleet``: the definition, what runs, switching and rolling out, from a shell."""

import json
import os
from pathlib import Path

import pytest

from tcfs.config.digest import digest, digest_of
from tcfs.config.schema import Config
from tcfs.device.published import Published
from tcfs.errors import (
    DriftError,
    FleetFileError,
    LimitError,
    PlanChangedError,
    RepositoryError,
    UsageError,
)
from tcfs.sync.settings_desk import RunningSettings
from tests.cli.conftest import Shell
from tests.rollout.fixtures import HOST, Machine

KEY = bytes(32)


class Desk:
    """Devices that run with these configurations, by name."""

    def __init__(self, **running: Config) -> None:
        self._running = running

    def digest(self, config: Config, home: str):
        return digest(config, home=home, key=KEY)

    def digest_value(self, key: str, text: str) -> str:
        return digest_of(key, text, KEY)

    def running(self) -> list[RunningSettings]:
        return [
            RunningSettings(
                name, name, False, Published(self.digest(config, ""), 1_700_000_000, "1")
            )
            for name, config in self._running.items()
        ]


def declared(tcfs: Shell, folder: Path, host: str) -> Config:
    """What a host is declared to run with."""
    from tcfs.rollout.definition import read_definition

    return read_definition(folder).host(host).config()


def test_check_names_every_host_and_ends_well(tcfs: Shell, lab: Path):
    done = tcfs("fleet", "check", "--fleet", str(lab))
    assert done.code == 0
    assert done.out.count(": ok") == 3
    assert tcfs("fleet", "check", "yoga", "--fleet", str(lab), "--json").json["ok"] is True


def test_check_tells_what_is_wrong_and_ends_with_its_code(tcfs: Shell, lab: Path):
    (lab / "hosts" / "yoga.nix").write_text('{\n  platform = "x86_64-linux";\n  job = 1;\n}\n')
    done = tcfs("fleet", "check", "--fleet", str(lab))
    assert done.code == FleetFileError.exit_code
    assert "yoga: job: there is no such setting; did you mean jobs?" in done.out
    assert "(hosts/yoga.nix:3)" in done.out
    assert "xoxd-bates: ok" in done.out


def test_render_shows_the_difference_and_writes(tcfs: Shell, lab: Path):
    words = ("fleet", "render", "yoga", "conflictMode=defer", 'excludePatterns=["*.o"]')
    tcfs.answers(devices=[])
    shown = tcfs(*words, "--dry-run", "--fleet", str(lab))
    assert '+  conflictMode = "defer";' in shown.out
    assert "defer" not in (lab / "hosts" / "yoga.nix").read_text()
    done = tcfs(*words, "--fleet", str(lab))
    assert "hosts/yoga.nix: written" in done.out
    assert '  excludePatterns = [ "*.o" ];' in (lab / "hosts" / "yoga.nix").read_text()
    assert "no device of the fleet is named yoga" in done.err


def test_render_refuses_what_would_be_wrong(tcfs: Shell, lab: Path):
    done = tcfs("fleet", "render", "yoga", "workers=0", "--fleet", str(lab))
    assert done.code == FleetFileError.exit_code
    assert "yoga: workers: must be a whole number, at least 1, at most 256" in done.out
    assert tcfs("fleet", "render", "yoga", "x", "--fleet", str(lab)).code == UsageError.exit_code


def test_render_works_where_this_machine_belongs_to_no_fleet(tcfs: Shell, lab: Path):
    tcfs.answers(devices=RepositoryError("this device belongs to no repository yet"))
    done = tcfs("fleet", "render", "yoga", "jobs=2", "--fleet", str(lab))
    assert done.code == 0
    assert "jobs = 2;" in (lab / "hosts" / "yoga.nix").read_text()


def test_diff_shows_what_would_change_and_drift_ends_with_its_code(tcfs: Shell, lab: Path):
    yoga = declared(tcfs, lab, "yoga")
    other = yoga.model_copy(update={"sync": yoga.sync.model_copy(update={"conflict_mode": "auto"})})
    tcfs.fleet.settings = Desk(yoga=other)  # type: ignore[attr-defined]
    shown = tcfs("fleet", "diff", "yoga", "--fleet", str(lab))
    assert shown.code == 0
    assert '  conflictMode: "auto" -> "interactive"' in shown.out
    drift = tcfs("fleet", "drift", "--fleet", str(lab))
    assert drift.code == DriftError.exit_code
    assert "yoga: runs with other settings" in drift.out
    assert "xoxd-bates: no device of the fleet" in drift.out


def test_without_drift_it_says_so(tcfs: Shell, lab: Path):
    hosts = ("yoga", "xoxd-bates", "petting-zoo-mini")
    running = {host: declared(tcfs, lab, host) for host in hosts}
    tcfs.fleet.settings = Desk(**running)  # type: ignore[attr-defined]
    done = tcfs("fleet", "drift", "--fleet", str(lab))
    assert done.code == 0
    assert "no drift" in done.out


def test_switch_only_plans_unless_told_otherwise(tcfs: Shell, machine: Machine):
    done = tcfs("fleet", "switch", "--fleet", str(machine.lab))
    assert done.code == 0
    assert f"nixos-rebuild switch --flake {machine.lab}#{HOST}" in done.out.replace("'", "")
    assert "generation 42" in done.out
    assert not machine.record.exists()


def test_switch_needs_a_yes(tcfs: Shell, machine: Machine):
    done = tcfs("fleet", "switch", "--apply", "--json", "--fleet", str(machine.lab))
    assert done.code == LimitError.exit_code
    assert not machine.record.exists()
    plan = done.json["error"]["details"]["plan"]
    wrong = tcfs("fleet", "switch", "--plan", "0" * 32, "--fleet", str(machine.lab))
    assert wrong.code == PlanChangedError.exit_code
    assert not machine.record.exists()
    done = tcfs("fleet", "switch", "--plan", plan, "--fleet", str(machine.lab))
    assert done.code == 0
    assert "generation 43 is active now" in done.out
    assert "go back with: nixos-rebuild switch --rollback" in done.out


def test_switch_as_json_is_one_document(tcfs: Shell, machine: Machine):
    done = tcfs("fleet", "switch", "--apply", "--yes", "--json", "--fleet", str(machine.lab))
    assert done.json["generation"] == 43
    assert done.json["output"][-1] == "done"


def test_a_failed_switch_has_its_code_and_its_remedy(tcfs: Shell, machine: Machine):
    machine.program("#!/bin/sh\necho 'error: no space' >&2\nexit 1\n")
    done = tcfs("fleet", "switch", "--apply", "--yes", "--fleet", str(machine.lab))
    assert done.code == 32
    assert "nixos-rebuild failed with exit status 1: error: no space" in done.err
    assert "active as before" in done.err


def test_rollout_shows_the_next_step_and_takes_marks(tcfs: Shell, lab: Path):
    tcfs.fleet.settings = Desk()  # type: ignore[attr-defined]
    first = tcfs("fleet", "rollout", "--fleet", str(lab))
    assert "1.pin" in first.out
    assert "nix flake update tcfs" in first.out
    marked = tcfs(
        "fleet", "rollout", "--done", "3.push", "--note", "ok", "--fleet", str(lab), "--json"
    )
    [step] = [step for step in marked.json["steps"] if step["id"] == "3.push"]
    assert (step["state"], step["note"], step["by"]) == ("done", "ok", "cli")
    assert json.loads((lab / "rollout.json").read_text())["steps"]["3.push"]["state"] == "done"
    everything = tcfs("fleet", "rollout", "--all", "--fleet", str(lab))
    assert "7. Verification checklist" in everything.out
    assert tcfs("fleet", "rollout", "--note", "x", "--fleet", str(lab)).code == UsageError.exit_code


def test_a_folder_without_a_definition_says_how_to_begin(tcfs: Shell, tmp_path: Path):
    done = tcfs("fleet", "check", "--fleet", os.fspath(tmp_path))
    assert done.code == FleetFileError.exit_code
    assert "nix flake init -t tcfs#fleet" in done.err


@pytest.mark.parametrize("command", ["check", "render", "diff", "drift", "switch", "rollout"])
def test_help_of_a_command_imports_nothing_of_the_engine(tcfs: Shell, command: str):
    done = tcfs("fleet", command, "--help")
    assert done.code == 0
    assert "--fleet DIR" in done.out
