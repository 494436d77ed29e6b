"""The package as it is installed: version, commands, data, lock files."""

import re
import subprocess
import sys
import sysconfig
from importlib import metadata, resources
from pathlib import Path
from zipfile import ZipFile

import pytest

import tcfs

ROOT = Path(__file__).parent.parent
COMMANDS = ("tcfs", "tcfs-mcp", "tcfsd")


def test_version_agrees_with_metadata():
    assert metadata.version("tcfs") == tcfs.__version__


def test_every_console_script_resolves():
    scripts = metadata.distribution("tcfs").entry_points.select(group="console_scripts")
    assert {script.name for script in scripts} == set(COMMANDS)
    for script in scripts:
        assert callable(script.load())


@pytest.mark.parametrize("command", ["tcfs", "tcfs-mcp"])
def test_installed_command_tells_its_version(command: str):
    path = Path(sysconfig.get_path("scripts"), command)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{command} {tcfs.__version__}\n"


def test_prompts_are_found_beside_the_package():
    found = {prompt.name for prompt in (resources.files("tcfs_mcp") / "_prompts").iterdir()}
    assert found == {prompt.name for prompt in (ROOT / "prompts").iterdir()}


def test_prompts_are_shipped_by_way_of_the_source_archive(tmp_path: Path):
    def build(target: str, source: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(tmp_path)]
        subprocess.run(command, cwd=source, capture_output=True, check=True)

    name = f"tcfs-{tcfs.__version__}"
    build("sdist", ROOT)
    subprocess.run(["tar", "-xzf", f"{name}.tar.gz"], cwd=tmp_path, check=True)
    build("wheel", tmp_path / name)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    shipped = {Path(name).name for name in names if "/_prompts/" in name}
    assert shipped == {prompt.name for prompt in (ROOT / "prompts").iterdir()}
    library = {str(file.relative_to(ROOT / "nix")) for file in (ROOT / "nix").rglob("*.nix")}
    library.add("schema.json")
    assert library <= {n.removeprefix("tcfs/_nix/") for n in names if n.startswith("tcfs/_nix/")}


@pytest.mark.parametrize("name", ["build", "lock", "runtime", "test"])
def test_lock_file_pins_by_hash_and_holds_no_address(name: str):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "index-url" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry


def test_test_lock_holds_every_other_pin():
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return set(re.findall(r"^[a-z0-9._-]+==[^\s;]+", text, re.MULTILINE))

    assert pins("runtime") | pins("build") <= pins("test")
