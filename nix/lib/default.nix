# The library of tcfs, for flakes as `tcfs.lib`. It needs nothing but Nix itself.
let
  schema = import ./schema.nix;
  text = import ./text.nix;
  host = import ./host.nix;
  fleet = import ./fleet.nix;
in
{
  inherit (fleet) mkFleet hostsIn;
  inherit (text) toToml;
  inherit schema host;
}
