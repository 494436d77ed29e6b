"""The real server as a process, over stdio and HTTP, in both protocol eras, on a real store."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from tcfs_mcp.tools import TOOLS
from tests.tcfs_mcp import processes

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["legacy", "auto"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "docs"
    tree.mkdir()
    (tree / "a.txt").write_text("one\n")
    (tree / "b.txt").write_text("two\n")
    return tree


async def every_tool(client: Client, tree: Path) -> None:
    """List every tool, and call each on a real tree."""
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert listed == [spec.name for spec in TOOLS]

    async def ok(name: str, **arguments: Any) -> dict[str, Any]:
        result = await client.call_tool(name, arguments)
        assert not result.is_error, (name, result)
        assert result.structured_content is not None
        return result.structured_content

    async def fails(code: str, name: str, **arguments: Any) -> None:
        result = await client.call_tool(name, arguments)
        assert result.is_error, (name, result)
        assert json.loads(result.content[0].text)["error"]["code"] == code  # type: ignore[union-attr]

    first = await ok("push", local_path=str(tree))
    assert first["plan"]["counts"]["add"] >= 2
    again = await ok("push", local_path=str(tree), dry_run=True)
    assert again["status"] == "planned"
    assert again["plan"]["total"] == 0
    (tree / "a.txt").write_text("changed\n")
    planned = await ok("push", local_path=str(tree), dry_run=True)
    await ok("push", local_path=str(tree), plan=planned["plan"]["hash"])
    target = tree.parent / "copy"
    await ok("pull", remote_path="docs", local_path=str(target))
    assert (target / "a.txt").read_text() == "changed\n"

    status = await ok("device_status")
    assert status["device"]["conflicts"] == 0
    assert len(status["fleet"]) == 1
    assert (await ok("sync_status", path=str(tree / "a.txt")))["state"] == "up_to_date"
    await ok("daemon_status")
    assert (await ok("credential_status"))["sources"][0]["present"]
    await ok("config_show")
    assert (await ok("list_conflicts"))["total"] == 0
    await fails("not_found", "show_conflict", path="docs/a.txt")
    await fails("not_found", "resolve_conflict", rel_path="docs/a.txt", resolution="keep_local")
    why = await ok("why", path="docs/a.txt")
    assert [step["role"] for step in why["steps"]] == ["current", "superseded"]
    history = await ok("log", path="docs/a.txt")
    assert len(history["versions"]) == 2
    await ok("restore", path="docs/a.txt", version=history["versions"][-1]["id"])
    actor = history["versions"][0]["actor"]
    assert actor.startswith("mcp")
    assert (await ok("undo", actor=actor, dry_run=True))["dry_run"]
    await fails("not_found", "job_status", job_id="none")
    await fails("not_found", "job_cancel", job_id="none")
    job = await ok("push", local_path=str(tree), background=True)
    ended = await ok("job_status", job_id=job["job_id"], wait_s=30)
    assert ended["state"] == "done"
    for uri in ("tcfs://devices", "tcfs://conflicts", "tcfs://log", "tcfs://file/docs/b.txt"):
        assert (await client.read_resource(uri)).contents


async def test_every_tool_works_over_stdio(tmp_path: Path, tree: Path, era: str):
    async with Client(processes.stdio(tmp_path), mode=era) as client:
        await every_tool(client, tree)


async def test_every_tool_works_over_http(tmp_path: Path, tree: Path, era: str):
    with processes.http(tmp_path) as url:
        async with Client(url, mode=era) as client:
            await every_tool(client, tree)


async def test_two_clients_of_one_http_server_see_the_same_fleet(tmp_path: Path, tree: Path):
    with processes.http(tmp_path) as url:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(Client(url, mode="legacy"))
            two = await stack.enter_async_context(Client(url))
            await one.call_tool("push", {"local_path": str(tree)})
            page = (await two.call_tool("log", {})).structured_content
            assert page is not None
            assert {item["path"] for item in page["versions"]} >= {"docs/a.txt", "docs/b.txt"}


async def test_a_read_only_server_with_allowed_directories_over_stdio(tmp_path: Path, tree: Path):
    words = ("--read-only", "--root", str(tree))
    async with Client(processes.stdio(tmp_path, *words)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert "push" not in names
        assert (await client.call_tool("push", {"local_path": str(tree)})).is_error
        refused = await client.call_tool("sync_status", {"path": "/etc/passwd"})
        assert refused.is_error
        assert str(tree) in refused.content[0].text  # type: ignore[union-attr]


def post(url: str, headers: dict[str, str]) -> int:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    request = urllib.request.Request(
        url,
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **headers,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_page_in_a_browser_cannot_reach_the_server(tmp_path: Path):
    with processes.http(tmp_path) as url:
        assert post(url, {"Origin": "https://evil.example"}) == 403
        assert post(url, {"Host": "evil.example"}) in (403, 421)


def test_with_a_token_every_request_needs_it(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123\n")
    with processes.http(tmp_path, "--token-file", str(token)) as url:
        assert post(url, {}) == 401
        assert post(url, {"Authorization": "Bearer 0123456789abcdef0124"}) == 401
        assert post(url, {"Authorization": "Bearer 0123456789abcdef0123"}) != 401
        good = processes.run(
            tmp_path, "call", "daemon_status", "--server", url, "--token-file", str(token)
        )
        assert good.returncode == 0, good


def test_other_machines_are_let_in_only_with_a_token(tmp_path: Path):
    done = processes.run(tmp_path, "serve", "--http", "0", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--token-file" in done.stderr


def test_a_short_token_is_refused(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("short\n")
    done = processes.run(tmp_path, "serve", "--http", "0", "--token-file", str(token))
    assert done.returncode == 16
    assert "short" not in done.stderr.replace("tcfs-mcp", "").split("token file")[0]


def test_a_taken_port_is_a_clear_error(tmp_path: Path):
    with processes.http(tmp_path) as url:
        port = url.split(":")[2].split("/")[0]
        done = processes.run(tmp_path, "serve", "--http", port)
    assert done.returncode == 14
    assert port in done.stderr


def test_a_server_over_stdio_ends_when_its_client_is_gone(tmp_path: Path):
    done = subprocess.run(
        [*processes.MAIN, "serve"],
        env=processes.environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_server_over_stdio_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals):
    command = [*processes.MAIN, "serve"]
    env = processes.environment(tmp_path)
    async with await anyio.open_process(command, env=env) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        hello = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        await server.stdin.send(json.dumps(hello).encode() + b"\n")
        assert b"serverInfo" in await server.stdout.receive()
        server.send_signal(number)
        with anyio.fail_after(20):
            assert await server.wait() == 128 + number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_over_http_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals):
    with processes.serving(tmp_path) as (server, _url):
        server.send_signal(number)
        assert server.wait(20) == 128 + number
