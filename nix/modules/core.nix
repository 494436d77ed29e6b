# What the modules share. Each of them is a thin adapter from `service` to its own kind of service.
#   manager: nixos, nix-darwin or home-manager
{ lib, pkgs, manager }:
let
  schema = import ../lib/schema.nix;
  host = import ../lib/host.nix;
  text = import ../lib/text.nix;
  platform = pkgs.stdenv.hostPlatform.system;
  t = lib.types;

  mount = t.submodule {
    options = {
      remote = lib.mkOption {
        type = t.str;
        default = "";
        description = "What is mounted, such as tcfs/default/docs; empty for everything.";
      };
      mountPoint = lib.mkOption {
        type = t.str;
        description = "Where: an absolute path.";
      };
    };
  };

  own = {
    enable = lib.mkOption {
      type = t.bool;
      default = false;
      description = "Whether to keep this host in sync with tcfs.";
    };
    package = lib.mkOption {
      type = t.package;
      default = pkgs.tcfs or (pkgs.callPackage ../package.nix { });
      defaultText = "pkgs.tcfs";
      description = "The package of tcfs.";
    };
    mounts = lib.mkOption {
      type = t.attrsOf mount;
      default = { };
      description = "Mounts by name, each a unit of its own.";
    };
    settings = lib.mkOption {
      type = t.raw;
      readOnly = true;
      description = "The tables of the settings file, from the options; null where nothing is set.";
    };
    configFile = lib.mkOption {
      type = t.raw;
      readOnly = true;
      description = "The settings file in the Nix store. It holds no secret.";
    };
  };
in
{
  inherit host;

  # Options: those above, every setting of tcfs, and those that only this module has.
  options = extra:
    let clashes = builtins.filter (name: own ? ${name} || extra ? ${name}) schema.names; in
    assert clashes == [ ] || throw "options of the module and settings of tcfs have one name: ${toString clashes}";
    schema.options lib // own // extra;

  # What an adapter needs, from the options' values.
  service = { cfg, user ? "" }:
    let
      values = builtins.intersectAttrs (lib.genAttrs schema.names (_: null)) cfg;
      settings = host.settings manager values;
      write = tables: pkgs.writeText "tcfs.toml" (text.toToml tables);
      file = write settings;
      facts = { inherit manager platform user; inherit (cfg) mounts; };
      program = "${cfg.package}/bin/tcfs";
    in
    {
      inherit settings file values program;
      # A unit's own file: the place of credentials depends on its name.
      fileOf = unit: write (host.settingsOf manager unit values);
      credentials = host.credentials values;
      command = [ program "daemon" "--config" "${file}" ];
      mountCommand = m: [ program "mount" "--config" "${file}" m.remote m.mountPoint ];
      assertions = map (a: { inherit (a) assertion; message = "${a.option} ${a.message}"; }) (host.assertions facts values);
      warnings = map (w: "tcfs: ${w}") (host.warnings values);
      # Directories that the service writes to.
      writable = builtins.filter (path: path != null) [
        cfg.syncRoot
        cfg.deviceIdentity
        (let endpoint = cfg.storage.endpoint; in
          if lib.hasPrefix "file://" endpoint then lib.removePrefix "file://" endpoint else null)
      ];
    };

  # An argument list as systemd reads it.
  systemdCommand = words:
    let
      quoted = word:
        if builtins.match "[A-Za-z0-9_./:@+=-]+" word != null then word
        else "\"${builtins.replaceStrings [ "\\" "\"" "%" "$" ] [ "\\\\" "\\\"" "%%" "$$" ] word}\"";
    in
    lib.concatStringsSep " " (map quoted words);

  # What both kinds of systemd unit forbid: nothing of it needs a namespace of its own, so that it
  # holds for a user's service manager as well.
  confined = {
    LockPersonality = true;
    NoNewPrivileges = true;
    RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
    SystemCallErrorNumber = "EPERM";
    UMask = "0077";
  };

  # The daemon says when it is ready, and that it is alive.
  watched = {
    Type = "notify";
    NotifyAccess = "main";
    WatchdogSec = 60;
    Restart = "on-failure";
    # Also until the device is enrolled, which a person does.
    RestartSec = 10;
    TimeoutStopSec = 60;
  };
}
