"""Signing in at an OpenID provider as an operation of this device, and the token of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tcfs.device.identity import DeviceIdentity, FileProtection, load_identity
from tcfs.device.protection import Ask, Options, ProtectedFile
from tcfs.device.tokens import WHAT, head_of, open_tokens, seal_tokens
from tcfs.errors import ConfigError, NotFoundError, ProviderError, SignInError, TcfsError
from tcfs.host.system import SystemClock, SystemEntropy, file_lock
from tcfs.ledger.strict import integer, text
from tcfs.model.paths import show
from tcfs.secrets.chain import OIDC_SECRET, SourceState
from tcfs.secrets.oidc import groups_of, username_of
from tcfs.secrets.sources import credential_chain
from tcfs.sync.private_files import read_private, remove_private, write_private

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig
    from tcfs.host.base import Clock
    from tcfs.secrets.oauth import Application, Cancel, Grant, UserCode
    from tcfs.secrets.oidc import Metadata

FILE: Final = "sign-in.json"
LOCK: Final = "sign-in.lock"
LONGEST: Final = 1 << 20
"""Characters of the longest token: an answer of a provider is no longer."""
MOST_SHOWN: Final = 100
"""Groups and scopes that are told of."""
SOON_S: Final = 30
"""A token that ends within this many seconds is renewed before it is used."""

Way = Literal["device", "browser"]


@dataclass(frozen=True, slots=True)
class SignInStatus:
    """Who is signed in. Never a token.

    Attributes:
        expires_at: unix seconds at which the token that servers are shown ends; 0 if unknown.
        renewable: whether it is renewed without a person.
        protection: what guards the tokens: ``device`` with the device's keys, or ``file``.
        messages: what looks wrong, or was done by the way.
    """

    signed_in: bool
    issuer: str = ""
    client_id: str = ""
    subject: str = ""
    username: str = ""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    signed_in_at: int = 0
    expires_at: int = 0
    renewable: bool = False
    protection: str = ""
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedOut:
    """The tokens are gone from this device. ``revoked``: the provider takes them no more."""

    issuer: str
    revoked: bool
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in the file."""

    issuer: str
    client_id: str
    resource: str
    signed_in_at: int
    grant: Grant = field(repr=False)


