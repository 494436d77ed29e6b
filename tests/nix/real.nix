# The modules with what they are made for: nixpkgs' lib, Home Manager and nix-darwin, as folders below
# `inputs`. Packages are names alone: nixpkgs itself is not needed to evaluate a configuration's units.
{ inputs }:
let
  lib = import (inputs + "/nixpkgs.lib/lib");
  world = import ./world.nix;

  pkgs = platform: world.pkgs platform // {
    _type = "pkgs";
    inherit lib;
    path = inputs + "/nixpkgs.lib";
    glibcLocales = world.package "glibc-locales" // { version = "2.40"; };
    config = { };
    overlays = [ ];
    __splicedPackages = { };
    appendOverlays = _: pkgs platform;
    extend = _: pkgs platform;
    stdenv = rec {
      hostPlatform = lib.systems.elaborate platform;
      buildPlatform = hostPlatform;
      inherit (hostPlatform) isDarwin isLinux;
    };
    formats = lib.genAttrs [ "json" "toml" "ini" "yaml" "keyValue" ] (_: _: {
      type = lib.types.anything;
      generate = name: value: world.file name (builtins.toJSON value);
    });
  };

  home = { platform, module, extra ? [ ] }:
    let
      extended = import (inputs + "/home-manager/modules/lib/stdlib-extended.nix") lib;
      base = import (inputs + "/home-manager/modules/modules.nix") {
        pkgs = pkgs platform;
        lib = extended;
        minimal = true;
        useNixpkgsModule = false;
        check = true;
      };
      # nixpkgs' own, which the folders do not hold, and services that need more of it.
      absent = module: (builtins.isPath module || builtins.isString module)
        && builtins.any (part: lib.hasInfix part (toString module)) [ "/nixos/modules/" "/services-modular" ];
      evaluated = extended.evalModules {
        class = "homeManager";
        specialArgs.modulesPath = inputs + "/home-manager/modules";
        modules = builtins.filter (m: !(absent m)) base ++ extra ++ [
          module
          ./nixpkgs-misc.nix
          (inputs + "/home-manager/modules/programs/fish.nix")
          (inputs + "/home-manager/modules/programs/man")
          {
            home = {
              username = "xoxd";
              homeDirectory = if lib.hasSuffix "darwin" platform then "/Users/xoxd" else "/home/xoxd";
              stateVersion = "25.11";
            };
          }
        ];
      };
    in
    evaluated.config;

  darwin = { platform, module }:
    (import (inputs + "/nix-darwin/eval-config.nix") {
      inherit lib;
      enableNixpkgsReleaseCheck = false;
      specialArgs.pkgs = pkgs platform;
      modules = [
        module
        {
          nix.enable = false;
          nixpkgs.hostPlatform = platform;
          system.stateVersion = 6;
        }
      ];
    }).config;

  # NixOS itself is nixpkgs: its options stand here as those that the module writes to.
  nixos = { platform, module }:
    (lib.evalModules {
      specialArgs.pkgs = pkgs platform;
      modules = [ (world.surroundingsFor lib).nixos module ];
    }).config;
in
{ inherit lib home darwin nixos; }
