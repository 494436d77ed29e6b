# NixOS: services.tcfsd, a system service.
{ config, lib, pkgs, ... }:
let
  core = import ./core.nix { inherit lib pkgs; manager = "nixos"; };
  cfg = config.services.tcfsd;
  service = core.service { inherit cfg; inherit (cfg) user; };
  inherit (core.host) stateDir;

  inHome = path: lib.hasPrefix "/home/" path || lib.hasPrefix "/root/" path || lib.hasPrefix "/run/user/" path;
  homes = builtins.filter inHome service.writable;
  outside = builtins.filter (path: !(inHome path)) service.writable;

  # Runs any command of tcfs as the service would: as its user, with its state and credentials.
  # `tcfs-system device enroll --invite -`, `tcfs-system status`.
  credentials = lib.mapAttrsToList (name: file: "${name}:${file}") service.credentials;
  run = pkgs.writeShellScriptBin "tcfs-system" ''
    exec systemd-run --quiet --collect --wait --pipe --pty --unit=tcfs-system \
      --property=User=${lib.escapeShellArg cfg.user} --property=Group=${lib.escapeShellArg cfg.group} \
      --property=UMask=0077 --property=StateDirectory=tcfs --property=StateDirectoryMode=0700 \
      ${lib.concatStringsSep " " (map (c: lib.escapeShellArg "--property=LoadCredential=${c}") credentials)} \
      --setenv=TCFS_HOME=${stateDir} \
      ${service.program} --config ${service.fileOf "tcfs-system.service"} "$@"
  '';

  unitOfMount = name: mount: {
    name = "tcfs-mount-${name}";
    value = {
      description = "tcfs: ${mount.mountPoint}";
      wantedBy = [ "multi-user.target" ];
      after = [ "tcfsd.service" "network-online.target" ];
      wants = [ "network-online.target" ];
      environment.TCFS_HOME = stateDir;
      # No namespace here: a mount inside one is invisible outside.
      serviceConfig = {
        ExecStart = core.systemdCommand (service.mountCommand mount);
        ExecStop = core.systemdCommand [ "/run/wrappers/bin/fusermount3" "-u" mount.mountPoint ];
        User = cfg.user;
        Group = cfg.group;
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
in
{
  options.services.tcfsd = core.options {
    user = lib.mkOption {
      type = lib.types.str;
      default = "tcfs";
      description = "User that the service runs as: the owner of the files. tcfs is made if named.";
    };
    group = lib.mkOption {
      type = lib.types.str;
      default = "tcfs";
      description = "Group that the service runs as, and that may talk to it. tcfs is made if named.";
    };
  };

  config = lib.mkMerge [
    {
      services.tcfsd = {
        inherit (service) settings;
        configFile = service.file;
      };
    }
    (lib.mkIf cfg.enable {
      inherit (service) assertions warnings;

      environment.systemPackages = [ cfg.package run ];
      environment.etc."tcfs/config.toml".source = service.file;

      users.users = lib.mkIf (cfg.user == "tcfs") {
        tcfs = {
          isSystemUser = true;
          inherit (cfg) group;
          home = stateDir;
        };
      };
      users.groups = lib.mkIf (cfg.group == "tcfs") { tcfs = { }; };

      systemd.services = {
        tcfsd = {
          description = "tcfs: keeps directory trees the same on a fleet of machines";
          wantedBy = [ "multi-user.target" ];
          after = [ "network-online.target" ];
          wants = [ "network-online.target" ];
          # Identity, state and cache lie below one directory of the service's own.
          environment.TCFS_HOME = stateDir;
          # The file's name changes with its content.
          restartTriggers = [ service.file ];
          serviceConfig = core.confined // core.watched // {
            ExecStart = core.systemdCommand service.command;
            User = cfg.user;
            Group = cfg.group;
            StateDirectory = "tcfs";
            StateDirectoryMode = "0700";
            RuntimeDirectory = "tcfs";
            RuntimeDirectoryMode = "0750";
            LoadCredential = credentials;
            CapabilityBoundingSet = "";
            DevicePolicy = "closed";
            PrivateDevices = true;
            PrivateTmp = true;
            ProtectClock = true;
            ProtectControlGroups = true;
            ProtectHome = if homes == [ ] then true else "tmpfs";
            BindPaths = homes;
            ProtectHostname = true;
            ProtectKernelLogs = true;
            ProtectKernelModules = true;
            ProtectKernelTunables = true;
            ProtectProc = "invisible";
            ProtectSystem = "strict";
            ReadWritePaths = outside;
            RemoveIPC = true;
          };
        };
      } // lib.listToAttrs (lib.mapAttrsToList unitOfMount cfg.mounts);
    })
  ];
}
