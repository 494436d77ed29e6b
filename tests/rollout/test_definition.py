"""Reading a fleet's definition: every host, and what is wrong by host, option and place."""

from pathlib import Path

import pytest

from tcfs.errors import FleetFileError, NotFoundError
from tcfs.rollout.check import check_fleet
from tcfs.rollout.definition import read_definition
from tcfs.rollout.nix import NixFailure, evaluate


def write(lab: Path, host: str, text: str) -> None:
    (lab / "hosts" / f"{host}.nix").write_text(text)


def problems(lab: Path) -> dict[str, list]:
    return {host.name: list(host.problems) for host in check_fleet(lab).hosts}


def test_every_host_is_read_with_its_settings(lab: Path):
    found = read_definition(lab)
    assert found.ok
    assert set(found.hosts) == {"yoga", "xoxd-bates", "petting-zoo-mini"}
    yoga = found.host("yoga")
    assert (yoga.platform, yoga.manager, yoga.home) == (
        "x86_64-linux",
        "home-manager",
        "/home/xoxd",
    )
    assert yoga.config().sync.conflict_mode == "interactive"
    assert found.host("xoxd-bates").home == "/Users/xoxd"


def test_some_hosts_alone_can_be_read(lab: Path):
    assert set(read_definition(lab, ["yoga"]).hosts) == {"yoga"}
    with pytest.raises(NotFoundError, match="no host 'yogi'"):
        read_definition(lab, ["yogi"])


def test_a_wrong_setting_is_told_with_its_host_option_and_line(lab: Path):
    write(lab, "yoga", '{\n  platform = "x86_64-linux";\n  conflictMode = "automatic";\n}\n')
    found = problems(lab)
    [problem] = found.pop("yoga")
    assert (problem.option, problem.file, problem.line) == ("conflictMode", "hosts/yoga.nix", 3)
    assert "did you mean auto?" in problem.message
    assert all(not others for others in found.values())


def test_a_host_that_does_not_evaluate_does_not_hide_the_others(lab: Path):
    write(lab, "yoga", '{\n  platform = "x86_64-linux";;\n}\n')
    write(lab, "other", '{\n  platform = "x86_64-linux";\n  jobs = nothing;\n}\n')
    found = problems(lab)
    assert [(p.file, p.line) for p in found["yoga"]] == [("hosts/yoga.nix", 2)]
    assert [(p.file, p.line) for p in found["other"]] == [("hosts/other.nix", 3)]
    assert "syntax error" in found["yoga"][0].message
    assert "undefined variable 'nothing'" in found["other"][0].message
    assert found["xoxd-bates"] == []


def test_what_only_the_program_can_check_is_checked(lab: Path):
    write(lab, "yoga", '{ platform = "x86_64-linux"; pollInterval = "0s"; }')
    [problem] = problems(lab)["yoga"]
    assert (problem.option, problem.line) == ("pollInterval", 1)
    assert "greater than or equal to 1" in problem.message


def test_a_wrong_definition_is_told_as_a_whole(lab: Path):
    (lab / "fleet.nix").write_text("{ hostsIn }: { hosts = hostsIn ./hosts; ")
    report = check_fleet(lab)
    assert not report.ok
    assert report.hosts == ()
    assert (report.problems[0].file, report.problems[0].line) == ("fleet.nix", 1)
    with pytest.raises(FleetFileError):
        read_definition(lab).host("yoga")


def test_a_definition_may_read_its_own_folder_alone(lab: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for reading in (
        f'builtins.readFile "{secret}"',
        f"import {secret}",
        f"toString {secret}/../lab",
    ):
        write(lab, "yoga", f'{{ platform = "x86_64-linux"; deviceName = {reading}; }}')
        found = problems(lab)["yoga"]
        assert found
        assert "hunter2" not in str(found)
    write(lab, "yoga", '{ platform = "x86_64-linux"; deviceName = builtins.getEnv "HOME"; }')
    assert read_definition(lab).hosts["yoga"].device_name == "yoga"


def test_a_definition_can_fetch_and_build_nothing(lab: Path):
    for reading in (
        'builtins.fetchurl "https://example.org/x"',
        'import (derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; })',
    ):
        write(lab, "yoga", f'{{ platform = "x86_64-linux"; deviceName = {reading}; }}')
        assert problems(lab)["yoga"]


def test_a_folder_without_a_definition_is_told_so(tmp_path: Path):
    with pytest.raises(FleetFileError, match=r"holds no fleet\.nix"):
        read_definition(tmp_path)


def test_without_nix_it_is_told_what_to_install(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FleetFileError, match="nix-instantiate") as caught:
        read_definition(lab)
    assert "nix-bin" in caught.value.remedy


def test_a_failure_names_the_innermost_place(lab: Path):
    file = lab / "x.nix"
    file.write_text("{ x }:\n  x + null\n")
    with pytest.raises(NixFailure) as caught:
        evaluate(file, {"x": 1}, folders=(lab,))
    assert caught.value.file == str(file)
    assert caught.value.line == 2
