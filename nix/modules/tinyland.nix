# The options that the tinyland lab's own configuration has (RFC 0001), mapped to those of tcfs:
# programs.tcfs under Home Manager, services.tcfsd under NixOS and nix-darwin. To be imported beside the module
# for that manager.
{ config, lib, options, ... }:
let
  schema = import ../lib/schema.nix;
  all = schema.options lib;
  flags = config.tinyland.host.tummycrypt;
  fleet = config.tinyland.tummycrypt.fleet;

  mapped = [ "conflictMode" "syncGitDirs" "gitSyncMode" "natsUrl" "excludePatterns" ];
  wanted = { enable = flags.enable; }
    // lib.optionalAttrs (flags.enable && fleet.enable) (lib.genAttrs mapped (name: fleet.${name}));
  underHome = options ? programs && options.programs ? tcfs;
  flag = description: lib.mkOption { type = lib.types.bool; default = false; inherit description; };
in
{
  options.tinyland = {
    host.tummycrypt = {
      enable = flag "Whether this host has tcfs.";
      fleet = flag "Whether this host takes part in fleet sync.";
    };
    tummycrypt.fleet = lib.genAttrs mapped (name: all.${name}) // {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = flags.fleet;
        defaultText = "config.tinyland.host.tummycrypt.fleet";
        description = "Multi-machine fleet sync.";
      };
      natsUrl = all.natsUrl // { default = "nats://nats.tcfs.svc.cluster.local:4222"; };
    };
  };

  config = {
    assertions = [
      {
        assertion = !fleet.enable || flags.enable;
        message = "tinyland.host.tummycrypt.fleet needs tinyland.host.tummycrypt.enable";
      }
    ];
  } // (if underHome then { programs.tcfs = wanted; } else { services.tcfsd = wanted; });
}
