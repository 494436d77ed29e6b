"""The modules with the shim for nixpkgs' lib: what they declare, check and make of it."""

import tomllib

import pytest

from tcfs.config.schema import Config
from tests.nix.support import NIX, Refused, evaluate, needs_nix

pytestmark = needs_nix
MODULES = {
    "nixos": ("tcfs-daemon.nix", "services.tcfsd", "x86_64-linux"),
    "home-manager": ("tcfs-user.nix", "programs.tcfs", "x86_64-linux"),
    "nix-darwin": ("tcfs-darwin.nix", "services.tcfsd", "aarch64-darwin"),
}


def host(manager: str, settings: str, show: str, *, platform: str = "", more: str = "{ }"):
    """A host with one of the modules: ``show`` is an expression of its configuration ``c``."""
    module, root, usual = MODULES[manager]
    return evaluate(
        f"""let c = world.evaluate {{
              manager = "{manager}"; platform = "{platform or usual}";
              modules = [ {NIX}/modules/{module} {{ {root} = {settings}; }} ({more}) ];
            }};
            cfg = c.{root};
            failed = map (a: a.message) (builtins.filter (a: !a.assertion) c.assertions);
            in {show}"""
    )


SOME = '{ enable = true; deviceName = "h"; syncRoot = "/srv/shared"; storage.endpoint = "s3://b"; }'


@pytest.mark.parametrize("manager", MODULES)
def test_the_file_that_the_daemon_reads_has_the_settings(manager: str):
    found = host(manager, SOME, "{ inherit (cfg) settings; inherit (cfg.configFile) text; }")
    config = Config.model_validate(tomllib.loads(found["text"]))
    assert config == Config.model_validate(found["settings"])
    assert (config.sync.device_name, config.storage.endpoint) == ("h", "s3://b")


@pytest.mark.parametrize("manager", MODULES)
def test_nothing_is_there_unless_it_is_enabled(manager: str):
    shown = {
        "nixos": "c.systemd.services",
        "home-manager": "{ inherit (c) systemd launchd xdg; home = c.home.packages; }",
        "nix-darwin": "c.launchd.daemons",
    }[manager]
    found = host(manager, '{ deviceName = "h"; }', shown)
    assert "tcfs" not in str(found)


@pytest.mark.parametrize("manager", MODULES)
def test_a_misspelt_option_does_not_evaluate(manager: str):
    with pytest.raises(Refused, match=r"The option `\S+\.conflctMode' does not exist"):
        host(manager, '{ enable = true; conflctMode = "auto"; }', "cfg.settings")


@pytest.mark.parametrize("manager", MODULES)
def test_a_wrong_value_does_not_evaluate(manager: str):
    for settings in ('{ conflictMode = "automatic"; }', "{ workers = 0; }", '{ syncRoot = "x"; }'):
        with pytest.raises(Refused, match="is not of type"):
            host(manager, settings, "cfg.settings")


def test_the_system_service_says_when_it_is_ready_and_is_confined():
    unit = host("nixos", SOME, "c.systemd.services.tcfsd")
    service = unit["serviceConfig"]
    assert service["ExecStart"].endswith("/bin/tcfs daemon --config " + unit["restartTriggers"][0])
    assert (service["Type"], service["WatchdogSec"]) == ("notify", 60)
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] is True
    assert service["ProtectHome"] is True
    assert service["ReadWritePaths"] == ["/srv/shared"]
    assert (service["StateDirectory"], service["User"]) == ("tcfs", "tcfs")
    # The one variable is one that the program reads.
    assert unit["environment"] == {"TCFS_HOME": "/var/lib/tcfs"}


def test_the_system_service_sees_of_the_homes_what_it_keeps_in_sync_alone():
    service = host(
        "nixos",
        '{ enable = true; user = "me"; syncRoot = "/home/me/x"; }',
        "c.systemd.services.tcfsd.serviceConfig",
    )
    assert (service["ProtectHome"], service["BindPaths"]) == ("tmpfs", ["/home/me/x"])
    assert service["User"] == "me"


