{
  description = "The hosts of our fleet";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    home-manager.url = "github:nix-community/home-manager";
    home-manager.inputs.nixpkgs.follows = "nixpkgs";
    tcfs.url = "git+file:///path/to/tcfs";
    tcfs.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs = inputs:
    let
      fleet = inputs.tcfs.lib.mkFleet (
        import ./fleet.nix { inherit (inputs.tcfs.lib) hostsIn; } // { inherit inputs; }
      );
    in
    {
      inherit (fleet) nixosConfigurations darwinConfigurations homeConfigurations;
      checks = fleet.flakeChecks;
    };
}
