"""No secret in any output: known ones are planted everywhere, and looked for in what comes out."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tcfs.cli.main import main as tcfs
from tcfs.device import protection
from tcfs.device.identity import DeviceIdentity
from tcfs.model.ids import NamespaceId
from tcfs.secrets.oauth import Grant
from tcfs.sync import session
from tcfs.sync.signin import Kept, SignIn
from tcfs_mcp.main import main as tcfs_mcp
from tests.certificates import Authority
from tests.jwts import Operator
from tests.oidc.provider import Issuer
from tests.secrets.test_sops import FIXTURES, KEY
from tests.sync.kit import World, fill

COMMANDS = [
    ("status",),
    ("push", "--dry-run"),
    ("push",),
    ("pull",),
    ("log",),
    ("why", "notes/a.txt"),
    ("device", "list"),
    ("device", "status"),
    ("acl", "list"),
    ("acl", "explain", "notes/a.txt"),
    ("namespace", "list"),
    ("audit",),
    ("credentials", "list"),
    ("credentials", "resolve", "tcfs/s3"),
    ("verify", "--read-data"),
    ("config", "show"),
    ("conflicts",),
    ("device", "revoke", "nobody"),
    ("device", "enroll", "--invite", "tcfs-invite-Zm9yZ2Vk"),
    ("rotate-credentials",),
    ("restore", "notes/a.txt", "--at", "nothing"),
    ("auth", "status"),
    ("auth", "login"),
    ("auth", "login", "--browser"),
    ("auth", "logout"),
]
TOOLS = [
    ("device_status",),
    ("credential_status",),
    ("config_show",),
    ("daemon_status",),
    ("push", "local_path={tree}", "dry_run=true"),
    ("log",),
    ("audit", "verify=true"),
    ("explain_access", "path=notes/a.txt"),
    ("why", "path=nothing"),
]


class Planted:
    """A device whose every secret is known, and its environment."""

    def __init__(self, world: World, top: Path) -> None:
        self.secrets: dict[str, str] = {}
        self.environ: dict[str, str] = {}
        self.plant("TCFS_DEVICE_PASSPHRASE", "planted-device-passphrase")
        self.plant("TCFS_PASSPHRASE", "planted-repository-passphrase")
        self.plant("TCFS_KDBX_PASSWORD", "planted-kdbx-password")
        self.plant("TCFS_S3_SECRET", "planted-s3-secret")
        self.plant("TCFS_NEW_S3_SECRET", "planted-new-s3-secret")
        self.plant("AWS_SECRET_ACCESS_KEY", "planted-aws-secret")
        self.plant("AWS_SESSION_TOKEN", "planted-aws-token")
        self.plant("TCFS_OIDC_SECRET", "planted-oidc-secret")
        self.plant("TCFS_CLIENT_KEY_PASSWORD", "planted-key-password")
        self._shown_to_servers(top)
        self.secrets["age identity"] = KEY.strip().splitlines()[-1]
        self.environ |= {
            "SOPS_AGE_KEY": KEY,
            "TCFS_S3_ACCESS": "ACCESS",
            "TCFS_NEW_S3_ACCESS": "ACCESS2",
            "AWS_ACCESS_KEY_ID": "AWSACCESS",
            "TCFS_SECRETS_SOPS_DIR": str(FIXTURES),
            "TCFS_AUTH_ISSUER": "http://127.0.0.1:1",
            "TCFS_AUTH_CLIENT_ID": "tcfs-app",
            "TCFS_AUTH_CONFIDENTIAL": "true",
            "TCFS_SECRETS_KDBX_PATH": str(top / "db.kdbx"),
        }
        for name in ("yaml", "json", "age"):
            self.secrets[f"sops {name}"] = f"fixture-secret-from-{name}"
        self.secrets["sops env"] = "fixture secret=from env"
        self._kdbx(top / "db.kdbx")
        file = top / "credentials"
        file.write_text("s3-access = FILEACCESS\ns3-secret = planted-file-secret\n")
        file.chmod(0o600)
        self.secrets["credentials file"] = "planted-file-secret"
        self.environ["TCFS_STORAGE_CREDENTIALS_FILE"] = str(file)
        self.device = world.device("anna", join=False)
        self.home = self.device.home

    def plant(self, variable: str, value: str) -> None:
        self.secrets[variable] = self.environ[variable] = value

    def _shown_to_servers(self, top: Path) -> None:
        pair = Authority(top).pair("anna", days=10, password=b"planted-key-password")
        creds = Operator().account("fleet").user("anna", days=10)
        self.secrets["client key"] = pair.key.read_text().splitlines()[1]
        self.secrets["nkey seed"] = creds.seed
        self.secrets["NATS JWT"] = creds.jwt
        self.environ |= {
            "TCFS_STORAGE_CLIENT_CERT_PATH": str(pair.cert),
            "TCFS_STORAGE_CLIENT_KEY_PATH": str(pair.key),
            "TCFS_SYNC_NATS_CREDENTIALS_FILE": str(creds.write(top / "anna.creds")),
        }

    def _kdbx(self, path: Path) -> None:
        self.secrets["kdbx entry"] = "planted-kdbx-secret"
        try:
            import pykeepass
        except ImportError:
            return
        from tests.secrets.test_kdbx import cheaply

        opened = cheaply(pykeepass.create_database(str(path), password="planted-kdbx-password"))
        group = opened.add_group(opened.root_group, "tcfs")
        opened.add_entry(group, "s3", "KDBXACCESS", "planted-kdbx-secret")
        opened.save()

    def open(self) -> None:
        """Make the repository, and learn the secrets that it made."""
        keys = session.KeyCare(kind="passphrase")
        made = session.init_fleet(self.device.loaded, name="anna", keys=keys)
        self.secrets["recovery phrase"] = " ".join(made.phrase.split()[:4])
        fill(self.device.tree, {"notes/a.txt": "hello"})
        fleet = self.device.fleet
        identity = fleet._context.identity
        self.secrets["signing seed"] = identity.signing_seed.hex()
        self.secrets["device's age identity"] = identity.age_secret
        fleet.devices()
        held = fleet._context.keys(NamespaceId("default"))
        self.secrets |= {f"epoch {e}": key.hex() for e, key in held.keys.items()}
        assert held.chunk_key is not None
        self.secrets["chunk key"] = held.chunk_key.hex()
        self.secrets["invite"] = fleet.invite().code
        fleet.access.open_enrollment("planted-repository-passphrase")
        self.secrets["entropy"] = (
            (self.home / "config/recovery-phrase").read_text()
            if (self.home / "config/recovery-phrase").exists()
            else "no such secret"
        )
        self._sign_in(identity)
        self.device.close()

    def _sign_in(self, identity: DeviceIdentity) -> None:
        """Keep tokens as signing in would."""
        claims = {"iss": "http://127.0.0.1:1", "sub": "42", "exp": 2_000_000_000}
        tokens = {
            "access": "planted-access-token",
            "refresh": "planted-refresh-token",
            "id_token": jwt.encode(claims, "planted-signing-key" * 2, algorithm="HS256"),
        }
        self.secrets |= {f"sign-in's {name}": token for name, token in tokens.items()}
        grant = Grant(**tokens, expires_at=2_000_000_000, scope="openid", claims=claims)
        kept = Kept("http://127.0.0.1:1", "tcfs-app", "", 1, grant)
        SignIn(self.device.loaded)._write(kept, identity)

    def found_in(self, text: str) -> list[str]:
        return [name for name, secret in self.secrets.items() if secret in text]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    world = World(tmp_path)
    made = Planted(world, tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(protection, "MEMORY_KIB", 64)  # asked for by each command
    monkeypatch.setenv("TCFS_HOME", str(made.home))
    monkeypatch.setenv("TCFS_REMOTE", world.endpoint)
    monkeypatch.setenv("TCFS_SYNC_SYNC_ROOT", str(made.device.tree))
    made.open()
    yield made
    world.close()


def test_no_command_tool_error_or_log_shows_a_secret(
    planted: Planted, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    for words in COMMANDS:
        for more in ((), ("--json", "--verbose")):
            tcfs([*words, *more])
            done = capsys.readouterr()
            shown.append((words, done.out + done.err))
    for name, *arguments in TOOLS:
        filled = [a.format(tree=planted.device.tree) for a in arguments]
        tcfs_mcp(["call", name, *filled])
        done = capsys.readouterr()
        shown.append(((name,), done.out + done.err))
    assert sum(len(text) for _, text in shown) > 10_000, "there was something to look at"
    leaks = [(words, planted.found_in(text)) for words, text in shown if planted.found_in(text)]
    assert leaks == []
    assert planted.found_in(caplog.text) == []
    assert any("CN=anna expires in 10 days" in text for _, text in shown), "both are looked at"
    assert any("nats_credentials_file: anna expires" in text for _, text in shown)
    tcfs(["device", "invite"])
    assert "tcfs-invite-" in capsys.readouterr().out, "what is asked for by name is shown"


def test_the_store_and_the_state_hold_no_secret_in_the_clear(planted: Planted) -> None:
    planted.device.fleet.push([])
    planted.device.close()
    assert (planted.home / "identity" / "sign-in.json").exists()
    private = {"recovery-phrase", "identity.json"}
    for path in [*planted.device.world.store_dir.rglob("*"), *planted.home.rglob("*")]:
        if not path.is_file() or path.name in private:
            continue
        data = path.read_bytes()
        leaks = [
            name
            for name, secret in planted.secrets.items()
            if secret.encode() in data or (_raw(secret) and _raw(secret) in data)
        ]
        assert leaks == [], path
    kept = (next(planted.home.rglob("identity.json"))).read_text()
    assert planted.found_in(kept) == [], "the keys are sealed under the passphrase"


def _raw(secret: str) -> bytes:
    try:
        return bytes.fromhex(secret)
    except ValueError:
        return b""


def test_a_crash_tells_where_and_not_what(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tcfs.sync import fleet

    def crash(self: object) -> None:
        held = dict(planted.secrets)
        raise RuntimeError(f"unforeseen, with {len(held)} values at hand")

    monkeypatch.setattr(fleet.Fleet, "status", crash)
    for words in (["status"], ["status", "--verbose"], ["status", "--json"]):
        with pytest.MonkeyPatch.context():
            assert tcfs(words) != 0
        done = capsys.readouterr()
        assert planted.found_in(done.out + done.err) == []
    tcfs_mcp(["call", "device_status"])
    done = capsys.readouterr()
    assert planted.found_in(done.out + done.err) == []


def test_the_process_list_shows_no_secret(planted: Planted) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc here")
    program = shutil.which("tcfs", path=str(Path(sys.executable).parent))
    assert program is not None
    code = planted.secrets["invite"]
    child = subprocess.Popen(
        [program, "device", "enroll", "--new-identity", "--name", "x", "--invite", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCFS_HOME": str(planted.home.parent / "other")},
    )
    assert child.stdin is not None
    # It is the program once it has begun, and then waits for what it reads.
    end = time.monotonic() + 60
    while b"enroll" not in (listed := Path(f"/proc/{child.pid}/cmdline").read_bytes()):
        assert time.monotonic() < end
    child.stdin.write(code.encode())
    child.stdin.close()
    listed += Path(f"/proc/{child.pid}/cmdline").read_bytes()
    child.wait(60)
    assert b"enroll" in listed
    assert planted.found_in(listed.decode()) == []


def test_signing_in_shows_no_token_however_it_goes(
    planted: Planted,
    oidc: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = "http://127.0.0.1:1/mcp"
    monkeypatch.setenv("TCFS_AUTH_ISSUER", oidc.url)
    monkeypatch.setenv("TCFS_AUTH_SERVERS", server)
    codes = []
    for changes, words, code in (
        ({"secret": "another"}, ["login"], 40),
        ({"secret": "planted-oidc-secret", "tamper": True}, ["login"], 11),
        ({"tamper": False, "person": "denies"}, ["login"], 40),
        ({"person": "agrees"}, ["login"], 0),
        ({}, ["status"], 0),
        ({"down": ["/revoke"]}, ["logout"], 41),
        ({"down": []}, ["logout"], 0),
    ):
        oidc.control(**changes)
        codes.append((tcfs(["auth", *words, "--verbose"]), code))
    assert [found for found, _ in codes] == [wanted for _, wanted in codes]
    books = oidc.control()
    shown = capsys.readouterr()
    assert "WDJB-MJHT" in shown.err, "a person has to see the code"
    given = [value for one in books["given"] for name, value in one.items() if "token" in name]
    sent = [form.get("device_code", "") for _, form in books["forms"]]
    values = {value for value in (*given, *sent) if value and value != "Bearer"}
    assert len(values) >= 8
    text = shown.out + shown.err + caplog.text
    assert [value for value in values if value in text] == []
    assert planted.found_in(text) == []


def test_the_process_list_shows_no_secret_of_a_sign_in(planted: Planted, oidc: Issuer) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc here")
    program = shutil.which("tcfs", path=str(Path(sys.executable).parent))
    assert program is not None
    oidc.control(secret="planted-oidc-secret", polls=["authorization_pending"] * 100)
    with subprocess.Popen(
        [program, "auth", "login"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TCFS_AUTH_ISSUER": oidc.url},
    ) as child:
        assert child.stderr is not None
        said = ""
        while "WDJB-MJHT" not in said:  # from there on it waits
            line = child.stderr.readline()
            assert line, said
            said += line
        listed = Path(f"/proc/{child.pid}/cmdline").read_bytes().decode()
        child.terminate()
        said += child.communicate(timeout=60)[1]
    assert child.returncode == 128 + 15
    assert "login" in listed
    assert planted.found_in(listed + said) == []
