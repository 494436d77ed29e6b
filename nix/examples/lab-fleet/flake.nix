{
  description = "The lab fleet of RFC 0001";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    home-manager.url = "github:nix-community/home-manager";
    home-manager.inputs.nixpkgs.follows = "nixpkgs";
    tcfs.url = "path:../../..";
    tcfs.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs = inputs:
    let
      fleet = inputs.tcfs.lib.mkFleet (
        import ./fleet.nix { inherit (inputs.tcfs.lib) hostsIn; } // { inherit inputs; }
      );
    in
    {
      inherit (fleet) homeConfigurations;
      checks = fleet.flakeChecks;
    };
}