def test_credentials_are_handed_to_the_system_service_from_outside_the_store():
    found = host(
        "nixos",
        '{ enable = true; storage.credentialsFile = "/run/secrets/tcfs"; '
        'secrets.ageIdentity = "/run/agenix/id"; deviceIdentity = "/srv/identity"; }',
        "{ s = c.systemd.services.tcfsd.serviceConfig; t = cfg.settings; f = failed; "
        "run = (builtins.elemAt c.environment.systemPackages 1).text; }",
    )
    assert found["f"] == []
    assert found["s"]["LoadCredential"] == [
        "secrets.age_identity:/run/agenix/id",
        "storage.credentials_file:/run/secrets/tcfs",
    ]
    credentials = "/run/credentials/tcfsd.service"
    assert found["t"]["storage"]["credentials_file"] == f"{credentials}/storage.credentials_file"
    assert found["t"]["secrets"]["age_identity"] == f"{credentials}/secrets.age_identity"
    # A directory that tcfs writes to is no credential.
    assert found["t"]["sync"]["device_identity"] == "/srv/identity"
    assert "--property=LoadCredential=storage.credentials_file:/run/secrets/tcfs" in found["run"]


@pytest.mark.parametrize("manager", MODULES)
def test_a_secret_in_the_store_is_refused(manager: str):
    wrong = '{ enable = true; storage.credentialsFile = "${builtins.storeDir}/abc-secret"; }'
    [message] = host(manager, wrong, "failed")
    assert message.startswith("storage.credentialsFile must not lie in the Nix store")
    assert "config.sops.secrets" in message
    assert "config.age.secrets" in message


@pytest.mark.parametrize("manager", MODULES)
def test_the_file_changes_with_the_settings_and_so_the_service_restarts(manager: str):
    one = host(manager, SOME, "cfg.configFile.text")
    other = host(manager, SOME.replace("s3://b", "s3://c"), "cfg.configFile.text")
    assert one != other


def test_the_user_unit_reads_its_file_and_is_confined():
    unit = host("home-manager", SOME, "c.systemd.user.services.tcfsd")
    service = unit["Service"]
    assert service["ExecStart"].endswith(
        " daemon --config " + unit["Unit"]["X-Restart-Triggers"][0]
    )
    assert (service["Type"], service["NoNewPrivileges"]) == ("notify", True)
    # These need rights that a user's service manager does not have.
    assert not {"ProtectSystem", "PrivateTmp", "CapabilityBoundingSet"} & set(service)
    assert unit["Install"]["WantedBy"] == ["default.target"]


def test_on_macos_the_user_has_an_agent_that_logs_to_the_library():
    found = host(
        "home-manager",
        SOME,
        "{ a = c.launchd.agents.tcfsd; u = c.systemd.user.services; f = c.home.file; "
        "x = c.xdg.configFile; }",
        platform="aarch64-darwin",
    )
    agent = found["a"]["config"]
    assert agent["ProgramArguments"][1:3] == ["daemon", "--config"]
    assert agent["StandardErrorPath"] == "/home/xoxd/Library/Logs/tcfsd.log"
    assert (agent["KeepAlive"], agent["RunAtLoad"]) == (True, True)
    assert found["u"] == {}
    assert set(found["f"]) == {"Library/Application Support/tcfs/config.toml"}
    assert found["x"] == {}


def test_the_settings_of_people_are_where_the_program_looks_for_them():
    found = host("home-manager", SOME, 'c.xdg.configFile."tcfs/config.toml".source.text')
    assert tomllib.loads(found)["storage"]["endpoint"] == "s3://b"


def test_the_program_without_its_service():
    shown = "{ u = c.systemd.user.services; n = builtins.length c.home.packages; }"
    found = host("home-manager", "{ enable = true; service = false; }", shown)
    assert found == {"u": {}, "n": 1}


def test_assistants_are_told_in_a_file_where_home_manager_has_no_list_of_servers():
    text = host(
        "home-manager",
        '{ enable = true; mcp.enable = true; mcp.arguments = [ "--read-only" ]; }',
        'builtins.fromJSON c.xdg.configFile."mcp/mcp.json".text',
    )
    server = text["mcpServers"]["tcfs"]
    assert server["command"].endswith("/bin/tcfs-mcp")
    assert server["args"][:2] == ["serve", "--config"]
    assert server["args"][-1] == "--read-only"


def test_assistants_are_told_by_home_managers_list_where_it_has_one():
    found = host(
        "home-manager",
        "{ enable = true; mcp.enable = true; }",
        "{ inherit (c.programs) mcp; x = c.xdg.configFile; }",
        more="""{ options.programs.mcp = world.lib.mkOption {
                    type = world.lib.types.anything; default = { }; }; }""",
    )
    assert found["mcp"]["enable"] is True
    assert found["mcp"]["servers"]["tcfs"]["args"][0] == "serve"
    assert "mcp/mcp.json" not in found["x"]


