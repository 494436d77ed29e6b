# The package of tcfs, with nixpkgs' Python packages. What pyproject.toml asks for is what it gets; the few
# packages that nixpkgs lacks, or has too old, are the wheels of wheels.json, which also the lock
# files name.
{
  lib,
  stdenv,
  autoPatchelfHook,
  fetchPypi,
  python313,
}:
let
  wheels = builtins.fromJSON (builtins.readFile ./wheels.json);
  project = (builtins.fromTOML (builtins.readFile ../pyproject.toml)).project;
  system = stdenv.hostPlatform.system;

  # Packages that a wheel needs besides those that it finds by itself.
  needs = {
    mcp = p: [
      p.anyio p.httpx2 p.jsonschema p.mcp-types p.opentelemetry-api p.pydantic p.pyjwt p.python-multipart
      p.sse-starlette p.starlette p.typing-extensions p.typing-inspection p.uvicorn p.cryptography
    ];
    mcp-types = p: [ p.pydantic p.typing-extensions ];
  };

  fromWheel = final: pname: { version, wheels }:
    let
      wheel = wheels.any or wheels.${system} or (throw "tcfs: no ${pname} for ${system}");
    in
    final.buildPythonPackage {
      inherit pname version;
      format = "wheel";
      src = fetchPypi {
        pname = wheel.file;
        inherit version;
        inherit (wheel) python abi platform sha256;
        dist = wheel.python;
        format = "wheel";
      };
      # Wheels for Linux are linked against an ordinary system.
      nativeBuildInputs = lib.optionals stdenv.hostPlatform.isLinux [ autoPatchelfHook ];
      buildInputs = lib.optionals stdenv.hostPlatform.isLinux [ stdenv.cc.cc.lib ];
      dependencies = (needs.${pname} or (_: [ ])) final;
    };

  python = python313.override {
    self = python;
    packageOverrides = final: _: builtins.mapAttrs (fromWheel final) wheels;
  };

  # "boto3>=1.38" -> boto3
  nameOf = requirement: builtins.head (builtins.match "([A-Za-z0-9_-]+).*" requirement);
  version = builtins.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../core/tcfs/__init__.py)
  );
in
python.pkgs.buildPythonApplication {
  pname = "tcfs";
  inherit version;
  pyproject = true;
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [ ../core ../nix ../prompts ../tcfs_mcp ../pyproject.toml ../README.md ];
  };
  build-system = [ python.pkgs.hatchling python.pkgs.editables ];
  dependencies = map (requirement: python.pkgs.${nameOf requirement}) project.dependencies;
  # nixpkgs' versions move on their own; the lock files are for other installations.
  pythonRelaxDeps = true;
  pythonImportsCheck = [ "tcfs.cli.main" "tcfs_mcp.main" ];
  # The tests need a checkout, and servers.
  doCheck = false;
  meta = {
    inherit (project) description;
    mainProgram = "tcfs";
    platforms = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
  };
}
