"""What is kept of a sign-in: where, how guarded, how renewed, how ended."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest

from tcfs.device import protection
from tcfs.errors import (
    AccessError,
    ConfigError,
    IntegrityError,
    LocalFileError,
    ProviderError,
    SignInError,
)
from tcfs.host.system import system_host
from tcfs.sync import session, signin
from tcfs.sync.credentials import list_credentials
from tcfs.sync.signin import SignIn, sign_in_state
from tests.oidc.kit import Person, loaded, settings
from tests.oidc.provider import Issuer

SERVER = "https://tcfs.example/mcp"
MAY = {"TCFS_AUTH_SERVERS": SERVER}


def secrets_of(oidc: Issuer) -> list[str]:
    found = []
    for given in oidc.control()["given"]:
        found += [given[name] for name in ("access_token", "refresh_token", "id_token")]
    return found


def test_tokens_lie_in_a_private_file_where_there_are_no_keys_yet(
    oidc: Issuer, tmp_path: Path
) -> None:
    anna = Person(oidc, tmp_path)
    assert anna.by_device().protection == "file"
    assert stat.S_IMODE(anna.sign_in.path.stat().st_mode) == 0o600
    again = SignIn(loaded(oidc, tmp_path))
    assert again.status().subject == "42"
    session.init_fleet(loaded(oidc, tmp_path), name="anna")
    assert again.status().protection == "file", "until something is written anew"
    assert anna.by_device().protection == "device"
    os.chmod(again.path, 0o644)
    with pytest.raises(AccessError, match="others"):
        again.status()


def test_tokens_are_guarded_as_the_device_s_keys_are(
    oidc: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protection, "MEMORY_KIB", 64)
    anna = Person(oidc, tmp_path)
    device = loaded(oidc, tmp_path)
    words = iter(["pass", "pass"])
    session.init_fleet(
        device,
        name="anna",
        keys=session.KeyCare(kind="passphrase", ask=lambda question: next(words)),
    )
    with pytest.raises(AccessError, match="nobody to ask"):
        anna.by_device()
    assert "/device" not in oidc.control()["seen"], "not after a person went to the browser"
    anna.sign_in = SignIn(device, clock=anna.clock, ask=lambda question: "pass")
    assert anna.by_device().protection == "device"
    data = anna.sign_in.path.read_text()
    assert not any(secret in data for secret in secrets_of(oidc))
    assert SignIn(device, ask=lambda question: "pass").status().username == "anna"
    with pytest.raises(AccessError):
        SignIn(device, ask=lambda question: "wrong").status()
    state = sign_in_state(device)
    assert state is not None
    assert "sealed by this device's keys" in state.detail

    # Another guard of the keys is another guard of the tokens.
    host = system_host()
    care = session.KeyCare(ask=lambda question: "pass")
    session._protection(device, host, care).change("file")
    assert SignIn(device).status().username == "anna"


def test_a_damaged_file_and_one_of_another_identity_are_named(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    session.init_fleet(loaded(oidc, tmp_path), name="anna")
    anna.by_device()
    path, good = anna.sign_in.path, anna.sign_in.path.read_bytes()
    found = json.loads(good)
    for name in found:
        changed = dict(found)
        value = str(found[name])
        changed[name] = value[:-1] + ("0" if value[-1] != "0" else "1")
        path.write_bytes(json.dumps(changed).encode())
        with pytest.raises((IntegrityError, AccessError)):
            SignIn(loaded(oidc, tmp_path)).status()
    path.write_bytes(good)
    (path.parent / "identity.json").unlink()
    with pytest.raises(AccessError, match="another identity"):
        SignIn(loaded(oidc, tmp_path)).status()
    assert not SignIn(loaded(oidc, tmp_path)).logout(local=True).revoked
    assert not path.exists()


def test_a_token_is_renewed_before_it_ends_and_the_old_one_is_not_used_again(
    oidc: Issuer, tmp_path: Path
) -> None:
    oidc.control(lifetime=20)
    anna = Person(oidc, tmp_path, **MAY)
    anna.by_device()
    tokens = []
    for _ in range(3):
        oidc.control(lifetime=20)
        tokens.append(anna.sign_in.token_for(SERVER, (oidc.url,)))
    books = oidc.control()
    assert len(set(tokens)) == len(tokens)
    assert [given["id_token"] for given in books["given"][1:]] == tokens
    used = [form["refresh_token"] for _, form in books["forms"] if "refresh_token" in form]
    assert len(used) == len(set(used)) == 3
    oidc.control(lifetime=300)
    kept = anna.sign_in.token_for(SERVER, (oidc.url,))
    assert anna.sign_in.token_for(SERVER, (oidc.url,)) == kept, "good for a while"


def test_a_provider_that_does_not_rotate_is_fine(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(lifetime=20, rotate=False)
    anna = Person(oidc, tmp_path, **MAY)
    anna.by_device()
    assert anna.sign_in.token_for(SERVER, (oidc.url,))
    assert anna.sign_in.token_for(SERVER, (oidc.url,))


RENEW = """
import sys
from tcfs.config import load_config
from tcfs.sync.signin import SignIn
sys.stdin.readline()
print(SignIn(load_config()).token_for(sys.argv[1], (sys.argv[2],)))
"""


def test_of_two_processes_one_renews_and_the_other_takes_that(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(lifetime=20)
    Person(oidc, tmp_path).by_device()
    oidc.control(lifetime=300)
    environ = {**os.environ, **settings(oidc, tmp_path, **MAY)}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RENEW, SERVER, oidc.url],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    shown = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(shown) == 1
    assert len([1 for _, form in oidc.control()["forms"] if "refresh_token" in form]) == 1


def test_a_disk_that_is_full_shows_before_the_refresh_token_is_spent(
    oidc: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oidc.control(lifetime=20)
    anna = Person(oidc, tmp_path, **MAY)
    anna.by_device()

    def full(path: Path, data: bytes) -> None:
        raise LocalFileError("no space left")

    monkeypatch.setattr(signin, "write_private", full)
    with pytest.raises(LocalFileError):
        anna.sign_in.token_for(SERVER, (oidc.url,))
    monkeypatch.undo()
    assert anna.sign_in.token_for(SERVER, (oidc.url,))


def test_a_sign_in_that_the_provider_ended_says_so(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(lifetime=20)
    anna = Person(oidc, tmp_path, **MAY)
    anna.by_device()
    oidc.control(refresh={}, down=["/token"])
    with pytest.raises(ProviderError):
        anna.sign_in.token_for(SERVER, (oidc.url,))
    oidc.control(down=[], claims={"sub": "43"})
    with pytest.raises(IntegrityError, match="another user"):
        anna.sign_in.token_for(SERVER, (oidc.url,))
    # That spent the refresh token: the provider now takes it for a copy.
    with pytest.raises(SignInError, match="has ended") as caught:
        anna.sign_in.token_for(SERVER, (oidc.url,))
    assert "tcfs auth login" in caught.value.remedy


def test_no_stranger_is_shown_a_token(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    with pytest.raises(SignInError, match="nobody"):
        anna.sign_in.token_for(SERVER, (oidc.url,))
    anna.by_device()
    with pytest.raises(ConfigError, match="may not be shown") as caught:
        anna.sign_in.token_for(SERVER, (oidc.url,))
    assert "auth.servers" in caught.value.remedy
    with pytest.raises(SignInError, match="takes no tokens"):
        anna.sign_in.token_for(SERVER, ("https://gitlab.example",))


def test_a_token_made_for_one_server_is_shown_to_that_one(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(access_audience=SERVER)
    anna = Person(oidc, tmp_path, TCFS_AUTH_AUDIENCE=SERVER)
    anna.by_device()
    given = oidc.control()["given"][-1]
    assert anna.sign_in.token_for(SERVER, (oidc.url,)) == given["access_token"]
    with pytest.raises(ConfigError):
        anna.sign_in.token_for("https://evil.example/mcp", (oidc.url,))


def test_signing_out_revokes_and_removes(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    with pytest.raises(SignInError):
        anna.sign_in.logout()
    anna.by_device()
    given = oidc.control(down=["/revoke"])["given"][-1]
    with pytest.raises(ProviderError, match="is kept") as caught:
        anna.sign_in.logout()
    assert "--local" in caught.value.remedy
    assert anna.sign_in.status().signed_in
    oidc.control(down=[])
    assert anna.sign_in.logout().revoked
    assert oidc.control()["revoked"] == [given["refresh_token"], given["access_token"]]
    assert not anna.sign_in.path.exists()
    assert not anna.sign_in.status().signed_in
    oidc.control(metadata={"revocation_endpoint": None})
    anna.by_device()
    done = anna.sign_in.logout()
    assert not done.revoked
    assert done.messages


def test_signing_in_again_revokes_what_was_before(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    anna.by_device()
    first = oidc.control()["given"][0]
    assert anna.by_device().messages == ()
    assert oidc.control()["revoked"] == [first["refresh_token"], first["access_token"]]
    oidc.control(down=["/revoke"])
    (message,) = anna.by_device().messages
    assert "was not revoked" in message


def test_a_sign_in_that_nothing_can_renew_says_that_it_has_ended(
    oidc: Issuer, tmp_path: Path
) -> None:
    oidc.control(lifetime=20)
    anna = Person(oidc, tmp_path, **MAY)
    anna.by_device()
    data = json.loads(anna.sign_in.path.read_bytes())
    claims = jwt.decode(data["id_token"], options={"verify_signature": False})
    ended = jwt.encode(claims | {"exp": 5}, "k" * 32)
    anna.sign_in.path.write_text(json.dumps(data | {"refresh": "", "id_token": ended}))
    (message,) = anna.sign_in.status().messages
    assert "sign in again" in message
    with pytest.raises(SignInError, match="nothing to renew"):
        anna.sign_in.token_for(SERVER, (oidc.url,))
    anna.sign_in.path.write_text(json.dumps(data | {"expires_at": "soon"}))
    with pytest.raises(IntegrityError, match="expires_at"):
        anna.sign_in.status()


def test_other_settings_than_those_of_the_sign_in_are_told(oidc: Issuer, tmp_path: Path) -> None:
    Person(oidc, tmp_path).by_device()
    (message,) = SignIn(loaded(oidc, tmp_path, TCFS_AUTH_CLIENT_ID="b")).status().messages
    assert "another provider or application" in message


def test_the_list_of_credentials_names_the_sign_in_without_a_value(
    oidc: Issuer, tmp_path: Path
) -> None:
    def shown(**more: str) -> Any:
        return [
            source
            for source in list_credentials(loaded(oidc, tmp_path, **more)).sources
            if source.name == "sign-in"
        ]

    assert shown(TCFS_AUTH_ISSUER="") == []
    assert [source.present for source in shown()] == [False]
    Person(oidc, tmp_path).by_device()
    (found,) = shown()
    assert found.present
    assert oidc.url in found.detail
    assert not any(secret in found.detail for secret in secrets_of(oidc))
