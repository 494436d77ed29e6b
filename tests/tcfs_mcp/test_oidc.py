"""Tokens of an OpenID provider, against a provider that is a process of its own."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tcfs.config import load_config
from tcfs.config.schema import AuthConfig
from tcfs.errors import AccessError, ConfigError, IntegrityError, ProviderError, UsageError
from tcfs.secrets.oidc import Verifier
from tcfs_mcp import serve
from tcfs_mcp.door import Door
from tcfs_mcp.main import build_parser
from tcfs_mcp.oidc import RequireOidc, actor_of, gate
from tcfs_mcp.tools import TOOLS
from tests.oidc.provider import Issuer
from tests.tcfs_mcp import processes


def verifier(oidc: Issuer) -> Verifier:
    return Verifier(oidc.url, "tcfs-app")


def test_a_token_of_the_issuer_for_this_audience_is_taken(oidc: Issuer) -> None:
    assert verifier(oidc).check(oidc.token())["sub"] == "42"
    assert verifier(oidc).check(oidc.token(aud=["other", "tcfs-app"]))["sub"] == "42"


def test_every_other_token_is_refused(oidc: Issuer) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    bad = {
        "expired": oidc.token(exp=int(time.time()) - 100),
        "without end": oidc.token(exp=None),
        "of another issuer": oidc.token(iss="http://127.0.0.1:1"),
        "for another": oidc.token(aud="other-app"),
        "of nobody": oidc.token(sub=None),
        "signed by a stranger": oidc.token(key=stranger),
        "of an unknown key": oidc.token(key=stranger, kid="k2"),
        "unsigned": jwt.encode({"iss": oidc.url, "aud": "tcfs-app"}, "", algorithm="none"),
        "with the shown secret": oidc.token(
            key="secret-that-is-shown-to-all-of-us", kid="shared", algorithm="HS256"
        ),
        "no token": "abc",
    }
    checked = verifier(oidc)
    for name, token in bad.items():
        with pytest.raises(AccessError) as caught:
            checked.check(token)
        assert token not in str(caught.value), name
    assert oidc.control()["seen"]["/keys"] == 1, "strangers do not make many questions"


def test_a_provider_that_is_no_https_or_lies_about_itself_is_refused(oidc: Issuer) -> None:
    with pytest.raises(ConfigError, match="https"):
        Verifier("http://gitlab.example", "a")
    with pytest.raises(ConfigError):
        Verifier(oidc.url, "")
    with pytest.raises(IntegrityError, match="another issuer"):
        Verifier(oidc.url + "/", "tcfs-app").check(oidc.token())
    oidc.control(down=["/keys"])
    with pytest.raises(ProviderError):
        verifier(oidc).check(oidc.token())


def test_a_first_token_does_not_pass_over_keys_that_are_being_fetched(oidc: Issuer) -> None:
    checked, token = verifier(oidc), oidc.token()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(checked.check(token)["sub"])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["42"] * 4


def test_groups_have_roles_and_the_highest_counts() -> None:
    auth = AuthConfig(
        issuer="https://gitlab.example",
        client_id="tcfs-app",
        reader_groups=("org",),
        writer_groups=("org/team",),
        admin_groups=("org/team/leads",),
    )
    roles = gate(auth, groups=("other=writer", "a=b=admin", "plain")).roles
    assert roles.of(["org"]) == "reader"
    assert roles.of(["org/team"]) == "writer"
    assert roles.of(["org", "org/team/leads", "org/team"]) == "admin"
    assert roles.of(["other"]) == "writer"
    assert roles.of(["a=b"]) == "admin"
    assert roles.of(["plain"]) == "reader"
    for stranger in ("org/team/x", "ORG", "team", "or", "", "org/"):
        assert roles.of([stranger]) is None, stranger
    assert roles.of([]) is None
    anyone = gate(auth.model_copy(update={"default_role": "reader"})).roles
    assert (anyone.of([]), anyone.of(["org/team"])) == ("reader", "writer")


def test_a_gate_that_nobody_could_pass_is_an_error() -> None:
    auth = AuthConfig(issuer="https://gitlab.example", client_id="tcfs-app")
    with pytest.raises(ConfigError, match="nobody would be let in"):
        gate(auth)
    for wrong in ("g=owner", "=writer", "g="):
        with pytest.raises(ConfigError, match="not a group and a role"):
            gate(auth, groups=(wrong,))
    with pytest.raises(ConfigError, match="public-url"):
        gate(auth, groups=("g",), public_url="http://tcfs.example/mcp")


def test_options_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "TCFS_HOME": str(tmp_path)}
    door = Door(registry=TOOLS, load=lambda: load_config(environ=environ))
    group = ("--oidc-issuer", "https://gitlab.example", "--oidc-group", "g")
    for options, error, says in (
        (("--oidc-group", "g"), UsageError, "need --oidc"),
        (group, UsageError, "is for --http"),
        (("--http", "0", *group, "--token-file", "x"), UsageError, "exclude each other"),
        (("--http", "0", *group, "--host", "0.0.0.0"), UsageError, "need TLS"),
        (("--http", "0", *group), ConfigError, "for somebody"),
        (("--http", "0", "--oidc", "--oidc-group", "g"), ConfigError, "not an https URL"),
    ):
        parsed = build_parser().parse_args(["serve", *options])
        with pytest.raises(error, match=says):
            serve._gate(parsed, door)
    environ["TCFS_AUTH_ISSUER"] = "https://gitlab.example"
    environ["TCFS_AUTH_CLIENT_ID"] = "tcfs-app"
    environ["TCFS_AUTH_ADMIN_GROUPS"] = "org/leads"
    parsed = build_parser().parse_args(["serve", "--http", "0", "--oidc", "--oidc-group", "g"])
    made = serve._gate(parsed, door)
    assert made is not None
    assert (made.verifier.issuer, made.verifier.audience) == ("https://gitlab.example", "tcfs-app")
    assert (made.roles.of(["org/leads"]), made.roles.of(["g"])) == ("admin", "reader")


@pytest.mark.anyio
async def test_behind_a_proxy_the_server_calls_itself_by_its_public_name(oidc: Issuer) -> None:
    auth = AuthConfig(issuer=oidc.url, client_id="tcfs-app", reader_groups=("g",))
    public = "https://tcfs.example/team/mcp"
    sent: list[Any] = []

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is let through")

    async def send(message: Any) -> None:
        sent.append(message)

    app = RequireOidc(nothing, gate(auth, public_url=public), "http://127.0.0.1:1")
    await app({"type": "http", "path": "/mcp", "headers": []}, nothing, send)
    place = "https://tcfs.example/.well-known/oauth-protected-resource/team/mcp"
    assert f'resource_metadata="{place}"'.encode() in dict(sent[0]["headers"])[b"www-authenticate"]
    path = "/.well-known/oauth-protected-resource/team/mcp"
    await app({"type": "http", "path": path, "headers": []}, nothing, send)
    assert json.loads(sent[-1]["body"])["resource"] == public


def test_the_history_names_the_subject_whatever_the_name_is() -> None:
    assert actor_of({"sub": "42", "preferred_username": "anna"}) == "sso:42/anna"
    assert actor_of({"sub": "42"}) == "sso:42"
    one, other = actor_of({"sub": "auth0|7"}), actor_of({"sub": "auth0-7"})
    assert one != other
    assert "|" not in one
    long = actor_of({"sub": "s" * 300, "nickname": "4/2/n" * 30 + "\n"})
    assert len(long) < 80
    assert long.count("/") == 1
    assert "\n" not in long


GROUPS = (
    *("--oidc-group", "org/readers"),
    *("--oidc-group", "org/team=writer"),
    *("--oidc-group", "org/team/leads=admin"),
)
MEMBER = {"reader": "org/readers", "writer": "org/team", "admin": "org/team/leads"}


@pytest.fixture(scope="module")
def served(_provider: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that lets in who has a role."""
    options = ("--oidc-issuer", _provider.url, "--oidc-audience", "tcfs-app", *GROUPS)
    with processes.http(tmp_path_factory.mktemp("server"), *options) as url:
        yield url


