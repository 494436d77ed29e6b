# The flake with stand-ins for its inputs: packages are what they were called with.
let
  shim = import ./shim.nix;
  world = import ./world.nix;
  flake = import ../../flake.nix;

  python = rec {
    base = builtins.listToAttrs (map (name: { inherit name; value = world.package name; }) names);
    # What the project asks for, and what the wheels need besides.
    project = (builtins.fromTOML (builtins.readFile ../../pyproject.toml)).project;
    nameOf = requirement: builtins.head (builtins.match "([A-Za-z0-9_-]+).*" requirement);
    names = map nameOf project.dependencies ++ [
      "editables" "hatchling" "httpx2" "jsonschema" "opentelemetry-api" "pyjwt" "python-multipart"
      "sse-starlette" "starlette" "typing-extensions" "typing-inspection" "uvicorn"
    ];
    make = args: world.package "${args.pname}-${args.version}" // args;
    override = { self, packageOverrides }:
      let pkgs = base // { buildPythonPackage = make; buildPythonApplication = make; } // packageOverrides pkgs base;
      in { inherit pkgs; };
  };

  legacy = system:
    let
      pkgs = {
        lib = shim // {
          optionals = condition: found: if condition then found else [ ];
          fileset = { toSource = args: args.root; unions = parts: parts; };
        };
        stdenv = (world.pkgs system).stdenv // { cc.cc.lib = world.package "gcc-lib"; };
        autoPatchelfHook = world.package "auto-patchelf";
        fetchPypi = args: args;
        python313 = { inherit (python) override; type = "derivation"; outPath = "/python"; };
        git = world.package "git";
        nix = world.package "nix";
        mkShell = args: world.package "shell" // args;
        runCommand = name: _: text: world.package name // { inherit text; };
        callPackage = file: extra:
          let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // extra);
        extend = overlay: let final = pkgs // overlay final pkgs; in final;
      };
    in
    pkgs;

  nixpkgs = {
    lib = shim;
    legacyPackages = shim.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] legacy;
  };
  self = flake.outputs { inherit self nixpkgs; };
in
self
