"""Signing in, against a provider that is a process of its own."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tcfs.errors import (
    CancelledError,
    ConfigError,
    IntegrityError,
    LocalFileError,
    ProviderError,
    SignInError,
)
from tcfs.secrets import bounded
from tcfs.secrets.redirect import Redirect
from tcfs.sync.signin import SignIn
from tests.certificates import Authority
from tests.oidc import provider
from tests.oidc.kit import Person, browse, loaded
from tests.oidc.provider import Issuer


def test_a_code_typed_elsewhere_signs_in(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    found = anna.by_device()
    assert (found.subject, found.username, found.groups) == ("42", "anna", ("org/team",))
    assert found.scopes == ("openid", "profile")
    assert found.issuer == oidc.url
    (told,) = anna.told
    assert (told.code, told.address) == ("WDJB-MJHT", f"{oidc.url}/type")
    assert [path for path, _ in oidc.control()["forms"]] == ["/device", "/token"]


def test_the_provider_is_asked_as_seldom_as_it_wants(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(interval=4, polls=["authorization_pending", "slow_down", "authorization_pending"])
    anna = Person(oidc, tmp_path)
    anna.by_device()
    assert anna.clock.passed == pytest.approx(4 + 4 + 9 + 9)


def test_a_provider_that_fails_for_a_moment_is_asked_again_later(
    oidc: Issuer, tmp_path: Path
) -> None:
    oidc.control(polls=[503, 503])
    anna = Person(oidc, tmp_path)
    anna.by_device()
    assert anna.clock.passed == pytest.approx(1 + 2 + 4)
    oidc.control(polls=[503, 503, 503])
    with pytest.raises(ProviderError, match="503"):
        Person(oidc, tmp_path).by_device()


@pytest.mark.parametrize("way", ["by_device", "by_browser"])
def test_a_person_who_says_no_is_told_from_one_who_does_nothing(
    oidc: Issuer, tmp_path: Path, way: str
) -> None:
    oidc.control(person="denies")
    with pytest.raises(SignInError, match="refused") as caught:
        getattr(Person(oidc, tmp_path), way)()
    assert caught.value.exit_code == 40
    assert "planted-description" not in str(caught.value.to_json())


def test_a_code_that_nobody_used_ends(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(expires_in=20, polls=["authorization_pending"] * 50)
    anna = Person(oidc, tmp_path)
    with pytest.raises(SignInError, match="before the time was up") as caught:
        anna.by_device()
    assert "auth login" in caught.value.remedy
    assert anna.clock.passed == pytest.approx(20)
    oidc.control(expires_in=600, polls=["expired_token"])
    with pytest.raises(SignInError, match="not used in time"):
        Person(oidc, tmp_path).by_device()


def test_a_browser_here_signs_in_with_pkce_state_and_nonce(oidc: Issuer, tmp_path: Path) -> None:
    anna = Person(oidc, tmp_path)
    assert anna.by_browser().username == "anna"
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(anna.addresses[0]).query))
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"].startswith("http://127.0.0.1:")
    path, form = oidc.control()["forms"][-1]
    assert path == "/token"
    assert 43 <= len(form["code_verifier"]) <= 128
    drawn = {asked["state"], asked["nonce"], asked["code_challenge"], form["code_verifier"]}
    assert len(drawn) == 4
    again = Person(oidc, tmp_path)
    again.by_browser()
    asked_again = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(again.addresses[0]).query))
    assert drawn.isdisjoint(asked_again.values())


FORGED: dict[str, dict[str, Any]] = {
    "InvalidSignatureError": {"tamper": True},
    "InvalidIssuerError": {"claims": {"iss": "https://gitlab.example.com"}},
    "InvalidAudienceError": {"claims": {"aud": "other-app"}},
    "ExpiredSignatureError": {"claims": {"exp": 1}},
    "MissingRequiredClaimError": {"claims": {"sub": None}},
    "does not say who asked": {"claims": {"aud": ["tcfs-app", "other-app"]}},
    "another application": {"claims": {"azp": "other-app"}},
    "at_hash": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
    "when it was made": {"claims": {"iat": None}},
}


@pytest.mark.parametrize("why", FORGED)
def test_an_id_token_that_is_not_what_it_must_be_is_refused(
    oidc: Issuer, tmp_path: Path, why: str
) -> None:
    oidc.control(**FORGED[why])
    anna = Person(oidc, tmp_path)
    with pytest.raises(IntegrityError, match=why) as caught:
        anna.by_device()
    assert "Nothing was kept" in caught.value.remedy
    assert not anna.sign_in.path.exists()


@pytest.mark.parametrize("nonce", ["another", None])
def test_an_id_token_of_another_sign_in_is_refused(
    oidc: Issuer, tmp_path: Path, nonce: str | None
) -> None:
    oidc.control(claims={"nonce": nonce})
    with pytest.raises(IntegrityError, match="nonce"):
        Person(oidc, tmp_path).by_browser()


@pytest.mark.parametrize("iss", ["https://gitlab.example.com", None])
def test_an_answer_of_another_provider_is_refused_before_the_code_is_used(
    oidc: Issuer, tmp_path: Path, iss: str | None
) -> None:
    oidc.control(authorization={"iss": iss})
    with pytest.raises(IntegrityError, match="another provider"):
        Person(oidc, tmp_path).by_browser()
    assert "/token" not in oidc.control()["seen"]


def test_a_code_that_was_caught_is_of_no_use_without_the_verifier(
    oidc: Issuer, tmp_path: Path
) -> None:
    oidc.control(authorization={"code": "caught-elsewhere"})
    with pytest.raises(SignInError, match="does not take this"):
        Person(oidc, tmp_path).by_browser()


def test_an_application_with_a_secret_shows_it_to_the_provider_alone(
    oidc: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oidc.control(secret="s3cret")
    with pytest.raises(SignInError, match="does not know this application") as caught:
        Person(oidc, tmp_path).by_device()
    assert "auth.confidential" in caught.value.remedy
    with pytest.raises(ConfigError, match="secret is nowhere"):
        Person(oidc, tmp_path, TCFS_AUTH_CONFIDENTIAL="true").by_device()
    monkeypatch.setenv("TCFS_OIDC_SECRET", "s3cret")
    for methods in (None, ["client_secret_post"]):
        oidc.control(metadata={"token_endpoint_auth_methods_supported": methods})
        anna = Person(oidc, tmp_path, TCFS_AUTH_CONFIDENTIAL="true")
        assert anna.by_device().signed_in
        form = oidc.control()["forms"][-1][1]
        assert ("client_secret" in form) == (methods is not None)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"down": ["/.well-known/openid-configuration"]}, ProviderError, "503"),
        ({"down": ["/device"]}, ProviderError, "503"),
        ({"down": ["/keys"]}, ProviderError, "503"),
        ({"metadata": {"issuer": "https://gitlab.example"}}, IntegrityError, "another issuer"),
        ({"metadata": {"token_endpoint": None}}, ProviderError, "where tokens are given"),
        ({"metadata": {"token_endpoint": "http://gitlab.example/t"}}, ProviderError, "not https"),
        ({"metadata": {"jwks_uri": "file:///etc/passwd"}}, ProviderError, "not https"),
        ({"metadata": {"device_authorization_endpoint": None}}, ProviderError, "with a code"),
        ({"id_token": False}, ProviderError, "no ID token"),
    ],
)
def test_a_provider_that_is_down_or_wrong_is_named_as_that(
    oidc: Issuer, tmp_path: Path, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    oidc.control(**changes)
    with pytest.raises(error, match=says):
        Person(oidc, tmp_path).by_device()


def test_nobody_at_the_address_is_a_clear_error(tmp_path: Path, oidc: Issuer) -> None:
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        Person(Issuer("http://127.0.0.1:1", oidc.key), tmp_path).by_device()
    assert caught.value.retryable
    with pytest.raises(ConfigError, match="https"):
        loaded(Issuer("http://gitlab.example", oidc.key), tmp_path)
    with pytest.raises(ConfigError, match="no identity provider"):
        Person(oidc, tmp_path, TCFS_AUTH_ISSUER="").by_device()
    with pytest.raises(ConfigError, match="not a word"):
        Person(oidc, tmp_path, TCFS_AUTH_SCOPES='["a b"]').by_device()
    with pytest.raises(ConfigError, match="no application"):
        Person(oidc, tmp_path, TCFS_AUTH_CLIENT_ID="").by_device()
    bundle = tmp_path / "no-bundle"
    with pytest.raises(ConfigError, match=r"auth\.ca_cert_path: .*no-bundle"):
        Person(oidc, tmp_path, TCFS_AUTH_CA_CERT_PATH=str(bundle)).by_device()


def test_a_provider_with_an_authority_of_its_own_is_trusted_if_that_is_named(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.file)
    with provider.running(authority.pair("gitlab"), trust) as oidc:
        with pytest.raises(ProviderError, match="no authority that is trusted") as caught:
            Person(oidc, tmp_path).by_device()
        assert "auth.ca_cert_path" in caught.value.remedy
        named = {"TCFS_AUTH_CA_CERT_PATH": str(authority.file)}
        assert Person(oidc, tmp_path, **named).by_device().signed_in
    with (
        provider.running(authority.pair("other", hosts=["gitlab.example"]), trust) as oidc,
        pytest.raises(ProviderError, match="another host"),
    ):
        Person(oidc, tmp_path, **named).by_device()


def test_a_provider_that_does_not_name_its_device_door_is_told_it(
    oidc: Issuer, tmp_path: Path
) -> None:
    oidc.control(metadata={"device_authorization_endpoint": None})
    anna = Person(oidc, tmp_path, TCFS_AUTH_DEVICE_ENDPOINT=f"{oidc.url}/device")
    assert anna.by_device().signed_in


def test_an_answer_without_end_is_cut_off(
    oidc: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "LONGEST", 50)
    with pytest.raises(ProviderError):
        Person(oidc, tmp_path).by_device()


def test_waiting_can_be_stopped(oidc: Issuer, tmp_path: Path) -> None:
    oidc.control(polls=["authorization_pending"] * 3)
    sign_in = Person(oidc, tmp_path).sign_in
    with pytest.raises(CancelledError):
        sign_in.login("device", cancel=lambda: True)
    with pytest.raises(CancelledError):
        sign_in.login("browser", cancel=lambda: True)


def test_a_token_is_for_the_server_that_is_named(oidc: Issuer, tmp_path: Path) -> None:
    Person(oidc, tmp_path, TCFS_AUTH_AUDIENCE="https://tcfs.example/mcp").by_device()
    for _, form in oidc.control()["forms"]:
        assert form["resource"] == "https://tcfs.example/mcp"


def test_whatever_else_comes_to_the_redirect_address_is_turned_away() -> None:
    with Redirect("right") as redirect:
        base = redirect.address.removesuffix("/callback")
        for query in (
            "/callback?code=x",
            "/callback?code=x&state=wrong",
            "/callback?code=x&state=right&state=right",
            "/other?code=x&state=right",
            "/favicon.ico",
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                browse(base + query)
            assert caught.value.code == 400
            caught.value.close()
        assert redirect.answer(0.0) is None
        assert browse(f"{redirect.address}?code=x&state=right") == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            browse(f"{redirect.address}?code=y&state=right")
        caught.value.close()
        assert redirect.answer(1.0) == {"code": "x", "state": "right"}
        port = int(base.rpartition(":")[2])
        with pytest.raises(LocalFileError, match="port"), Redirect("other", port):
            pass


def test_a_sign_in_waits_for_the_browser_no_longer_than_it_must(
    oidc: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcfs.secrets.oauth.BROWSER_WAIT_S", 0.0)
    began = time.monotonic()
    with pytest.raises(SignInError, match="before the time was up"):
        SignIn(loaded(oidc, tmp_path)).login("browser")
    assert time.monotonic() - began < 30
