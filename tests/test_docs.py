"""The documents: what they show can be typed, what they list is what there is."""

import argparse
import os
import re
import shlex
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from tcfs.cli.arguments import build_parser
from tcfs.cli.shells import describe
from tcfs.config.load import load_config
from tcfs.config.schema import settings
from tcfs.errors import exit_codes

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DOORS = find_spec("tcfs_mcp.registry") is not None
needs_doors = pytest.mark.skipif(not DOORS, reason="the tools are not there yet")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(page.read_text()) if found == language]


def after(page: str, mark: str) -> str:
    """What stands in a page after a mark, up to the next empty line behind it."""
    text = (ROOT / page).read_text().split(f"<!-- {mark} -->\n", 1)[1]
    return text.split("\n\n", 1)[0]


def rows(page: str, mark: str) -> list[list[str]]:
    """The cells of the table after a mark, without its head."""
    lines = [line for line in after(page, mark).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def shown_commands(page: Path) -> list[list[str]]:
    """Every ``tcfs`` and ``tcfs-mcp`` command that a page shows, as words."""
    text = page.read_text()
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(tcfs(?:-mcp)? [^`]+)`", BLOCK.sub("", text))
    lines += re.findall(r"^ExecStart=\S*/(tcfs .*)$", text, re.MULTILINE)
    found = []
    for line in lines:
        for part in re.split(r"[|&]+|\$\(", line.partition("  #")[0]):
            words = re.sub(r"^\s*(?:anna|ben) ", "", part).split("<")[0].split(">")[0].strip()
            if re.match(r"tcfs(-mcp)? ", words):
                found.append(shlex.split(words.rstrip(')"')))
    return found


COMMANDS = [
    pytest.param(words, id=f"{name(page)}: {shlex.join(words)}")
    for page in PAGES
    for words in shown_commands(page)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_that_is_shown_is_one(words: list[str]):
    program, *arguments = words
    if program == "tcfs":
        args = build_parser().parse_args(arguments)
        assert hasattr(args, "run"), "only half a command"
        return
    if not DOORS:
        pytest.skip("the tools are not there yet")
    from tcfs_mcp.main import build_parser as build_doors
    from tcfs_mcp.schema import kinds
    from tcfs_mcp.tools import TOOLS
    from tcfs_mcp.words import from_words

    args = build_doors().parse_args(arguments)
    if args.command == "call" and args.tool != "TOOL":
        from_words(args.tool, kinds(TOOLS.get(args.tool)), args.words, args.args)


def test_commands_are_found_in_the_pages():
    shown = {shlex.join(param.values[0]) for param in COMMANDS}  # type: ignore[arg-type]
    assert {"tcfs sync --quiet", "tcfs completion bash", "tcfs init --name anna"} <= shown
    assert len(shown) > 40


def test_every_remedy_in_the_code_names_a_command_that_there_is():
    known = {" ".join(spec.path): spec for spec in describe(build_parser())}
    wrong = []
    count = 0
    for source in (*ROOT.glob("core/**/*.py"), *ROOT.glob("tcfs_mcp/**/*.py")):
        text = re.sub(r'"\s*\n\s*f?"', "", source.read_text())
        for words in re.findall(r"(?:with|[Rr]un|say so with): (tcfs [^\"'`;.{]+)", text):
            count += 1
            parts = words.split()[1:]
            path = " ".join(parts[:2]) if " ".join(parts[:2]) in known else " ".join(parts[:1])
            spec = known.get(path)
            options = {n for o in spec.options for n in o.names} if spec else set()
            bad = [p for p in parts if p.startswith("--") and p.rstrip(",)") not in options]
            if spec is None or not spec.path or spec.commands or bad:
                wrong.append(f"{source.relative_to(ROOT)}: {words}")
    assert count > 20
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    text = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        assert "://" not in target, f"{target}: pages do not depend on other places"
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page: Path):
    text = BLOCK.sub("", page.read_text())
    for path in re.findall(r"`((?:script|core|tests|docs|requirements|bench)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(
        r"`((?:content|ledger|device|state|sync|store|host|model)/\w+)`", text
    ):
        there = ROOT / "core" / "tcfs" / module
        assert there.is_dir() or there.with_suffix(".py").exists(), module


def test_the_exit_codes_are_those_of_the_code():
    table = {code_name: int(code) for code, code_name, _ in rows("docs/shell.md", "exit codes")}
    assert table == exit_codes()


@needs_doors
def test_the_tools_are_those_of_the_code():
    from tcfs_mcp.tools import TOOLS

    table = [row[:3] for row in rows("docs/assistant.md", "tools")]
    assert table == [[s.name, s.toolset, "" if s.read_only else "yes"] for s in TOOLS]


@needs_doors
def test_the_prompts_are_those_of_the_code():
    shown = set(re.findall(r"`([\w-]+)`", after("docs/assistant.md", "prompts")))
    assert shown == {prompt.stem for prompt in (ROOT / "prompts").glob("*.md")}


@needs_doors
def test_the_options_of_the_server_are_those_of_the_code():
    from tcfs_mcp.main import build_parser as build_doors

    [commands] = [
        action
        for action in build_doors()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    known = set(commands.choices["serve"]._option_string_actions)
    text = (ROOT / "docs" / "assistant.md").read_text()
    assert set(re.findall(r"`(--[\w-]+)", text)) <= known


def test_the_settings_that_have_an_effect_are_settings():
    known = {key for key, _ in settings()}
    shown = set(re.findall(r"`([\w.]+)`", after("docs/nix.md", "effective")))
    assert shown <= known
    assert "sync.sync_root" in shown


@pytest.mark.parametrize(
    "text", [block for page in PAGES for block in blocks(page, "toml")], ids=lambda t: t[:20]
)
def test_settings_that_are_shown_can_be_read(tmp_path: Path, text: str):
    file = tmp_path / "config.toml"
    file.write_text(text)
    assert load_config(config_file=file, environ={"HOME": "/home/me"}).warnings == ()


@pytest.mark.slow
def test_the_tour_can_be_taken(tmp_path: Path):
    [tour] = [
        block
        for block in blocks(ROOT / "docs" / "shell.md", "sh")
        if block.startswith("mkdir tour")
    ]
    scripts = sysconfig.get_path("scripts")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TCFS_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path,
        env=kept | {"PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "milk\nbread\neggs\n" in done.stdout
    assert "verified" in done.stdout
