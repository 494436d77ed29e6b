# What `tcfs fleet` reads of a fleet: every host with its settings, or with what is wrong with it.
#   fleet: the folder with fleet.nix;  only: these hosts alone;  namesOnly: just which there are
#   instead: a file in the place of the one host's own
{ fleet, only ? null, namesOnly ? false, instead ? null }:
let
  lib = import ./.;
  given = import (fleet + "/fleet.nix");
  offered = { inherit lib; inherit (lib) hostsIn mkFleet; };
  definition =
    if builtins.isFunction given then given (builtins.intersectAttrs (builtins.functionArgs given) offered) else given;
  all = definition.hosts
    // (if instead == null then { } else { ${builtins.head only} = instead; });
  hosts = if only == null then all else builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) only)) all;
in
if namesOnly then builtins.attrNames all
else (lib.mkFleet { inherit hosts; defaults = definition.defaults or { }; }).report
