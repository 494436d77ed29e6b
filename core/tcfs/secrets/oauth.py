"""Getting tokens from a provider: by a code typed elsewhere, by a browser here, by refreshing.

The device authorization grant is RFC 8628, the authorization code with PKCE RFC 7636, for native
programs RFC 8252, the check of who answers RFC 9207, revocation RFC 7009. Authlib speaks to the
token endpoint.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tcfs.errors import CancelledError, ConfigError, IntegrityError, ProviderError, SignInError
from tcfs.host.base import Clock, Entropy
from tcfs.secrets.id_token import forged, verified
from tcfs.secrets.oidc import Metadata, Verifier
from tcfs.secrets.redirect import Redirect
from tcfs.secrets.web import TIMEOUT_S, is_safe, trust, unreachable

if TYPE_CHECKING:
    import httpx2

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
LEAST_INTERVAL_S: Final = 1.0
DEFAULT_INTERVAL_S: Final = 5.0
SLOWER_S: Final = 5.0
"""What ``slow_down`` adds to the time between questions (RFC 8628, 3.5)."""
LONGEST_WAIT_S: Final = 1800.0
BROWSER_WAIT_S: Final = 300.0
MOST_FAILURES: Final = 3
_STEP_S: Final = 0.25

Cancel = Callable[[], bool]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Application:
    """What is registered at the provider, and what it asks for.

    Attributes:
        secret: empty for a public application.
        resource: URL of the server that tokens are to be for (RFC 8707); empty for none.
    """

    client_id: str
    scopes: tuple[str, ...] = ("openid",)
    secret: str = field(default="", repr=False)
    resource: str = ""
    ca: Path | None = None

    def __post_init__(self) -> None:
        if not self.client_id:
            raise ConfigError(
                "no application is configured to sign in with",
                remedy="Register one at the provider (at a GitLab: Applications; scopes openid "
                "and profile; redirect URI http://127.0.0.1/callback) and set auth.client_id.",
            )
        if not all(scope and scope.isprintable() and " " not in scope for scope in self.scopes):
            raise ConfigError("auth.scopes holds what is not a word")


@dataclass(frozen=True, slots=True)
class Grant:
    """What the provider gave. ``claims`` are those of the ID token, which was verified.

    Attributes:
        expires_at: unix seconds at which the access token ends; 0 if the provider does not say.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    id_token: str = field(repr=False)
    expires_at: int
    scope: str
    claims: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserCode:
    """What a person is told: go there, and type this. ``complete`` has the code in it."""

    address: str
    code: str
    complete: str
    expires_in: float


def by_device(
    provider: Metadata,
    app: Application,
    tell: Callable[[UserCode], None],
    *,
    clock: Clock,
    cancel: Cancel,
) -> Grant:
    """Let a person agree in a browser anywhere, and wait for it.

    Raises:
        SignInError: it was denied, or not done in time.
        ProviderError: the provider fails, or has no such way.
        IntegrityError: the ID token is not the provider's for this application.
        CancelledError: ``cancel`` said so.
    """
    if not provider.device:
        raise ProviderError(
            "the provider does not tell where signing in with a code begins",
            remedy="Sign in with: tcfs auth login --browser; or set auth.device_endpoint, for a "
            "GitLab to its address and /oauth/authorize_device.",
        )
    with _client(provider, app) as client:
        asked = {"scope": " ".join(app.scopes)}
        given = _posted(client, provider.device, asked | _resource(app))
        device_code, told = _user_code(given)
        began = clock.monotonic()
        tell(told)
        interval = _number(given.get("interval"), DEFAULT_INTERVAL_S)
        interval = max(interval, LEAST_INTERVAL_S)
        failures = 0
        while True:
            _wait(clock, interval, cancel)
            if clock.monotonic() - began >= told.expires_in:
                raise _expired()
            try:
                answer = _token(
                    client,
                    lambda: client.fetch_token(
                        provider.token,
                        grant_type=DEVICE_GRANT,
                        device_code=device_code,
                        **_resource(app),
                    ),
                )
            except _OAuthProblem as problem:
                if problem.code == "slow_down":
                    interval += SLOWER_S
                elif problem.code != "authorization_pending":
                    raise problem.told() from None
                failures = 0
            except ProviderError:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise
                interval *= 2
            else:
                return _grant(provider, app, answer)


