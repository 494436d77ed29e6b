"""The modules with the real nixpkgs lib, Home Manager and nix-darwin.

``TCFS_NIX_INPUTS`` names a folder that holds ``nixpkgs.lib``, ``home-manager`` and ``nix-darwin``,
checkouts of the projects of these names. Without it these tests are skipped, and counted as such.
``TCFS_UPDATE_SNAPSHOTS=1`` writes the golden files anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.nix.support import HERE, NIX, Refused, evaluate, needs_nix

INPUTS = os.environ.get("TCFS_NIX_INPUTS", "")
GOLDEN = HERE / "golden"
UPDATE = "TCFS_UPDATE_SNAPSHOTS"

pytestmark = [
    needs_nix,
    pytest.mark.skipif(
        not INPUTS,
        reason="TCFS_NIX_INPUTS does not name a folder with nixpkgs.lib, home-manager, nix-darwin",
    ),
]

MODULE = {"home": "tcfs-user.nix", "darwin": "tcfs-darwin.nix", "nixos": "tcfs-daemon.nix"}
ROOT = {"home": "programs.tcfs", "darwin": "services.tcfsd", "nixos": "services.tcfsd"}
SOME = '{ enable = true; deviceName = "h"; syncRoot = "/srv/x"; storage.endpoint = "s3://b"; }'


def real(kind: str, platform: str, settings: str, show: str, *, more: str = "{ }") -> Any:
    """``show`` of the configuration ``c`` that the real module system makes."""
    return evaluate(
        f"""let
          real = import {HERE}/real.nix {{ inputs = "{INPUTS}"; }};
          c = real.{kind} {{
            platform = "{platform}";
            module = {{ imports = [ {NIX}/modules/{MODULE[kind]} ({more}) ];
                        config.{ROOT[kind]} = {settings}; }};
          }};
          failed = map (a: a.message) (builtins.filter (a: !a.assertion) c.assertions);
        in {show}"""
    )


def pruned(value: Any) -> Any:
    """Without what is not set: other versions of an input have other such names."""
    if isinstance(value, dict):
        kept = {name: pruned(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, [], {})}
    return [pruned(item) for item in value] if isinstance(value, list) else value


def assert_golden(name: str, value: Any) -> None:
    text = json.dumps(pruned(value), indent=2, sort_keys=True) + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get(UPDATE):
        file.write_text(text)
    assert file.read_text() == text, f"{name} changed: review with {UPDATE}=1"


def test_the_inputs_are_there():
    for name in ("nixpkgs.lib/lib", "home-manager/modules", "nix-darwin/modules"):
        assert Path(INPUTS, name).is_dir(), f"TCFS_NIX_INPUTS={INPUTS} holds no {name}"


def test_the_unit_of_home_manager_on_linux():
    shown = "{ unit = c.systemd.user.services.tcfsd; inherit failed; }"
    found = real("home", "x86_64-linux", SOME, shown)
    assert found["failed"] == []
    assert_golden("home-manager-linux", found["unit"])


def test_the_agent_of_home_manager_on_macos():
    shown = "{ agent = c.launchd.agents.tcfsd; inherit failed; }"
    found = real("home", "aarch64-darwin", SOME, shown)
    assert found["failed"] == []
    assert_golden("home-manager-darwin", found["agent"])


def test_the_daemon_of_nix_darwin():
    shown = "{ daemon = c.launchd.daemons.tcfsd.serviceConfig; inherit failed; }"
    found = real("darwin", "aarch64-darwin", SOME, shown)
    assert found["failed"] == []
    assert_golden("nix-darwin", found["daemon"])


def test_the_service_of_nixos_with_the_real_lib():
    settings = SOME.replace(
        "enable = true;", 'enable = true; storage.credentialsFile = "/run/secrets/tcfs";'
    )
    shown = "{ unit = c.systemd.services.tcfsd; inherit failed; inherit (c.users) users groups; }"
    found = real("nixos", "x86_64-linux", settings, shown)
    assert found["failed"] == []
    assert set(found["users"]) == {"tcfs"}
    assert_golden("nixos", found["unit"])


@pytest.mark.parametrize(
    ("kind", "platform"),
    [("home", "x86_64-linux"), ("home", "aarch64-darwin"), ("darwin", "aarch64-darwin")],
)
def test_the_same_settings_as_the_fleet_library(kind: str, platform: str):
    manager = {"home": "home-manager", "darwin": "nix-darwin"}[kind]
    found = real(kind, platform, SOME, f"c.{ROOT[kind]}.settings")
    fleet = f'{{ hosts.h = {{ platform = "{platform}"; manager = "{manager}"; ' + SOME.strip("{} ")
    assert found == evaluate(f"(lib.mkFleet {fleet} }}; }}).hosts.h.settings")


def test_every_host_of_the_example_evaluates():
    found = evaluate(
        f"""let real = import {HERE}/real.nix {{ inputs = "{INPUTS}"; }};
            whole = h: real.home {{ inherit (h) platform module; }};
            in builtins.mapAttrs (_: h: {{
              same = (whole h).programs.tcfs.settings == h.settings;
              failed = builtins.filter (a: !a.assertion) (whole h).assertions;
            }}) (lib.mkFleet example).hosts"""
    )
    assert all(host == {"same": True, "failed": []} for host in found.values())
    assert len(found) == 3


def test_home_managers_list_of_servers_gets_an_entry():
    found = real(
        "home",
        "x86_64-linux",
        "{ enable = true; mcp.enable = true; }",
        "{ inherit (c.programs.mcp) enable; s = c.programs.mcp.servers.tcfs; }",
        more=f"{{ imports = [ {INPUTS}/home-manager/modules/programs/mcp.nix ]; }}",
    )
    assert found["enable"] is True
    assert found["s"]["command"].endswith("/bin/tcfs-mcp")
    assert found["s"]["args"][:2] == ["serve", "--config"]


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            '{ conflctMode = "auto"; }',
            ["programs.tcfs.conflctMode' does not exist", "Did you mean", "conflictMode"],
        ),
        (
            '{ conflictMode = "automatic"; }',
            ["programs.tcfs.conflictMode' is not of type", '"auto", "interactive", "defer"'],
        ),
        (
            "{ workers = 0; }",
            ["programs.tcfs.workers' is not of type", "a whole number, at least 1, at most 256"],
        ),
        (
            "{ storage.credentialsFile = ./x; }",
            ["programs.tcfs.storage.credentialsFile' is not of type", "an absolute path as text"],
        ),
    ],
)
def test_a_mistake_is_told_in_the_words_of_nixpkgs_with_what_would_be_right(
    settings: str, messages: list[str]
):
    with pytest.raises(Refused) as caught:
        real("home", "x86_64-linux", settings, "c.programs.tcfs.settings")
    for message in messages:
        assert message in str(caught.value)


def test_the_options_of_the_lab_mean_those_of_tcfs():
    found = real(
        "home",
        "x86_64-linux",
        "{ }",
        "{ inherit (c.programs.tcfs) enable settings; inherit failed; }",
        more=f"""{{ imports = [ {NIX}/modules/tinyland.nix ];
          tinyland.host.tummycrypt = {{ enable = true; fleet = true; }};
          tinyland.tummycrypt.fleet.conflictMode = "interactive"; }}""",
    )
    assert found["enable"] is True
    assert found["failed"] == []
    assert found["settings"]["sync"]["conflict_mode"] == "interactive"
    assert found["settings"]["sync"]["nats_url"] == "nats://nats.tcfs.svc.cluster.local:4222"
