"""The flake with stand-ins for nixpkgs: what it offers, and that packages are pinned."""

import json
import re
import tomllib

from tests.nix.support import HERE, NIX, ROOT, evaluate, needs_nix

pytestmark = needs_nix
PLATFORMS = {"x86_64-linux", "aarch64-linux", "x86_64-darwin", "aarch64-darwin"}
FLAKE = f"(import {HERE}/flake.nix)"


def test_the_flake_offers_packages_modules_checks_and_templates():
    found = evaluate(f"builtins.mapAttrs (_: builtins.attrNames) {FLAKE}")
    for name in ("packages", "apps", "checks", "devShells"):
        assert set(found[name]) == PLATFORMS
    assert set(found["nixosModules"]) == {"default", "tcfs-daemon", "tinyland"}
    assert set(found["homeModules"]) == {"default", "tcfs-user", "tinyland"}
    assert set(found["darwinModules"]) == {"default", "tcfs-darwin", "tinyland"}
    assert set(found["templates"]) == {"default", "fleet", "host"}
    assert {"mkFleet", "hostsIn"} <= set(found["lib"])
    assert found["overlays"] == ["default"]


def test_the_package_has_what_the_project_asks_for_on_every_platform():
    found = evaluate(
        f"builtins.mapAttrs (_: p: {{ inherit (p.tcfs) pname version; "
        f"needs = map (d: d.name) p.tcfs.dependencies; }}) {FLAKE}.packages"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [re.split(r"[^\w-]", name)[0] for name in project["dependencies"]]
    import tcfs

    for platform, package in found.items():
        assert (package["pname"], package["version"]) == ("tcfs", tcfs.__version__)
        assert [re.sub(r"-[\d.]+$", "", n) for n in package["needs"]] == wanted, platform


def test_packages_that_nixpkgs_lacks_are_the_ones_of_the_lock_files():
    wheels = json.loads((NIX / "wheels.json").read_text())
    locked: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements" / "runtime.txt").read_text()):
        name, version = entry.split()[0].split("==")
        versions[name] = version
        locked[name] = set(re.findall(r"sha256:([0-9a-f]{64})", entry))
    assert {"pyfastcdc", "pyrage", "mcp"} <= set(wheels)
    for name, package in wheels.items():
        assert package["version"] == versions[name], f"nix/wheels.json has another {name}"
        hashes = {wheel["sha256"] for wheel in package["wheels"].values()}
        assert hashes <= locked[name], f"nix/wheels.json has another {name}"
        assert set(package["wheels"]) in (PLATFORMS, {"any"})


def test_every_check_of_the_flake_evaluates():
    found = evaluate(f"{FLAKE}.checks")
    for platform in PLATFORMS:
        assert len(found[platform]) == 3


def test_the_example_and_the_template_make_configurations_of_their_hosts():
    stand_ins = """{
        tcfs.lib = lib;
        nixpkgs = { lib = world.lib; legacyPackages = world.lib.genAttrs lib.host.platforms (system:
          world.pkgs system // { runCommand = name: _: _: name; }); };
        home-manager.lib.homeManagerConfiguration = { pkgs, modules }: {
          activationPackage.drvPath = "drv";
          config = builtins.elemAt modules 1;
        };
      }"""
    for folder, hosts in (("examples/lab-fleet", 3), ("templates/fleet", 1)):
        found = evaluate(
            f"let o = (import {NIX}/{folder}/flake.nix).outputs {stand_ins}; in "
            "{ homes = builtins.mapAttrs (_: c: c.config) o.homeConfigurations; "
            "checks = builtins.concatMap builtins.attrValues (builtins.attrValues o.checks); }"
        )
        assert len(found["homes"]) == len(found["checks"]) == hosts
        for home in found["homes"].values():
            assert home["home"]["username"] in ("xoxd", "me")
            assert home["home"]["homeDirectory"].startswith(("/home/", "/Users/"))