class SignIn:
    """This device's sign-in. One at a time; processes take turns by a lock.

    Args:
        ask: for the passphrase of this device's keys, if they have one.
    """

    def __init__(
        self, loaded: LoadedConfig, *, ask: Ask | None = None, clock: Clock | None = None
    ) -> None:
        self._loaded = loaded
        self._ask: Ask = ask or (lambda question: "")
        self._clock = clock or SystemClock()
        self._entropy = SystemEntropy()
        self._identity: DeviceIdentity | None = None
        self.path: Path = loaded.identity_dir / FILE

    def login(
        self,
        way: Way,
        *,
        tell: Callable[[UserCode], None] = lambda code: None,
        show_address: Callable[[str], None] = lambda address: None,
        cancel: Cancel = lambda: False,
        port: int = 0,
    ) -> SignInStatus:
        """Sign a person in and keep the tokens; an earlier sign-in stays until they are kept.

        Args:
            way: ``device``, with a code that ``tell`` shows; ``browser``, at an address that
                ``show_address`` opens.

        Raises:
            ConfigError: no provider or application is configured.
            SignInError, ProviderError, IntegrityError, CancelledError: as in ``secrets.oauth``.
        """
        from tcfs.secrets import oauth

        app = self._application()
        provider = self._provider(self._loaded.config.auth.issuer)
        identity = self._keys()  # asked for before a person goes to the browser
        if way == "device":
            grant = oauth.by_device(provider, app, tell, clock=self._clock, cancel=cancel)
        else:
            grant = oauth.by_browser(
                provider,
                app,
                show_address,
                entropy=self._entropy,
                clock=self._clock,
                cancel=cancel,
                port=port,
            )
        kept = Kept(provider.issuer, app.client_id, app.resource, int(time.time()), grant)
        with self._locked():
            before = self._earlier()
            self._write(kept, identity)
            messages = self._revoke_earlier(before, grant)
        return replace(self._status(kept), messages=messages)

    def status(self) -> SignInStatus:
        """Who is signed in, as this device has it: the provider is not asked.

        Raises:
            AccessError, IntegrityError, LocalFileError: the file cannot be opened.
        """
        kept = self._read()
        return SignInStatus(False) if kept is None else self._status(kept)

    def logout(self, *, local: bool = False) -> SignedOut:
        """Have the provider revoke the tokens, then remove them here.

        Args:
            local: only remove them, also where they do not open; they stay good until they end.

        Raises:
            SignInError: nobody is signed in.
            ProviderError: the provider did not revoke them; they are kept, to try again.
        """
        with self._locked():
            if local:
                data = read_private(self.path)
                if data is None:
                    raise _nobody()
                remove_private(self.path)
                return SignedOut(_issuer(data), False)
            kept = self._read()
            if kept is None:
                raise _nobody()
            try:
                revoked = self._revoke(kept)
            except ProviderError as error:
                raise ProviderError(
                    f"{error.message}; the sign-in is kept",
                    remedy="Try again; or remove it here alone, good as it may be elsewhere until "
                    "it ends: tcfs auth logout --local",
                ) from None
            remove_private(self.path)
        messages = () if revoked else ("the provider has no way to revoke tokens",)
        return SignedOut(kept.issuer, revoked, messages)

    def token_for(self, resource: str, issuers: tuple[str, ...]) -> str:
        """The token to show to a server, renewed if it is about to end.

        Args:
            resource: the server's URL, as the user named it and as its metadata say.
            issuers: providers that the server takes tokens of.

        Raises:
            SignInError: nobody is signed in at one of them, or the sign-in has ended.
            ConfigError: this server is not among those that may see the token.
        """
        kept = self._read()
        if kept is None:
            raise _nobody()
        if kept.issuer not in issuers:
            raise SignInError(
                f"the server takes no tokens of {kept.issuer}, where you are signed in",
                remedy="Set auth.issuer to the provider of that server if you trust it, then: "
                "tcfs auth login",
            )
        allowed = resource in self._loaded.config.auth.servers
        if not allowed and resource not in _audience(kept.grant.access):
            # Its token could be used by it at every other server of the same application.
            raise ConfigError(
                f"the server {resource} may not be shown the token of this sign-in",
                remedy="If you trust it, add its URL to auth.servers.",
            )
        token = self._shown(kept, resource)
        if _ends(token, kept) > time.time() + SOON_S:
            return token
        with self._locked():
            kept = self._read()  # another process may have renewed it meanwhile
            if kept is None:
                raise _nobody()
            token = self._shown(kept, resource)
            if _ends(token, kept) <= time.time() + SOON_S:
                kept = self._renew(kept)
                token = self._shown(kept, resource)
        if _ends(token, kept) <= time.time():
            raise SignInError("the provider gave no new token for this sign-in")
        return token

    def _shown(self, kept: Kept, resource: str) -> str:
        """The access token if a server can check it itself, else the ID token (as at a GitLab)."""
        audience = _audience(kept.grant.access)
        wanted = {resource, kept.client_id, kept.resource} - {""}
        return kept.grant.access if audience & wanted else kept.grant.id_token

    def _renew(self, kept: Kept) -> Kept:
        from tcfs.secrets import oauth

        if not kept.grant.refresh:
            raise SignInError("the sign-in has ended, and the provider gave nothing to renew it")
        app = replace(self._application_of(kept), resource=kept.resource)
        identity = self._keys()
        provider = self._provider(kept.issuer)
        # A disk that is full must show before the provider gives the only copy of the new token.
        self._write(kept, identity)
        renewed = replace(kept, grant=oauth.refresh(provider, app, kept.grant))
        self._write(renewed, identity)
        return renewed

    def _revoke(self, kept: Kept) -> bool:
        from tcfs.secrets import oauth

        return oauth.revoke(self._provider(kept.issuer), self._application_of(kept), kept.grant)

    def _earlier(self) -> Kept | None:
        """The sign-in before this one, if it can be read."""
        try:
            return self._read()
        except TcfsError:
            return None

    def _revoke_earlier(self, before: Kept | None, now: Grant) -> tuple[str, ...]:
        """Nobody will use it any more: take it back, where that can be done."""
        if before is None:
            return ()
        old = before.grant  # a provider may give the same token twice
        old = replace(
            old,
            access="" if old.access == now.access else old.access,
            refresh="" if old.refresh == now.refresh else old.refresh,
        )
        try:
            self._revoke(replace(before, grant=old))
        except TcfsError as error:
            return (f"the earlier sign-in at {before.issuer} was not revoked: {error.message}",)
        return ()

    def _provider(self, issuer: str) -> Metadata:
        from tcfs.secrets.oidc import discover

        auth = self._loaded.config.auth
        if not issuer:
            raise ConfigError(
                "no identity provider is configured",
                remedy="Set auth.issuer, such as https://gitlab.example.com, and auth.client_id.",
            )
        provider = discover(issuer, auth.ca_cert_path)
        if not provider.token:
            raise ProviderError("the provider does not tell where tokens are given")
        if not provider.device and issuer == auth.issuer:
            provider = replace(provider, device=auth.device_endpoint)
        return provider

    def _application(self) -> Application:
        from tcfs.secrets.oauth import Application

        auth = self._loaded.config.auth
        secret = ""
        if auth.confidential:
            found = credential_chain(self._loaded.config, aws=False).find(OIDC_SECRET)
            if found is None:
                raise ConfigError(
                    "the application's secret is nowhere",
                    remedy="Put it where credentials are, as oidc-secret, or in TCFS_OIDC_SECRET; "
                    "or set auth.confidential to false if it has none.",
                )
            secret = found.values[OIDC_SECRET]
        resource = auth.audience if auth.audience.startswith(("https://", "http://")) else ""
        scopes = tuple(dict.fromkeys(("openid", *auth.scopes)))
        return Application(auth.client_id, scopes, secret, resource, auth.ca_cert_path)

    def _application_of(self, kept: Kept) -> Application:
        """What signed in; the secret only if it is still the configured one's."""
        from tcfs.secrets.oauth import Application

        auth = self._loaded.config.auth
        if (auth.issuer, auth.client_id) == (kept.issuer, kept.client_id):
            return self._application()
        scopes = tuple(kept.grant.scope.split())
        return Application(kept.client_id, scopes, "", kept.resource, auth.ca_cert_path)

    def _status(self, kept: Kept) -> SignInStatus:
        auth, grant = self._loaded.config.auth, kept.grant
        messages = []
        if (auth.issuer, auth.client_id) != (kept.issuer, kept.client_id):
            messages.append("the settings name another provider or application by now")
        groups, scopes = groups_of(grant.claims), tuple(grant.scope.split())
        if len(groups) > MOST_SHOWN:
            messages.append(f"and {len(groups) - MOST_SHOWN} more groups")
        ends = _ends(self._shown(kept, ""), kept)
        if not grant.refresh and ends <= time.time():
            messages.append("the token has ended and cannot be renewed: sign in again")
        return SignInStatus(
            signed_in=True,
            issuer=kept.issuer,
            client_id=kept.client_id,
            subject=str(grant.claims.get("sub", "")),
            username=username_of(grant.claims),
            groups=groups[:MOST_SHOWN],
            scopes=scopes[:MOST_SHOWN],
            signed_in_at=kept.signed_in_at,
            expires_at=ends,
            renewable=bool(grant.refresh),
            protection="file" if self._identity is None else "device",
            messages=tuple(messages),
        )

    def _keys(self) -> DeviceIdentity | None:
        """This device's keys; None if it has none yet."""
        from tcfs.host.posix import PosixFileSystem

        if self._identity is None:
            path = os.fsencode(self._loaded.identity_dir / "identity.json")
            file = FileProtection(PosixFileSystem(), path, self._entropy)
            guarded = ProtectedFile(file, self._entropy, Options(ask=self._ask))
            try:
                self._identity = load_identity(guarded)
            except NotFoundError:
                if os.path.lexists(path):  # it is the guard's key that is not there
                    raise
        return self._identity

    def _locked(self) -> AbstractContextManager[None]:
        directory = self._loaded.identity_dir
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return file_lock(os.fsencode(directory / LOCK), True)

    def _write(self, kept: Kept, identity: DeviceIdentity | None) -> None:
        grant = kept.grant
        record = {
            "issuer": kept.issuer,
            "client_id": kept.client_id,
            "resource": kept.resource,
            "signed_in_at": kept.signed_in_at,
            "access": grant.access,
            "refresh": grant.refresh,
            "id_token": grant.id_token,
            "expires_at": grant.expires_at,
            "scope": grant.scope,
        }
        write_private(self.path, seal_tokens(record, identity, self._entropy))

    def _read(self) -> Kept | None:
        data = read_private(self.path)
        if data is None:
            return None
        sealed = "device" in head_of(data)
        return kept_of(open_tokens(data, self._keys() if sealed else None))


