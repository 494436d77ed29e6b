"""``tcfs auth``: signing in at an OpenID provider, such as a GitLab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, count, group
from tcfs.cli.terminal import bold, dim, green, yellow
from tcfs.errors import EXIT_OK, SignInError, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.secrets.oauth import UserCode
    from tcfs.sync.signin import SignIn, SignInStatus


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    auth = group(subparsers, "auth", "sign in at an OpenID provider, such as a GitLab")
    login = command(
        auth,
        "login",
        "sign in",
        _login,
        more="A code is shown, to be typed in a browser on any device. The provider and the "
        "application are set by auth.issuer and auth.client_id.",
        actor=False,
    )
    login.add_argument(
        "--browser", action="store_true", help="sign in with a browser on this machine instead"
    )
    login.add_argument(
        "--port",
        metavar="N",
        type=count,
        help="with --browser: where it comes back to (default: any; most providers take any)",
    )
    command(
        auth,
        "status",
        "tell who is signed in, until when, and with which scopes and groups",
        _status,
        more="Nobody being signed in is exit code 40. Tokens are never shown.",
        actor=False,
    )
    logout = command(
        auth,
        "logout",
        "have the provider revoke the tokens, then remove them",
        _logout,
        actor=False,
    )
    logout.add_argument(
        "--local", action="store_true", help="only remove them here, without asking the provider"
    )


def _sign_in(ctx: Context) -> SignIn:
    from tcfs.sync.signin import SignIn

    return SignIn(ctx.loaded(), ask=ctx.ask_secret)


def _login(ctx: Context) -> int:
    if ctx.args.port is not None and not (ctx.args.browser and 0 < ctx.args.port < 65536):
        raise UsageError("--port takes a port, and needs --browser")
    with ctx.cancel.installed():
        found = _sign_in(ctx).login(
            "browser" if ctx.args.browser else "device",
            tell=lambda code: _tell(ctx, code),
            show_address=lambda address: _open(ctx, address),
            cancel=ctx.cancel,
            port=ctx.args.port or 0,
        )
    ctx.result(found, lambda: _show(ctx, found))
    return EXIT_OK


def _tell(ctx: Context, code: UserCode) -> None:
    # Not a note: without it nothing can go on, with --quiet too.
    ctx.terminal.err("open ", bold(code.address), " in a browser, and enter ", bold(code.code))
    if code.complete:
        ctx.terminal.err(dim(f"or open {code.complete} and compare the code"))
    ctx.terminal.note("waiting for that; Ctrl-C stops")


def _open(ctx: Context, address: str) -> None:
    import webbrowser

    ctx.terminal.err("sign in at: ", address)
    if not webbrowser.open(address):
        ctx.terminal.note("no browser was found: open that address in one on this machine")


def _status(ctx: Context) -> int:
    found = _sign_in(ctx).status()
    ctx.result(found, lambda: _show(ctx, found))
    return EXIT_OK if found.signed_in else SignInError.exit_code


def _show(ctx: Context, found: SignInStatus) -> None:
    from tcfs.cli.text import fields, when

    if not found.signed_in:
        ctx.terminal.out("nobody is signed in; sign in with: tcfs auth login")
        return
    name = f"{found.username} ({found.subject})" if found.username else found.subject
    ends = when(found.expires_at) if found.expires_at else "unknown"
    fields(
        ctx.terminal,
        [
            ("signed in as", green(name)),
            ("at", found.issuer),
            ("application", found.client_id),
            ("scopes", " ".join(found.scopes) or "-"),
            ("groups", ", ".join(found.groups) or "-"),
            ("token ends", ends + (", renewed as needed" if found.renewable else "")),
            (
                "guarded by",
                "this device's keys" if found.protection == "device" else "the file's mode alone",
            ),
        ],
    )
    for message in found.messages:
        ctx.terminal.warn(message)


def _logout(ctx: Context) -> int:
    found = _sign_in(ctx).logout(local=ctx.args.local)

    def show() -> None:
        where = f" at {found.issuer}" if found.issuer else ""
        if found.revoked:
            ctx.terminal.out(green("signed out"), where, ": the tokens are revoked and removed")
        else:
            ctx.terminal.out(yellow("removed here"), ": tokens", where, " were not revoked")
        for message in found.messages:
            ctx.terminal.note(message)

    ctx.result(found, show)
    return EXIT_OK