def member(oidc: Issuer, role: str, **changes: Any) -> str:
    """A token of somebody who has this role."""
    return oidc.token(groups=["everyone", MEMBER[role]], preferred_username=role, **changes)


def post(url: str, headers: dict[str, str], message: object = None) -> tuple[int, Any, Any]:
    """Status, headers and body of one message's answer."""
    request = urllib.request.Request(
        url,
        json.dumps(message or {}).encode(),
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **headers,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status), answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_the_server_asks_for_a_token_and_says_where_to_get_one(
    oidc: Issuer, served: str, tmp_path: Path
) -> None:
    base = served.removesuffix("/mcp")
    basic = f"Basic {member(oidc, 'reader')}"
    for header in ({}, {"Authorization": "Bearer abc"}, {"Authorization": basic}):
        status, headers, _ = post(served, header)
        assert status == 401
        place = f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
        assert place in headers["www-authenticate"]
    address = f"{base}/.well-known/oauth-protected-resource/mcp"
    with urllib.request.urlopen(address, timeout=30) as answer:
        found = json.loads(answer.read())
    assert found["resource"] == served
    assert found["authorization_servers"] == [oidc.url]
    token = tmp_path / "token"
    token.write_text(oidc.token(groups=["org/readers"]))
    done = processes.run(
        tmp_path, "call", "daemon_status", "--server", served, "--token-file", str(token)
    )
    assert done.returncode == 0, done.stderr


