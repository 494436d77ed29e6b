# nix-darwin: services.tcfsd, a launchd daemon.
{ config, lib, pkgs, ... }:
let
  core = import ./core.nix { inherit lib pkgs; manager = "nix-darwin"; };
  cfg = config.services.tcfsd;
  service = core.service { inherit cfg; inherit (cfg) user; };
  inherit (core.host) stateDir;
  q = lib.escapeShellArg;

  # Runs any command of tcfs as the service would: as its user, with its state.
  run = pkgs.writeShellScriptBin "tcfs-system" ''
    exec sudo -u ${q cfg.user} env TCFS_HOME=${stateDir} ${service.program} --config ${service.file} "$@"
  '';

  daemon = name: command: {
    serviceConfig = {
      ProgramArguments = command;
      EnvironmentVariables.TCFS_HOME = stateDir;
      UserName = cfg.user;
      RunAtLoad = true;
      KeepAlive = true;
      ThrottleInterval = 10;
      ProcessType = "Background";
      # Files that the service makes are its user's alone.
      Umask = 63;
      StandardOutPath = "${stateDir}/log/${name}.log";
      StandardErrorPath = "${stateDir}/log/${name}.log";
    };
  };
in
{
  options.services.tcfsd = core.options {
    user = lib.mkOption {
      type = lib.types.str;
      default = "root";
      description = "User that the service runs as: the owner of the files.";
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
      # launchd makes no directories. This one holds the device's keys.
      system.activationScripts.preActivation.text = ''
        install -d -m 0700 -o ${q cfg.user} ${q stateDir} ${q "${stateDir}/log"}
      '';
      launchd.daemons = { tcfsd = daemon "tcfsd" service.command; }
        // lib.mapAttrs' (name: mount: lib.nameValuePair "tcfs-mount-${name}"
          (daemon "tcfs-mount-${name}" (service.mountCommand mount))) cfg.mounts;
    })
  ];
}
