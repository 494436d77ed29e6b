"""Writing a host's file: small, evaluated first, and never half."""

from pathlib import Path

import pytest

from tcfs.errors import LocalFileError, UsageError
from tcfs.rollout import render
from tcfs.rollout.definition import read_definition
from tcfs.rollout.names import find_option
from tcfs.rollout.render import render_host


def test_a_setting_changes_one_line_and_what_is_evaluated(lab: Path):
    before = (lab / "hosts" / "yoga.nix").read_text()
    done = render_host(lab, "yoga", {"conflictMode": "defer"})
    after = (lab / "hosts" / "yoga.nix").read_text()
    assert after == before.replace('"interactive"', '"defer"')
    assert done.written
    changed = [line for line in done.diff.splitlines() if line[:1] in "+-"][2:]
    assert changed == ['-  conflictMode = "interactive";', '+  conflictMode = "defer";']
    assert read_definition(lab).host("yoga").config().sync.conflict_mode == "defer"


def test_the_same_again_changes_nothing(lab: Path):
    render_host(lab, "yoga", {"jobs": 2})
    again = render_host(lab, "yoga", {"jobs": 2})
    assert (again.diff, again.written) == ("", False)


def test_a_new_host_is_written_from_a_few_answers(lab: Path):
    done = render_host(
        lab,
        "nas",
        {"platform": "aarch64-linux", "manager": "nixos", "sync.sync_root": "/srv/x", "jobs": 1},
        devices=["yoga"],
    )
    assert (lab / "hosts" / "nas.nix").read_text() == (
        '{\n  manager = "nixos";\n  platform = "aarch64-linux";\n  jobs = 1;\n'
        '  syncRoot = "/srv/x";\n}\n'
    )
    assert any("git add" in note for note in done.notes)
    assert any("no device of the fleet is named nas" in note for note in done.notes)
    assert read_definition(lab).host("nas").manager == "nixos"


def test_a_dry_run_leaves_nothing_behind(lab: Path):
    before = {file: file.read_bytes() for file in lab.rglob("*") if file.is_file()}
    done = render_host(lab, "nas", {"platform": "x86_64-linux"}, dry_run=True)
    assert done.diff
    assert not done.written
    assert {file: file.read_bytes() for file in lab.rglob("*") if file.is_file()} == before


def test_a_wrong_value_is_not_written(lab: Path):
    before = (lab / "hosts" / "yoga.nix").read_text()
    done = render_host(lab, "yoga", {"conflictMode": "automatic"})
    assert not done.written
    assert [(p.option, p.line) for p in done.problems] == [("conflictMode", 3)]
    assert (lab / "hosts" / "yoga.nix").read_text() == before
    assert sorted(file.name for file in (lab / "hosts").iterdir()) == [
        "petting-zoo-mini.nix",
        "xoxd-bates.nix",
        "yoga.nix",
    ]


def test_a_file_that_changes_meanwhile_is_not_overwritten(
    lab: Path, monkeypatch: pytest.MonkeyPatch
):
    file = lab / "hosts" / "yoga.nix"

    def someone_saves(*args, **more):
        file.write_text('{ platform = "x86_64-linux"; } # mine\n')
        return read_definition(*args, **more)

    monkeypatch.setattr(render, "read_definition", someone_saves)
    with pytest.raises(LocalFileError, match="changed meanwhile"):
        render_host(lab, "yoga", {"jobs": 2})
    assert file.read_text().endswith("# mine\n")


def test_a_new_host_needs_a_platform(lab: Path):
    with pytest.raises(UsageError) as caught:
        render_host(lab, "nas", {})
    assert "x86_64-linux" in caught.value.remedy


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b"])
def test_a_host_name_is_no_path(lab: Path, name: str):
    with pytest.raises(UsageError, match="not a host name"):
        render_host(lab, name, {"platform": "x86_64-linux"})


def test_a_misspelt_setting_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        find_option("conflctMode")
    assert "conflictMode" in caught.value.remedy
    assert find_option("sync.conflict_mode") == "conflictMode"
    assert find_option("platform") == "platform"