def test_a_mount_is_refused_with_a_clear_word_while_the_program_has_no_mounts():
    for manager in MODULES:
        settings = '{ enable = true; mounts.docs = { remote = "docs"; mountPoint = "/mnt"; }; }'
        [message] = host(manager, settings, "failed")
        assert message.startswith("mounts cannot work yet")


def test_a_mount_has_a_unit_of_its_own_outside_the_confined_one():
    settings = '{ enable = true; mounts.docs = { remote = "docs"; mountPoint = "/mnt/a b"; }; }'
    unit = host("nixos", settings, 'c.systemd.services."tcfs-mount-docs".serviceConfig')
    assert unit["ExecStart"].endswith(' docs "/mnt/a b"')
    assert not [name for name in unit if name.startswith(("Protect", "Private"))]
    user = host("home-manager", settings, 'c.systemd.user.services."tcfs-mount-docs".Service')
    assert " mount --config " in user["ExecStart"]


def test_the_daemon_of_macos_runs_as_its_user_with_a_state_of_its_own():
    found = host(
        "nix-darwin",
        '{ enable = true; user = "me"; syncRoot = "/Users/me/x"; }',
        "{ d = c.launchd.daemons.tcfsd.serviceConfig; f = failed; "
        "s = c.system.activationScripts; }",
    )
    assert found["f"] == []
    assert found["d"]["UserName"] == "me"
    assert found["d"]["EnvironmentVariables"] == {"TCFS_HOME": "/var/lib/tcfs"}
    assert "install -d -m 0700 -o 'me' '/var/lib/tcfs'" in found["s"]["preActivation"]["text"]


def test_what_a_host_of_the_fleet_is_and_what_its_module_makes_of_it_are_the_same():
    hosts = """{
        a = { platform = "x86_64-linux"; manager = "nixos"; syncRoot = "/srv/x";
              storage.credentialsFile = "/run/secrets/x"; };
        b = { platform = "aarch64-darwin"; manager = "nix-darwin"; jobs = 3; };
        c = { platform = "x86_64-linux"; syncGitDirs = true; };
      }"""
    found = evaluate(
        f"""let fleet = lib.mkFleet {{ hosts = {hosts}; }};
            of = h: c: if h.manager == "home-manager" then c.programs.tcfs else c.services.tcfsd;
            whole = h: world.evaluate {{ inherit (h) manager platform; modules = [ h.module ]; }};
            same = h: (of h (whole h)).settings == h.settings && (of h (whole h)).enable;
            in builtins.mapAttrs (_: same) (fleet.hosts // (lib.mkFleet example).hosts)"""
    )
    assert set(found.values()) == {True}
    assert {"a", "b", "c", "yoga", "xoxd-bates", "petting-zoo-mini"} == set(found)


TINYLAND = f"{NIX}/modules/tinyland.nix"


def test_the_options_of_the_lab_mean_those_of_tcfs():
    found = host(
        "home-manager",
        "{ }",
        "{ inherit (cfg) enable settings; f = failed; }",
        more=f"""{{ imports = [ {TINYLAND} ];
          tinyland.host.tummycrypt = {{ enable = true; fleet = true; }};
          tinyland.tummycrypt.fleet.conflictMode = "interactive";
          tinyland.tummycrypt.fleet.syncGitDirs = true; }}""",
    )
    assert (found["enable"], found["f"]) == (True, [])
    sync = Config.model_validate(found["settings"]).sync
    assert (sync.conflict_mode, sync.sync_git_dirs, sync.git_sync_mode) == (
        "interactive",
        True,
        "bundle",
    )
    # The defaults of the RFC.
    assert sync.nats_url == "nats://nats.tcfs.svc.cluster.local:4222"
    assert sync.exclude_patterns == ("*.swp", "*.swo", ".direnv")


@pytest.mark.parametrize("manager", ["nixos", "nix-darwin"])
def test_the_options_of_the_lab_work_for_system_services_too(manager: str):
    found = host(
        manager,
        "{ }",
        "cfg.enable",
        more=f"{{ imports = [ {TINYLAND} ]; tinyland.host.tummycrypt.enable = true; }}",
    )
    assert found is True


def test_the_flag_for_fleet_sync_alone_is_refused():
    [message] = host(
        "home-manager",
        "{ }",
        "failed",
        more=f"{{ imports = [ {TINYLAND} ]; tinyland.host.tummycrypt.fleet = true; }}",
    )
    assert message == "tinyland.host.tummycrypt.fleet needs tinyland.host.tummycrypt.enable"