def test_a_user_without_a_role_is_turned_away(oidc: Issuer, served: str, tmp_path: Path) -> None:
    outsider = oidc.token(groups=["org", "org/team/x"], groups_direct="org/team")
    status, headers, body = post(served, {"Authorization": f"Bearer {outsider}"})
    assert status == 403
    assert 'error="insufficient_scope"' in headers["www-authenticate"]
    assert "no group" in json.loads(body)["message"]
    token = tmp_path / "token"
    token.write_text(outsider)
    done = processes.run(
        tmp_path, "call", "daemon_status", "--server", served, "--token-file", str(token)
    )
    assert done.returncode == 12, done.stderr
    assert json.loads(done.stderr)["error"]["code"] == "access"


@pytest.mark.anyio
async def test_a_provider_that_is_down_is_no_reason_to_sign_in_again(oidc: Issuer) -> None:
    oidc.control(down=["/keys"])
    auth = AuthConfig(issuer=oidc.url, client_id="tcfs-app", reader_groups=("g",))
    sent: list[Any] = []

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nothing is let through")

    async def send(message: Any) -> None:
        sent.append(message)

    app = RequireOidc(nothing, gate(auth), "http://127.0.0.1:1")
    headers = [(b"authorization", f"Bearer {oidc.token(groups=['g'])}".encode())]
    await app({"type": "http", "path": "/mcp", "headers": headers}, nothing, send)
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_each_role_sees_and_may_what_it_may(
    oidc: Issuer, served: str, tmp_path: Path, era: Any
) -> None:
    tree = tmp_path / f"tree-{era}"
    tree.mkdir()
    (tree / "a.txt").write_text("a")

    async def session(role: str) -> tuple[set[str], dict[str, bool], Any]:
        headers = {"Authorization": f"Bearer {member(oidc, role)}"}
        async with create_mcp_http_client(headers=headers) as http:
            transport = streamable_http_client(served, http_client=http)
            async with Client(transport, mode=era) as client:
                listed = {tool.name for tool in (await client.list_tools()).tools}
                push = await client.call_tool("push", {"local_path": str(tree)})
                gc = await client.call_tool("gc", {"dry_run": True})
                log = await client.call_tool("log", {})
                refused = {"push": push.is_error, "gc": gc.is_error}
                return listed, refused, (push, gc, log)

    admin, refused, (_, _, log) = await session("admin")
    assert admin == {spec.name for spec in TOOLS}
    assert refused == {"push": False, "gc": False}
    assert log.structured_content["versions"][0]["actor"] == "sso:42/admin"

    (tree / "a.txt").write_text("b")
    writer, refused, (_, gc, log) = await session("writer")
    assert admin - writer == {"gc", "fleet_render", "fleet_switch", "fleet_rollout"}
    assert refused == {"push": False, "gc": True}
    assert "takes the role admin" in gc.content[0].text
    assert log.structured_content["versions"][0]["actor"] == "sso:42/writer"

    (tree / "a.txt").write_text("c")
    reader, refused, (push, _, log) = await session("reader")
    assert reader == {spec.name for spec in TOOLS if spec.read_only}
    assert refused == {"push": True, "gc": True}
    assert "takes the role writer" in push.content[0].text
    assert log.structured_content["versions"][0]["actor"] == "sso:42/writer"


def test_what_a_token_allows_is_asked_for_every_message_of_a_session(
    oidc: Issuer, served: str
) -> None:
    def headers(token: str, session: str = "") -> dict[str, str]:
        more = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": "2025-11-25"} if session else {}
        return {"Authorization": f"Bearer {token}", **more}

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
    ask = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    name = {"preferred_username": "anna"}
    writer = oidc.token(groups=["org/team"], **name)
    status, found, _ = post(served, headers(writer), hello)
    assert status == 200
    session = found["mcp-session-id"]
    post(
        served,
        headers(writer, session),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    )
    status, _, body = post(served, headers(writer, session), ask)
    assert (status, '"push"' in body) == (200, True)
    demoted = oidc.token(groups=["org/readers"], **name)
    status, _, body = post(served, headers(demoted, session), ask)
    assert (status, '"push"' in body, '"log"' in body) == (200, False, True)
    removed = oidc.token(groups=[], **name)
    assert post(served, headers(removed, session), ask)[0] == 403
    ended = oidc.token(groups=["org/team"], exp=int(time.time()) - 100, **name)
    assert post(served, headers(ended, session), ask)[0] == 401
    assert post(served, headers("", session), ask)[0] == 401
    other = oidc.token(groups=["org/team/leads"], sub="43", **name)
    assert post(served, headers(other, session), ask)[0] == 404, "another user's session"
