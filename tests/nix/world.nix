# What stands around the modules when they are evaluated with the shim: the options of NixOS, Home Manager and
# nix-darwin that they write to, and packages that are only names.
let
  lib = import ./shim.nix;

  package = name: { type = "derivation"; inherit name; outPath = "/nix/store/00000000000000000000000000000000-${name}"; };
in
rec {
  inherit lib package;

  # Files that would be in the store are their names and texts.
  pkgs = platform: {
    stdenv.hostPlatform = {
      system = platform;
      isDarwin = builtins.match ".*-darwin" platform != null;
      isLinux = builtins.match ".*-linux" platform != null;
    };
    tcfs = package "tcfs";
    writeText = file;
    writeShellScriptBin = file;
  };
  file = name: text: package name // { inherit text; };

  surroundings = surroundingsFor lib;
  surroundingsFor = lib:
    let
      inherit (lib) mkOption types;
      free = mkOption { type = types.attrsOf types.anything; default = { }; };
      list = mkOption { type = types.listOf types.raw; default = [ ]; };
    in
    {
    nixos = { options = {
      assertions = list;
      warnings = list;
      environment = { systemPackages = list; etc = free; };
      users = { users = free; groups = free; };
      systemd.services = free;
      services.other = free;
    }; };
    home-manager = { options = {
      assertions = list;
      warnings = list;
      home = {
        packages = list;
        file = free;
        username = mkOption { type = types.str; default = "xoxd"; };
        homeDirectory = mkOption { type = types.str; default = "/home/xoxd"; };
      };
      xdg.configFile = free;
      systemd.user.services = free;
      launchd.agents = free;
    }; };
    nix-darwin = { options = {
      assertions = list;
      warnings = list;
      environment = { systemPackages = list; etc = free; };
      system.activationScripts.preActivation.text = mkOption { type = types.str; default = ""; };
      launchd.daemons = free;
    }; };
  };

  # A host's module, evaluated.
  evaluate = { manager, platform, modules }:
    (lib.evalModules { pkgs = pkgs platform; modules = [ surroundings.${manager} ] ++ modules; }).config;
}
