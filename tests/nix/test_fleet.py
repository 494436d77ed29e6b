"""The fleet library: Nix says of every host what pydantic says, and refuses what it would."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from tcfs.config.load import load_config
from tcfs.config.schema import Config
from tcfs.rollout.nixtext import nix_value
from tests.nix.support import (
    EXAMPLE,
    NIX,
    Refused,
    config_of,
    evaluate,
    host_expression,
    host_values,
    needs_nix,
    run_nix,
)

pytestmark = needs_nix
LAB = {
    # RFC 0001: host, platform, conflictMode, syncGitDirs
    "xoxd-bates": ("aarch64-darwin", "auto", False),
    "yoga": ("x86_64-linux", "interactive", True),
    "petting-zoo-mini": ("aarch64-darwin", "auto", False),
}


def test_every_file_parses():
    import subprocess

    files = sorted(str(file) for file in [NIX.parent / "flake.nix", *NIX.rglob("*.nix")])
    assert len(files) > 12
    done = subprocess.run(
        ["nix-instantiate", "--parse", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_lab_fleet_is_the_table_of_the_rfc():
    report = evaluate("(lib.mkFleet example).report")
    assert set(report) == set(LAB)
    for name, (platform, mode, git) in LAB.items():
        host = report[name]
        assert (host["platform"], host["manager"], host["problems"]) == (
            platform,
            "home-manager",
            [],
        )
        sync = host["settings"]["sync"]
        assert (sync["device_name"], sync["conflict_mode"], sync["sync_git_dirs"]) == (
            name,
            mode,
            git,
        )
        assert sync["git_sync_mode"] == "bundle"


def test_the_lab_fleet_is_what_pydantic_says_both_ways():
    report = evaluate("(lib.mkFleet example).report")
    for name, host in report.items():
        config = Config.model_validate(host["settings"])
        # Nix to pydantic: complete, and nothing that pydantic would write differently.
        assert config.model_dump(mode="json") == host["settings"]
        # pydantic to Nix: the same settings from nothing but values by option.
        from tcfs.rollout.names import options

        dumped = config.model_dump(mode="json")
        values = {
            option: dumped[key.partition(".")[0]][key.partition(".")[2]]
            for option, key in options().items()
        }
        again = evaluate(f"lib.schema.settings {host_expression(values)}")
        assert again == dumped, name


def test_every_check_of_the_lab_fleet_holds():
    assert evaluate("(lib.mkFleet example).checks") == dict.fromkeys(LAB, True)


@how(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hosts=st.lists(host_values(), min_size=1, max_size=6))
def test_any_fleet_is_what_pydantic_says(hosts: list[dict]):
    defaults, *own = hosts
    named = [
        values | {"deviceName": values.get("deviceName") or f"h{n}"} for n, values in enumerate(own)
    ]
    expression = " ".join(
        f"h{n} = {host_expression(values | {'platform': 'x86_64-linux'})};"
        for n, values in enumerate(named)
    )
    found = evaluate(
        f"let fleet = lib.mkFleet {{ defaults = {host_expression(defaults)}; "
        f"hosts = {{ {expression} }}; }}; in "
        "builtins.mapAttrs (_: h: if h.problems == [ ] then { inherit (h) settings toml; "
        "shim = (world.evaluate { inherit (h) manager platform; modules = [ h.module ]; })"
        ".programs.tcfs.settings; } "
        "else h.problems) fleet.hosts"
    )
    import tomllib

    for n, values in enumerate(named):
        expected = config_of({**defaults, **values})
        host = found[f"h{n}"]
        if isinstance(host, list):
            assert _cannot_work(host), host
            continue
        assert Config.model_validate(host["settings"]) == expected
        # What the module makes of it, with the shim for nixpkgs' lib.
        assert host["shim"] == host["settings"]
        # The file too: every character of every text.
        assert Config.model_validate(tomllib.loads(host["toml"])) == expected


def _cannot_work(problems: list[dict]) -> bool:
    """Whether these are the refusals of well-formed secrets: in the store, or with a variable."""
    return all("shell variable" in p["message"] or "Nix store" in p["message"] for p in problems)


def test_the_file_of_a_host_is_read_by_the_program(tmp_path: Path):
    found = evaluate(
        "builtins.mapAttrs (_: h: { inherit (h) toml settings; }) (lib.mkFleet example).hosts"
    )
    for name, host in found.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(host["toml"])
        loaded = load_config(config_file=file, environ={"HOME": "/home/xoxd"})
        expected = Config.model_validate(host["settings"])
        sync = expected.sync.model_copy(update={"sync_root": Path("/home/xoxd/git")})
        assert loaded.config == expected.model_copy(update={"sync": sync})
        assert loaded.warnings == ()


WRONG: list[tuple[dict[str, Any], str, str]] = [
    # values, the option that is named, and what is said of it
    ({"conflctMode": "auto"}, "conflctMode", "no such setting; did you mean conflictMode?"),
    ({"conflict_mode": "auto"}, "conflict_mode", "did you mean conflictMode?"),
    ({"plattform": "x"}, "plattform", "did you mean platform?"),
    ({"storage.endpont": ""}, "storage.endpont", "no such setting; did you mean endpoint?"),
    ({"storage": "s3://x"}, "storage", "must be a set of settings"),
    ({"conflictMode": "automatic"}, "conflictMode", "auto, interactive, defer; did you mean auto?"),
    ({"conflictMode": "x"}, "conflictMode", "must be one of: auto, interactive, defer"),
    ({"gitSyncMode": "bundel"}, "gitSyncMode", "bundle, raw; did you mean bundle?"),
    ({"syncGitDirs": "true"}, "syncGitDirs", "must be true or false; leave out the quotes"),
    ({"jobs": "3"}, "jobs", "whole number, at least 0; leave out the quotes"),
    ({"workers": 0}, "workers", "a whole number, at least 1, at most 256"),
    ({"maxDeleteShare": 1.5}, "maxDeleteShare", "a number, at least 0, at most 1"),
    ({"excludePatterns": "*.o"}, "excludePatterns", "a list, each entry text; put it in [ ]"),
    ({"pollInterval": "soon"}, "pollInterval", "or text such as 30s or 1h30m"),
    ({"pollInterval": 0.5}, "pollInterval", "a number, at least 1"),
    ({"syncRoot": "git"}, "syncRoot", "an absolute path as text"),
    ({"deviceName": "a b"}, "deviceName", "1 to 63 letters"),
    ({"storage.endpoint": "s3://user:pw@host"}, "storage.endpoint", "URL without credentials"),
    ({"platform": "x86-64-linux"}, "platform", "did you mean x86_64-linux?"),
    ({"manager": "nix-os"}, "manager", "did you mean nixos?"),
    ({"manager": "nix-darwin"}, "manager", "must not be nix-darwin on x86_64-linux"),
    ({"natsTls": True}, "natsTls", "means nothing without natsUrl"),
    ({"storage": {"endpoint": "http://a", "enforceTls": True}}, "storage.endpoint", "no TLS"),
    (
        {"storage": {"endpoint": "http://a", "clientCertPath": "/c"}},
        "storage.clientCertPath",
        "TLS",
    ),
    (
        {"storage.credentialsFile": "/nix/store/x"},
        "storage.credentialsFile",
        "must not lie in the Nix store",
    ),
    ({"secrets.kdbxPath": "${HOME}/x"}, "secrets.kdbxPath", "holds a shell variable"),
    ({"secrets.kdbxPath": "/run/$UID/x"}, "secrets.kdbxPath", "holds a shell variable"),
    ({"manager": "nixos", "syncRoot": "/home/me/x"}, "syncRoot", "tcfsd.user to its owner"),
    ({"manager": "nixos", "syncRoot": "~/x"}, "syncRoot", "must be absolute for a system service"),
    ({"mounts": {"docs": {"mountPoint": "/mnt"}}}, "mounts", "no command that mounts"),
]


def test_what_is_wrong_is_told_by_option_with_what_would_be_right():
    hosts = " ".join(
        f"h{n} = {host_expression({'platform': 'x86_64-linux', **values})};"
        for n, (values, _, _) in enumerate(WRONG)
    )
    report = evaluate(f"(lib.mkFleet {{ hosts = {{ {hosts} }}; }}).report")
    for n, (values, option, message) in enumerate(WRONG):
        problems = {p["option"]: p["message"] for p in report[f"h{n}"]["problems"]}
        assert list(problems) == [option], values
        assert message in problems[option], values
        assert report[f"h{n}"]["settings"] is None


def test_a_path_without_quotes_is_refused_before_it_is_copied_to_the_store():
    found = evaluate(
        '(lib.mkFleet { hosts.a = { platform = "x86_64-linux"; storage.credentialsFile = ./x; }; })'
        ".report.a.problems"
    )
    assert "a path without quotes is copied to the Nix store" in found[0]["message"]


def test_a_check_of_a_wrong_host_fails_with_all_that_is_wrong_and_others_still_hold():
    fleet = (
        'lib.mkFleet { hosts = { a = { platform = "x86_64-linux"; jobs = "x"; conflctMode = 1; }; '
        'b = { platform = "x86_64-linux"; }; }; }'
    )
    with pytest.raises(Refused) as caught:
        evaluate(f"({fleet}).checks.a")
    assert "host a: conflctMode: there is no such setting; did you mean conflictMode?" in str(
        caught.value
    )
    assert "jobs: must be a whole number" in str(caught.value)
    assert evaluate(f"({fleet}).checks.b") is True


def test_a_host_without_a_platform_is_told_so():
    found = evaluate("(lib.mkFleet { hosts.a = { }; }).report.a.problems")
    assert [p["option"] for p in found] == ["platform"]


def test_the_value_of_a_text_setting_is_not_repeated():
    host = '{ platform = "x86_64-linux"; storage.endpoint = "hunter2"; }'
    found = evaluate(f"(lib.mkFleet {{ hosts.a = {host}; }}).report")
    assert found["a"]["problems"]
    assert "hunter2" not in json.dumps(found)


def test_a_number_arrives_as_it_is_or_is_refused():
    host = '{ platform = "x86_64-linux"; maxDeleteShare = 0.123456789012; }'
    fleet = f"(lib.mkFleet {{ hosts.a = {host}; }})"
    found = evaluate(f"{fleet}.report")["a"]
    if found["problems"]:
        assert "six digits" in found["problems"][0]["message"]
    else:
        assert found["settings"]["sync"]["max_delete_share"] == 0.123456789012


def test_sets_merge_by_key_and_lists_are_the_hosts_own():
    found = evaluate(
        """(lib.mkFleet {
          defaults = { platform = "x86_64-linux"; storage = { bucket = "b"; region = "r"; };
                       excludePatterns = [ "a" ]; };
          hosts = {
            same = { };
            sets = { storage.region = "own"; };
            list = { excludePatterns = [ "b" ]; };
            more = defaults: { excludePatterns = defaults.excludePatterns ++ [ "b" ]; };
          };
        }).report"""
    )
    storage = {name: host["settings"]["storage"] for name, host in found.items()}
    patterns = {n: h["settings"]["sync"]["exclude_patterns"] for n, h in found.items()}
    assert (storage["same"]["bucket"], storage["same"]["region"]) == ("b", "r")
    assert (storage["sets"]["bucket"], storage["sets"]["region"]) == ("b", "own")
    assert patterns == {"same": ["a"], "sets": ["a"], "list": ["b"], "more": ["a", "b"]}


def test_hosts_are_found_in_a_folder(tmp_path: Path):
    for name in ("a", "b.c"):
        (tmp_path / f"{name}.nix").write_text('{ platform = "x86_64-linux"; }')
    (tmp_path / "notes.md").write_text("x")
    found = evaluate(f"builtins.attrNames (lib.hostsIn {tmp_path})")
    assert found == ["a", "b.c"]
    assert evaluate(f"builtins.attrNames (lib.hostsIn {tmp_path}/none)") == []


def test_the_example_has_a_file_for_each_host():
    assert {file.stem for file in (EXAMPLE / "hosts").glob("*.nix")} == set(LAB)


@pytest.mark.parametrize("name", ["fleet", "host"])
def test_a_template_is_a_definition_that_holds(name: str, tmp_path: Path):
    import shutil

    from tcfs.rollout.check import check_fleet

    folder = tmp_path / "fleet"
    shutil.copytree(NIX / "templates" / "fleet", folder)
    if name == "host":
        shutil.copytree(NIX / "templates" / "host", folder, dirs_exist_ok=True)
    report = check_fleet(folder)
    assert report.ok, report
    assert report.hosts


def test_toml_is_written_for_values_of_any_kind():
    import tomllib

    values = {
        "x": [1, 2.5, True],
        "y": None,
        "z": {"q": "", "n": None},
        "odd key": "'\"\\",
    }
    text = run_nix("--expr", f"(import {NIX}/lib/text.nix).toToml {{ a = {nix_value(values)}; }}")
    kept = {"x": [1, 2.5, True], "z": {"q": ""}, "odd key": "'\"\\"}
    assert tomllib.loads(text) == {"a": kept}
