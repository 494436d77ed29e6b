# Rename this file to the host's name.
{
  platform = "x86_64-linux"; # or aarch64-linux, x86_64-darwin, aarch64-darwin
  manager = "home-manager"; # or nixos, nix-darwin
  conflictMode = "auto"; # or interactive, defer
}