def kept_of(found: Mapping[str, Any]) -> Kept:
    """What a file of a sign-in says. Raises IntegrityError."""
    from tcfs.secrets.oauth import Grant

    def words(name: str) -> str:
        return text(found.get(name), f"{WHAT}: its {name}", LONGEST)

    def seconds(name: str) -> int:
        return integer(found.get(name), 0, 1 << 53, f"{WHAT}: its {name}")

    id_token = words("id_token")
    grant = Grant(
        access=words("access"),
        refresh=words("refresh"),
        id_token=id_token,
        expires_at=seconds("expires_at"),
        scope=words("scope"),
        claims=_claims(id_token),
    )
    return Kept(
        words("issuer"), words("client_id"), words("resource"), seconds("signed_in_at"), grant
    )


def sign_in_state(loaded: LoadedConfig) -> SourceState | None:
    """What may be told of the sign-in without opening it; None where there is nothing of it."""
    path = loaded.identity_dir / FILE
    if not path.exists():
        if not loaded.config.auth.issuer:
            return None
        return SourceState("sign-in", False, "nobody is signed in: tcfs auth login")
    shown = show(os.fsencode(path))
    try:
        data = read_private(path)
        head = head_of(data or b"")
    except TcfsError as error:
        return SourceState("sign-in", True, error.message)
    guard = "sealed by this device's keys" if "device" in head else "mode 0600"
    return SourceState("sign-in", True, f"{shown}, {guard}, at {show(head['issuer'].encode())}")


def _nobody() -> SignInError:
    return SignInError("nobody is signed in at an identity provider")


def _issuer(data: bytes) -> str:
    try:
        return str(head_of(data)["issuer"])
    except TcfsError:
        return ""


def _claims(token: str) -> Mapping[str, Any]:
    """The claims of a token of our own, which was verified when it came; none of an opaque one."""
    import jwt

    try:
        return dict(jwt.decode(token, options={"verify_signature": False}))
    except (jwt.PyJWTError, RecursionError):
        return {}


def _audience(token: str) -> set[str]:
    """Whom an access token is for; empty if only its provider can read it."""
    found = _claims(token).get("aud")
    found = found if isinstance(found, list) else [found]
    return {one for one in found if isinstance(one, str)}


def _ends(token: str, kept: Kept) -> int:
    """Unix seconds at which the token ends."""
    found = _claims(token).get("exp")
    if isinstance(found, int | float) and 0 <= found < 1 << 53:
        return int(found)
    return kept.grant.expires_at
