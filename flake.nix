{
  description = "tcfs keeps directory trees the same on a fleet of machines";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      lib = import ./nix/lib;
      each = make: nixpkgs.lib.genAttrs lib.host.platforms make;
      overlay = final: _: { tcfs = final.callPackage ./nix/package.nix { }; };
      pkgsOf = system: nixpkgs.legacyPackages.${system}.extend overlay;
      # A set, since older versions of Nix take a path for no module.
      module = file: { imports = [ file ]; };
      program = system: name: {
        type = "app";
        program = "${self.packages.${system}.tcfs}/bin/${name}";
      };
      example = lib.mkFleet (import ./nix/examples/lab-fleet/fleet.nix { inherit (lib) hostsIn; });
      templates = {
        fleet = {
          path = ./nix/templates/fleet;
          description = "A fleet: one definition, every host's configuration";
        };
        host = {
          path = ./nix/templates/host;
          description = "A host for a fleet";
        };
      };
    in
    {
      inherit lib;
      overlays.default = overlay;

      packages = each (system: rec {
        tcfs = (pkgsOf system).tcfs;
        default = tcfs;
      });

      apps = each (system: {
        default = program system "tcfs";
        tcfs = program system "tcfs";
        tcfs-mcp = program system "tcfs-mcp";
      });

      # Each host of the example, forced, as a derivation that is empty.
      checks = each (system: builtins.mapAttrs
        (name: holds: builtins.seq holds
          (nixpkgs.legacyPackages.${system}.runCommand "tcfs-example-${name}" { } "touch $out"))
        example.checks);

      devShells = each (system: {
        default = (pkgsOf system).mkShell {
          packages = with pkgsOf system; [ git nix python313 ];
        };
      });

      nixosModules = rec {
        tcfs-daemon = module ./nix/modules/tcfs-daemon.nix;
        tinyland = module ./nix/modules/tinyland.nix;
        default = tcfs-daemon;
      };
      homeModules = rec {
        tcfs-user = module ./nix/modules/tcfs-user.nix;
        tinyland = module ./nix/modules/tinyland.nix;
        default = tcfs-user;
      };
      darwinModules = rec {
        tcfs-darwin = module ./nix/modules/tcfs-darwin.nix;
        tinyland = module ./nix/modules/tinyland.nix;
        default = tcfs-darwin;
      };

      templates = templates // { default = templates.fleet; };
    };
}
