# In the place of two modules of nixpkgs that Home Manager imports.
{ lib, ... }:
let
  option = type: default: lib.mkOption { inherit type default; };
in
{
  options = {
    assertions = option (lib.types.listOf lib.types.unspecified) [ ];
    warnings = option (lib.types.listOf lib.types.str) [ ];
    meta = option (lib.types.attrsOf lib.types.anything) { };
  };
}
