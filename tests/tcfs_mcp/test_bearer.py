"""From signing in to a call of a server that asks for it; and servers that are shown nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tcfs.errors import AccessError, SignInError, ToolError
from tcfs_mcp.bearer import BearerAuth
from tcfs_mcp.client import call_server
from tests.oidc import kit
from tests.oidc.provider import Issuer
from tests.tcfs_mcp import processes

BROWSER = "import sys, urllib.request\nurllib.request.urlopen(sys.argv[1], timeout=10).close()\n"


class Device:
    """A device that may sign in: its commands as processes."""

    def __init__(self, oidc: Issuer, home: Path) -> None:
        home.mkdir()
        self.home = home
        self.environ = {**processes.environment(home), **kit.settings(oidc, home)}

    def tcfs(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which("tcfs", path=str(Path(sys.executable).parent))
        assert program is not None
        return self._run(program, *words)

    def call(self, server: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run(*processes.MAIN, "call", *words, "--server", server)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def test_signing_in_opens_a_server_that_asks_for_it(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(lifetime=20)  # so short that it has to be renewed for each call
    anna = Device(oidc, tmp_path / "anna")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text("a")
    (tmp_path / "server").mkdir()
    shown: list[str] = []
    with processes.http(
        tmp_path / "server",
        *("--oidc-issuer", oidc.url, "--oidc-audience", "tcfs-app"),
        *("--oidc-group", "org/team=writer"),
    ) as url:

        def said(done: subprocess.CompletedProcess[str], code: int) -> Any:
            shown.extend((done.stdout, done.stderr))
            assert done.returncode == code, done
            if done.stdout:
                return json.loads(done.stdout)
            return json.loads(done.stderr.splitlines()[-1])["error"]

        done = anna.tcfs("auth", "login", "--json")
        assert "WDJB-MJHT" in done.stderr
        assert said(done, 0)["username"] == "anna"
        anna.environ["TCFS_AUTH_SERVERS"] = url
        said(anna.call(url, "push", f"local_path={tree}"), 0)
        assert said(anna.call(url, "log"), 0)["versions"][0]["actor"] == "sso:42/anna"
        renewals = [form for _, form in oidc.control()["forms"] if "refresh_token" in form]
        assert len(renewals) == 2
        found = said(anna.tcfs("auth", "status", "--json"), 0)
        assert (found["issuer"], found["groups"]) == (oidc.url, ["org/team"])
        done = anna.tcfs("auth", "logout")
        shown.extend((done.stdout, done.stderr))
        assert done.returncode == 0, done
        assert said(anna.call(url, "log"), 40)["code"] == "sign_in"
    for given in oidc.control()["given"]:
        for name in ("access_token", "refresh_token", "id_token"):
            assert not any(given[name] in text for text in shown), name


def test_a_browser_is_opened_on_this_machine_if_asked(oidc: Issuer, tmp_path: Path) -> None:
    script = tmp_path / "browser.py"
    script.write_text(BROWSER)
    anna = Device(oidc, tmp_path / "anna")
    anna.environ["BROWSER"] = f"{sys.executable} {script} %s"
    done = anna.tcfs("auth", "login", "--browser")
    assert done.returncode == 0, done
    assert f"{oidc.url}/authorize?" in done.stderr
    assert "anna (42)" in done.stdout
    assert anna.tcfs("auth", "login", "--port", "80").returncode == 2


class Stranger:
    """A server that wants a token, and writes down what it is shown."""

    def __init__(self) -> None:
        self.challenge = ""
        self.metadata: Any = {}
        self.redirect = ""
        self.shown: list[str] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.note()
                self.say(200, json.dumps(stranger.metadata).encode())

            def do_POST(self) -> None:
                self.note()
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.say(307 if stranger.redirect else 401, b"")

            def note(self) -> None:
                if "authorization" in self.headers:
                    stranger.shown.append(self.headers["authorization"])

            def say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if stranger.redirect:
                    self.send_header("location", stranger.redirect)
                self.send_header("www-authenticate", stranger.challenge)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/mcp"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.close()


@pytest.fixture
def another() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.close()


def call(url: str, asked: list[Any]) -> None:
    def token_for(resource: str, issuers: tuple[str, ...]) -> str:
        asked.append((resource, issuers))
        return "planted-token"

    call_server(url, "log", [], "", "", token_for)


def test_a_server_whose_metadata_are_not_its_own_is_shown_nothing(
    stranger: Stranger, another: Stranger
) -> None:
    asked: list[Any] = []
    place = stranger.url.removesuffix("mcp") + "metadata"
    good = {"resource": stranger.url, "authorization_servers": ["https://gitlab.example"]}
    elsewhere = another.url.removesuffix("mcp") + "metadata"
    another.metadata = good
    for challenge, metadata in (
        ("Bearer", good),
        ('Bearer error="invalid_token"', good),
        (f'Bearer resource_metadata="{elsewhere}"', good),
        ('Bearer resource_metadata="http://gitlab.example/metadata"', good),
        ('Bearer resource_metadata="file:///etc/passwd"', good),
        (f'Bearer resource_metadata="{place}"', {**good, "resource": "https://tcfs.example/mcp"}),
        (f'Bearer resource_metadata="{place}"', {**good, "resource": another.url}),
        (f'Bearer resource_metadata="{place}"', {**good, "resource": [stranger.url]}),
        (f'Bearer resource_metadata="{place}"', {**good, "resource": f"{stranger.url}/"}),
        (f'Bearer resource_metadata="{place}"', "no object"),
    ):
        stranger.challenge, stranger.metadata = challenge, metadata
        with pytest.raises(AccessError, match="wants a token"):
            call(stranger.url, asked)
    assert (asked, stranger.shown, another.shown) == ([], [], [])

    # With metadata that fit it is shown one, which this server then does not take.
    stranger.challenge, stranger.metadata = f'Bearer resource_metadata="{place}"', good
    with pytest.raises(SignInError, match="does not take"):
        call(stranger.url, asked)
    assert set(asked) == {(stranger.url, ("https://gitlab.example",))}
    assert set(stranger.shown) == {"Bearer planted-token"}


def test_a_redirect_takes_no_token_elsewhere(
    stranger: Stranger, another: Stranger, tmp_path: Path
) -> None:
    stranger.redirect = another.url
    file = tmp_path / "token"
    file.write_text("planted-token\n")
    with pytest.raises(ToolError):
        call_server(stranger.url, "log", [], "", str(file))
    assert stranger.shown
    assert another.shown == []


def test_a_given_token_that_is_not_taken_is_named_as_that(
    stranger: Stranger, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("planted-token\n")
    with pytest.raises(AccessError, match="that was given") as caught:
        call_server(stranger.url, "log", [], "", str(file))
    assert "planted-token" not in str(caught.value.to_json())


def test_a_server_without_https_on_another_machine_is_shown_nothing() -> None:
    auth = BearerAuth("http://tcfs.example/mcp", lambda resource, issuers: "planted-token")
    response: Any = type("Response", (), {"headers": {"www-authenticate": "Bearer"}})()
    with pytest.raises(AccessError, match="not https"):
        auth._metadata_of(response)


@pytest.mark.parametrize("tool", ["daemon_status", "credential_status"])
def test_nothing_of_signing_in_is_loaded_before_a_server_asks(tmp_path: Path, tool: str) -> None:
    heavy = ("authlib", "httpx2", "jwt", "tcfs.secrets.oauth", "webbrowser", "http.server")
    code = (
        f"import sys\nfrom tcfs_mcp.main import main\nmain(['call', {tool!r}])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **processes.environment(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]", done
