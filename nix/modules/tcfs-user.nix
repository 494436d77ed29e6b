# Home Manager: programs.tcfs, a systemd user unit on Linux and a launchd agent on macOS.
{ config, lib, options, pkgs, ... }:
let
  core = import ./core.nix { inherit lib pkgs; manager = "home-manager"; };
  cfg = config.programs.tcfs;
  service = core.service { inherit cfg; user = config.home.username; };
  inherit (pkgs.stdenv.hostPlatform) isDarwin isLinux;
  home = config.home.homeDirectory;

  # Where tcfs looks for its settings when nobody names a file: on macOS only where the XDG
  # variables are set in the place that they say.
  xdg = !isDarwin || (config.xdg.enable or false);

  server = {
    command = "${cfg.package}/bin/tcfs-mcp";
    args = [ "serve" "--config" "${service.file}" ] ++ cfg.mcp.arguments;
  };
  # Home Manager's own list of servers, from which it sets up the assistants it knows.
  shared = options.programs ? mcp;

  unitOfMount = name: mount: lib.nameValuePair "tcfs-mount-${name}" {
    Unit = {
      Description = "tcfs: ${mount.mountPoint}";
      After = [ "tcfsd.service" ];
    };
    # No namespace here: a mount inside one is invisible outside.
    Service = {
      ExecStart = core.systemdCommand (service.mountCommand mount);
      ExecStop = core.systemdCommand [ "fusermount3" "-u" mount.mountPoint ];
      Restart = "on-failure";
      RestartSec = 5;
    };
    Install.WantedBy = [ "default.target" ];
  };
  agent = name: command: {
    enable = true;
    config = {
      ProgramArguments = command;
      RunAtLoad = true;
      KeepAlive = true;
      ThrottleInterval = 10;
      ProcessType = "Background";
      # Files that the agent makes are its user's alone.
      Umask = 63;
      StandardOutPath = "${home}/Library/Logs/${name}.log";
      StandardErrorPath = "${home}/Library/Logs/${name}.log";
    };
  };
in
{
  options.programs.tcfs = core.options {
    service = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether the daemon runs; without it, only the program and its settings are there.";
    };
    mcp = {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = false;
        description = "Whether to make tcfs known to assistants: an entry in programs.mcp where Home Manager has it, else in ~/.config/mcp/mcp.json.";
      };
      arguments = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = [ ];
        description = "Arguments for tcfs-mcp serve, such as --read-only.";
      };
    };
  };

  config = lib.mkMerge [
    {
      programs.tcfs = {
        inherit (service) settings;
        configFile = service.file;
      };
    }
    (lib.mkIf cfg.enable (lib.mkMerge [
      {
        inherit (service) assertions warnings;
        home.packages = [ cfg.package ];
      }
      (lib.mkIf xdg { xdg.configFile."tcfs/config.toml".source = service.file; })
      (lib.mkIf (!xdg) { home.file."Library/Application Support/tcfs/config.toml".source = service.file; })
      (lib.mkIf (cfg.service && isLinux) {
        systemd.user.services = {
          tcfsd = {
            Unit = {
              Description = "tcfs: keeps directory trees the same on a fleet of machines";
              X-Restart-Triggers = [ "${service.file}" ];
            };
            Service = core.confined // core.watched // {
              ExecStart = core.systemdCommand service.command;
            };
            Install.WantedBy = [ "default.target" ];
          };
        } // lib.mapAttrs' unitOfMount cfg.mounts;
      })
      (lib.mkIf (cfg.service && isDarwin) {
        launchd.agents = { tcfsd = agent "tcfsd" service.command; }
          // lib.mapAttrs' (name: mount: lib.nameValuePair "tcfs-mount-${name}"
            (agent "tcfs-mount-${name}" (service.mountCommand mount))) cfg.mounts;
      })
      (lib.mkIf cfg.mcp.enable (
        if shared then { programs.mcp = { enable = true; servers.tcfs = server; }; }
        else { xdg.configFile."mcp/mcp.json".text = builtins.toJSON { mcpServers.tcfs = server; }; }
      ))
    ]))
  ];
}
