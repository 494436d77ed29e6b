"""``tcfs init``: a new repository, its recovery phrase, and recovery from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, protects
from tcfs.errors import EXIT_OK, NotFoundError, RepositoryError, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.sync import results as r


def add(subparsers: Subparsers) -> None:
    """Describe the command."""
    init = command(
        subparsers,
        "init",
        "set up a new repository with this device as its first",
        _init,
        more="Shows the recovery phrase once. Whoever has the phrase can restore everything, "
        "and nobody can without it.",
    )
    init.add_argument("--name", default="", metavar="N", help="this device's name")
    init.add_argument(
        "--no-encryption", action="store_true", help="leave content readable to the store"
    )
    protects(init)
    phrase = init.add_mutually_exclusive_group()
    phrase.add_argument(
        "--show-phrase",
        action="store_true",
        help="show the recovery phrase, again while it is not confirmed, even if piped",
    )
    phrase.add_argument(
        "--recover",
        action="store_true",
        help="restore access with the phrase, typed at the terminal or piped to standard input",
    )


def _init(ctx: Context) -> int:
    args = ctx.args
    if args.recover:
        return _recover(ctx)
    if args.show_phrase and not args.name and not args.no_encryption and _show_again(ctx):
        return EXIT_OK
    from tcfs.cli.engine import engine

    # Without the option, crypto.enabled decides.
    encryption = False if args.no_encryption else None
    result = engine().init_fleet(
        ctx.loaded(), name=args.name, encryption=encryption, keys=ctx.keys()
    )
    _show_result(ctx, result)
    if not result.phrase:
        return EXIT_OK
    if ctx.person:
        _show_and_confirm(ctx, result.phrase)
    elif args.show_phrase:
        _print_phrase(ctx, result.phrase)
    else:
        ctx.terminal.err(
            "The recovery phrase is not shown here, where it might end up in a log. "
            "See and confirm it at a terminal with: tcfs init --show-phrase"
        )
    return EXIT_OK


def _recover(ctx: Context) -> int:
    from tcfs.cli.engine import engine

    if ctx.args.no_encryption:
        raise UsageError("--recover and --no-encryption exclude each other")
    loaded = ctx.loaded()
    phrase = " ".join(ctx.terminal.secret("Recovery phrase (24 words, not shown): ").split())
    if not phrase:
        raise UsageError(
            "no recovery phrase was given",
            remedy="Type it at the prompt, or pipe it: tcfs init --recover < FILE",
        )
    result = engine().recover_fleet(
        loaded, phrase=phrase.lower(), name=ctx.args.name, keys=ctx.keys()
    )
    _show_result(ctx, result)
    return EXIT_OK


def _show_result(ctx: Context, result: r.InitResult) -> None:
    """What was made. The phrase goes into JSON only where it was asked for by name."""
    from msgspec.structs import replace

    asked = ctx.args.show_phrase and not ctx.person
    shown = result if asked else replace(result, phrase="")
    ctx.result(shown, lambda: show_joined(ctx, result))


def show_joined(ctx: Context, result: r.InitResult) -> None:
    """A new member of a repository, for people."""
    from tcfs.cli.text import fields

    fields(
        ctx.terminal,
        [
            ("device", f"{result.device_name} ({result.device_id})"),
            ("storage", result.endpoint),
            ("repository", result.repo),
        ],
    )
    for message in result.messages:
        ctx.terminal.note(message)


def _print_phrase(ctx: Context, phrase: str) -> None:
    if not ctx.json:  # there it is part of the result
        ctx.terminal.out(phrase)


def _show_again(ctx: Context) -> bool:
    """Show the phrase of the repository that is there. False if there is none yet."""
    try:
        with ctx.fleet() as fleet:
            if not fleet.phrase_pending():
                raise NotFoundError(
                    "the recovery phrase was confirmed, and is no longer kept on this device",
                    remedy="Use the copy that was written down then.",
                )
            phrase = fleet.pending_phrase()
    except RepositoryError:
        return False
    if ctx.person:
        _show_and_confirm(ctx, phrase)
    else:
        ctx.result({"phrase": phrase}, lambda: _print_phrase(ctx, phrase))
    return True


def _show_and_confirm(ctx: Context, phrase: str) -> None:
    from tcfs.cli.phrase import show_and_confirm

    if show_and_confirm(ctx.terminal, phrase):
        with ctx.fleet() as fleet:
            fleet.confirm_phrase(phrase)
        ctx.terminal.err("Confirmed. This device does not keep the phrase.")
    else:
        ctx.terminal.err(
            "Not confirmed. Every status will remind you; see it again with: "
            "tcfs init --show-phrase"
        )
