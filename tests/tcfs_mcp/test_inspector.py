"""The official MCP inspector's command line lists tools, and calls them, over stdio and HTTP.

Over HTTP it calls every tool. Over stdio each call starts a server, so there it makes one call of
each kind; a client of the SDK calls every tool over stdio (test_serve).

It comes from npm, pinned, into a cache outside the repository; without Node the tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tcfs_mcp.tools import TOOLS
from tests.npm import installed
from tests.tcfs_mcp import processes

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def inspector() -> Path:
    return installed(INSPECTOR) / ".bin" / "mcp-inspector"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A device with a tree that was pushed twice."""
    tree = tmp_path / "docs"
    tree.mkdir()
    for text in ("one\n", "two\n"):
        (tree / "a.txt").write_text(text)
        processes.call(tmp_path, "push", f"local_path={tree}")
    return tmp_path


def inspect(inspector: Path, home: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Run the inspector; its exit code, the JSON it prints, and stderr."""
    done = subprocess.run(
        # How long a server takes to start says how busy the machine is; ``timeout`` ends a hang.
        [str(inspector), "--cli", *words, "--connect-timeout", "0"],
        env={**processes.environment(home), "MCP_CATALOG_PATH": str(home / "catalog.json")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def over_stdio(home: Path) -> list[str]:
    words = [*processes.MAIN, "serve", "--actor", "mcp:inspector"]
    # What comes after the command is the server's, up to the inspector's own --method.
    return [*words, "-e", f"TCFS_HOME={home / 'tcfs'}"]


def calls(home: Path) -> list[tuple[str, list[str], int]]:
    """Every tool with arguments, and the exit code that is expected."""
    page = processes.call(home, "log", "path=docs/a.txt")
    oldest = page["versions"][-1]["id"]
    copy = home / "copy"
    return [
        ("device_status", [], 0),
        ("sync_status", [f"path={home}/docs/a.txt"], 0),
        ("daemon_status", [], 0),
        ("credential_status", [], 0),
        ("config_show", [], 0),
        ("push", [f"local_path={home}/docs", "dry_run=true"], 0),
        ("push", [f"local_path={home}/docs", "dry-run=true"], 5),
        ("pull", ["remote_path=docs", f"local_path={copy}"], 0),
        ("list_conflicts", ["limit=3"], 0),
        ("show_conflict", ["path=docs/a.txt"], 5),
        ("resolve_conflict", ["rel_path=docs/a.txt", "resolution=merge"], 5),
        ("log", ["path=docs/a.txt"], 0),
        ("why", ["path=docs/a.txt"], 0),
        ("restore", ["path=docs/a.txt", f"version={oldest}"], 0),
        ("undo", ["actor=call", "dry_run=true"], 0),
        ("audit", [], 0),
        ("explain_access", ["path=docs/a.txt"], 0),
        ("git_status", [], 0),
        ("gc", ["dry_run=true"], 0),
        *((name, [], 5) for name in FLEET_TOOLS),  # there is no definition of a fleet here
        ("job_status", ["job_id=none"], 5),
        ("job_cancel", ["job_id=none"], 5),
        ("no_such_tool", [], 5),
    ]


FLEET_TOOLS = (
    *("fleet_check", "fleet_render", "fleet_diff", "fleet_drift", "fleet_switch", "fleet_rollout"),
)
KINDS = (
    *("device_status", "sync_status", "push", "pull", "list_conflicts", "show_conflict"),
    *("no_such_tool",),
)
"""Without arguments, with text, truth values, paths to write to, numbers; errors of both kinds."""


def call_words(name: str, arguments: list[str]) -> list[str]:
    words = ["--method", "tools/call", "--tool-name", name]
    return [*words, *(word for argument in arguments for word in ("--tool-arg", argument))]


def test_the_inspector_lists_every_tool_and_makes_every_kind_of_call_over_stdio(
    inspector: Path, home: Path
):
    server = over_stdio(home)
    code, listed, error = inspect(inspector, home, *server, "--method", "tools/list")
    assert code == 0, error
    assert [tool["name"] for tool in listed["tools"]] == [spec.name for spec in TOOLS]
    # Each call starts a server: all of them with TCFS_DEEP=1.
    made = [call for call in calls(home) if os.environ.get("TCFS_DEEP") or call[0] in KINDS]
    assert {name for name, _, _ in made} >= set(KINDS)
    for name, arguments, expected in made:
        code, answer, error = inspect(inspector, home, *server, *call_words(name, arguments))
        assert code == expected, (name, answer, error)


def test_the_inspector_calls_every_tool_over_http(inspector: Path, home: Path):
    with processes.http(home) as url:
        server = [url, "--transport", "http"]
        code, listed, error = inspect(inspector, home, *server, "--method", "tools/list")
        assert code == 0, error
        assert {tool["name"] for tool in listed["tools"]} == {spec.name for spec in TOOLS}
        for method in ("resources/list", "resources/templates/list", "prompts/list"):
            code, _, error = inspect(inspector, home, *server, "--method", method)
            assert code == 0, (method, error)
        asked = calls(home)
        assert {name for name, _, _ in asked} > {spec.name for spec in TOOLS}
        for name, arguments, expected in asked:
            code, answer, error = inspect(inspector, home, *server, *call_words(name, arguments))
            assert code == expected, (name, answer, error)
            if not expected:
                # Only the keys: the inspector's JSON has no integers above 2**53 (mtime_ns).
                text = json.loads(answer["content"][0]["text"])
                assert text.keys() == answer["structuredContent"].keys()