def by_browser(
    provider: Metadata,
    app: Application,
    show: Callable[[str], None],
    *,
    entropy: Entropy,
    clock: Clock,
    cancel: Cancel,
    port: int = 0,
) -> Grant:
    """Send a browser on this machine to the provider, and take what it comes back with.

    Args:
        show: opens the address, or tells a person to.
        port: where to wait for the browser; 0 for any.

    Raises:
        SignInError: it was denied, or not done in time.
        ProviderError: the provider fails, or has no such way.
        IntegrityError: another provider answered, or the ID token is not what it must be.
        CancelledError: ``cancel`` said so.
    """
    if not provider.authorization:
        raise ProviderError("the provider does not tell where signing in begins")
    state, nonce, verifier = (_random(entropy) for _ in range(3))
    with Redirect(state, port) as redirect, _client(provider, app) as client:
        client.redirect_uri = redirect.address
        address, _ = client.create_authorization_url(
            provider.authorization,
            state=state,
            nonce=nonce,
            code_verifier=verifier,
            **_resource(app),
        )
        end = clock.monotonic() + BROWSER_WAIT_S
        show(address)
        while (came := redirect.answer(_STEP_S)) is None:
            if cancel():
                raise CancelledError("signing in was stopped", remedy="Run the command again.")
            if clock.monotonic() >= end:
                raise _expired()
        _check_sender(provider, came)
        if "code" not in came:
            raise _OAuthProblem(came.get("error", "")).told()
        try:
            answer = _token(
                client,
                lambda: client.fetch_token(
                    provider.token,
                    grant_type="authorization_code",
                    code=came["code"],
                    code_verifier=verifier,
                    redirect_uri=redirect.address,
                    **_resource(app),
                ),
            )
        except _OAuthProblem as problem:
            raise problem.told() from None
        return _grant(provider, app, answer, nonce)


def refresh(provider: Metadata, app: Application, grant: Grant) -> Grant:
    """New tokens for a refresh token, which may be void afterwards.

    Raises:
        SignInError: the provider does not take it any more.
        ProviderError: the provider fails; whether it took the token is then unknown.
        IntegrityError: the new ID token is not the provider's, or another user's.
    """
    with _client(provider, app) as client:
        try:
            answer = _token(
                client,
                lambda: client.refresh_token(
                    provider.token,
                    refresh_token=grant.refresh,
                    **_resource(app),
                ),
            )
        except _OAuthProblem as problem:
            raise problem.told() from None
    return _grant(provider, app, answer, before=grant)


def revoke(provider: Metadata, app: Application, grant: Grant) -> bool:
    """Make the tokens void at the provider; False if it has no way to.

    Raises:
        ProviderError: the provider fails, or refuses.
    """
    import httpx2

    if not provider.revocation:
        return False
    with _client(provider, app) as client:
        for token, kind in ((grant.refresh, "refresh_token"), (grant.access, "access_token")):
            if not token:
                continue
            try:
                answer = client.revoke_token(provider.revocation, token, kind)
            except httpx2.HTTPError as error:
                raise unreachable(error) from None
            if answer.status_code != 200:
                raise ProviderError(
                    f"the provider did not revoke the token (status {answer.status_code})",
                    remedy="Try again; or take the application's access away at the provider.",
                )
    return True


class _OAuthProblem(Exception):
    """An error that the provider answered with. Only known words of it are ever shown."""

    KNOWN: Final = {
        "access_denied": ("signing in was refused at the provider", None),
        "expired_token": ("the code was not used in time", "Run tcfs auth login again."),
        "invalid_grant": (
            "the provider does not take this any more: the sign-in has ended, or was revoked",
            None,
        ),
        "invalid_client": (
            "the provider does not know this application, or its secret is wrong",
            "Check auth.client_id; if the application has a secret, set auth.confidential and "
            "put the secret where credentials are, as oidc-secret.",
        ),
        "unauthorized_client": (
            "the provider does not let this application sign in this way",
            "Allow it in the application's settings there, or try with (or without) --browser.",
        ),
        "unsupported_grant_type": (
            "the provider does not know this way of signing in",
            "Try with (or without) --browser.",
        ),
        "invalid_scope": (
            "the provider does not give what auth.scopes asks for",
            "Allow these scopes in the application's settings there, or ask for fewer.",
        ),
        "invalid_target": (
            "the provider makes no tokens for auth.audience",
            "Leave auth.audience empty, or have the provider know that server.",
        ),
        "login_required": ("nobody is signed in in that browser", None),
        "consent_required": ("signing in was not agreed to", None),
    }

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def told(self) -> SignInError | ProviderError:
        if self.code in ("server_error", "temporarily_unavailable"):
            return ProviderError("the provider says that it has failed")
        message, remedy = self.KNOWN.get(
            self.code, ("the provider refused, for a reason that is not known here", None)
        )
        return SignInError(message, remedy=remedy)


@contextlib.contextmanager
def _client(provider: Metadata, app: Application) -> Iterator[Any]:
    from authlib.integrations.httpx_client import OAuth2Client

    from tcfs.secrets.bounded import Bounded

    method = "none"
    if app.secret:
        method = "client_secret_post" if provider.secret_in_body else "client_secret_basic"
    client = OAuth2Client(
        client_id=app.client_id,
        client_secret=app.secret or None,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope=" ".join(app.scopes),
        code_challenge_method="S256",
        transport=Bounded(verify=trust(app.ca)),
        timeout=TIMEOUT_S,
        follow_redirects=False,
    )
    with client:
        yield client


def _posted(client: Any, url: str, data: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that a form is answered with."""
    import httpx2

    try:
        auth = client.client_auth(client.token_endpoint_auth_method)
        answer: httpx2.Response = client.post(url, data=dict(data), auth=auth)
    except httpx2.HTTPError as error:
        raise unreachable(error) from None
    found = _object(answer)
    if answer.status_code != 200:
        code = found.get("error")
        if isinstance(code, str) and answer.status_code < 500:
            raise _OAuthProblem(code).told()
        raise ProviderError(f"the identity provider answers with status {answer.status_code}")
    return found


def _object(answer: httpx2.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _token(client: Any, ask: Callable[[], T]) -> T:
    """What the token endpoint gives. Raises _OAuthProblem or ProviderError."""
    import httpx2
    from authlib.integrations.base_client import OAuthError

    client.token = None  # what Authlib keeps of the time before would end up in the answer
    try:
        return ask()
    except OAuthError as error:
        raise _OAuthProblem(str(error.error)) from None
    except httpx2.HTTPStatusError as error:
        raise ProviderError(
            f"the identity provider answers with status {error.response.status_code}"
        ) from None
    except httpx2.HTTPError as error:
        raise unreachable(error) from None
    except ValueError:
        raise ProviderError("the identity provider's answer is not understood") from None


def _user_code(given: Mapping[str, Any]) -> tuple[str, UserCode]:
    code, user, address = (
        given.get(name) for name in ("device_code", "user_code", "verification_uri")
    )
    if not (isinstance(code, str) and isinstance(user, str) and isinstance(address, str)):
        raise ProviderError("the provider's answer lacks a code or an address")
    complete = given.get("verification_uri_complete")
    complete = complete if isinstance(complete, str) and is_safe(complete) else ""
    if not is_safe(address) or len(user) > 64 or not user.isprintable():
        raise ProviderError("the provider sends people to an address that is not https")
    expires_in = min(_number(given.get("expires_in"), LONGEST_WAIT_S), LONGEST_WAIT_S)
    return code, UserCode(address, user, complete, expires_in)


def _grant(
    provider: Metadata,
    app: Application,
    answer: Mapping[str, Any],
    nonce: str = "",
    before: Grant | None = None,
) -> Grant:
    """The provider's answer, with its ID token verified (OpenID Connect Core 3.1.3.7, 12.2)."""
    access, kind = answer.get("access_token"), answer.get("token_type")
    if not isinstance(access, str) or not access or str(kind).lower() != "bearer":
        raise ProviderError("the provider's answer holds no bearer token")
    # A provider that does not rotate refresh tokens answers without one: the old one stays good.
    renewed = answer.get("refresh_token")
    renewed = renewed if isinstance(renewed, str) else (before.refresh if before else "")
    id_token = answer.get("id_token")
    if isinstance(id_token, str):
        verifier = Verifier(provider.issuer, app.client_id, app.ca)
        claims = verified(verifier, id_token, access=access, nonce=nonce)
        if before is not None and claims.get("sub") != before.claims.get("sub"):
            raise forged("it is another user's")
    elif before is not None:
        id_token, claims = before.id_token, before.claims
    else:
        raise ProviderError(
            "the provider gave no ID token", remedy="Let the application use the scope openid."
        )
    seconds = _number(answer.get("expires_in"), 0.0)
    scope = answer.get("scope")
    return Grant(
        access=access,
        refresh=renewed,
        id_token=id_token,
        expires_at=int(time.time() + seconds) if seconds else 0,
        scope=scope if isinstance(scope, str) else " ".join(app.scopes),
        claims=claims,
    )


def _check_sender(provider: Metadata, came: Mapping[str, str]) -> None:
    """Whether the one that was asked is the one that answers (RFC 9207)."""
    if ("iss" in came or provider.names_itself) and came.get("iss") != provider.issuer:
        raise IntegrityError(
            "another provider than the one that was asked sent the browser back",
            remedy="Nothing was sent to it. Sign in again; close other sign-ins in that browser.",
        )


def _expired() -> SignInError:
    return SignInError(
        "nobody signed in before the time was up", remedy="Run tcfs auth login again."
    )


def _wait(clock: Clock, seconds: float, cancel: Cancel) -> None:
    end = clock.monotonic() + seconds
    while (left := end - clock.monotonic()) > 0:
        if cancel():
            raise CancelledError("signing in was stopped", remedy="Run the command again.")
        clock.sleep(min(left, _STEP_S))


def _number(value: object, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return default
    return float(value)


def _random(entropy: Entropy) -> str:
    """43 characters from 32 random bytes, as RFC 7636 wants a verifier."""
    return base64.urlsafe_b64encode(entropy.token(32)).decode().rstrip("=")


def _resource(app: Application) -> dict[str, str]:
    return {"resource": app.resource} if app.resource else {}
