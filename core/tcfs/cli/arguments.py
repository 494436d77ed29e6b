"""The grammar of the command line.

Options that every command knows (``--json`` and so on) may stand before or after the command's
name. Nothing here imports the engine.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tcfs import __version__
from tcfs.errors import UsageError

if TYPE_CHECKING:
    from tcfs.cli.context import Context

    Subparsers = argparse._SubParsersAction["Parser"]

T = TypeVar("T")
Run = Callable[["Context"], int]

GLOBAL_DEFAULTS: dict[str, Any] = {
    "json": False,
    "verbose": False,
    "quiet": False,
    "config": None,
    "actor": None,
    "no_color": False,
}


class Parser(argparse.ArgumentParser):
    """argparse with our errors, without abbreviations, and with options anywhere."""

    def __init__(self, **kwargs: Any) -> None:
        # An abbreviation that is unique today may mean another option tomorrow.
        super().__init__(**kwargs, allow_abbrev=False, add_help=False)
        self.add_argument("-h", "--help", action="help", help="show this help and exit")

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of leaving the process."""
        import difflib

        wrong = re.search(r"(.*): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            where, word, known = wrong.groups()
            choices = [name for name in re.findall(r"[\w-]+", known) if name[:2] != "__"]
            near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
            is_command = where == "argument COMMAND"
            message = f"unknown command {word!r}" if is_command else f"{where}: not {word!r}"
            message += f"; did you mean {near[0]!r}?" if near else f"; use {', '.join(choices)}"
        raise UsageError(message, remedy=f"See: {self.prog} --help")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse, but ``push a --as r b`` means both a and b."""
        if args is not None and self._subparsers is None:
            args = self._options_first(args)
        return super().parse_known_args(args, namespace)

    def _options_first(self, args: Sequence[str]) -> list[str]:
        """The same arguments with the positional ones last, behind ``--``.

        argparse's own way of mixing them (``parse_intermixed_args``) forgets what ``--`` said.
        """
        options: list[str] = []
        rest: list[str] = []
        waiting = iter(args)
        for arg in waiting:
            if arg == "--":
                rest += waiting
            elif not arg.startswith("-") or arg == "-":
                rest.append(arg)
            else:
                options.append(arg)
                if self._wants_value(arg) and (value := next(waiting, None)) is not None:
                    options.append(value)
        return [*options, "--", *rest] if rest else options

    def _wants_value(self, arg: str) -> bool:
        """Whether the argument after this option is its value."""
        if arg.startswith("--"):
            action = self._option_string_actions.get(arg)
            return action is not None and action.nargs != 0
        for index, letter in enumerate(arg[1:], 2):
            action = self._option_string_actions.get(f"-{letter}")
            if action is None:
                return False
            if action.nargs != 0:
                return index == len(arg)
        return False


def build_parser(words: Collection[str] = ()) -> Parser:
    """The whole grammar; or, to be made quickly, that of the commands among ``words``."""
    from tcfs.cli.commands import add_commands

    parser = Parser(
        prog="tcfs",
        description="Keep directory trees the same on a fleet of machines.",
        epilog="'tcfs COMMAND --help' tells more about a command.",
    )
    add_global_options(parser)
    parser.add_argument("--version", action="version", version=f"tcfs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    add_commands(commands, words)
    return parser


def add_global_options(parser: argparse.ArgumentParser, *, actor: bool = True) -> None:
    """Let ``parser`` know the options of every command, without ``--actor`` if so wanted.

    Their defaults are suppressed, so that the command's parser does not undo what stood before the
    command's name; ``GLOBAL_DEFAULTS`` fills in the rest.
    """
    group = parser.add_argument_group("options of every command")
    hide: dict[str, Any] = {"default": argparse.SUPPRESS}
    group.add_argument(
        "--json", action="store_true", help="print the result as one JSON document", **hide
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="say more, and show tracebacks", **hide
    )
    group.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, notes or warnings", **hide
    )
    takes(
        group.add_argument("--config", metavar="FILE", help="configuration file to read", **hide),
        "file",
    )
    if actor:
        group.add_argument(
            "--actor", metavar="A", help="who does this, for the history (default: cli)", **hide
        )
    group.add_argument("--no-color", action="store_true", help="no colours", **hide)


def command(
    subparsers: Subparsers, name: str, summary: str, run: Run, *, more: str = "", actor: bool = True
) -> Parser:
    """Add a command that ``run`` carries out."""
    description = summary[0].upper() + summary[1:] + "." + (f" {more}" if more else "")
    parser = subparsers.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    add_global_options(parser, actor=actor)
    return parser


def group(subparsers: Subparsers, name: str, summary: str) -> Subparsers:
    """Add a command that only has commands of its own, such as ``device``."""
    parser = subparsers.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    add_global_options(parser)
    parser.set_defaults(lacking=name)
    return parser.add_subparsers(title="commands", metavar="COMMAND", dest="subcommand")


def takes(action: argparse.Action, what: str) -> None:
    """Say what the shell may complete here: ``file``, ``dir``, ``remote`` or ``device``."""
    action.completes = what  # type: ignore[attr-defined]


def numbers(text: str) -> tuple[int, ...]:
    """Numbers with commas. Raises UsageError."""
    if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", text):
        raise UsageError(f"not numbers with commas: {text!r}", remedy="Such as 0,7.")
    return tuple(map(int, text.split(",")))


def protects(parser: argparse.ArgumentParser) -> None:
    """Let a command that may make an identity say how its keys are guarded."""
    parser.add_argument(
        "--protect",
        choices=("file", "passphrase", "keyring", "tpm"),
        default="file",
        help="what guards this device's keys besides the file's mode (default: nothing)",
    )
    parser.add_argument(
        "--pcrs", default="7", metavar="N,N", help="with tpm: the PCRs to seal to (default 7)"
    )


def converted(parse: Callable[[str], T], text: str | None, option: str) -> T | None:
    """``parse(text)``, with the option's name in the error; None stays None."""
    if text is None:
        return None
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", remedy=error.remedy) from None


def count(text: str) -> int:
    """A whole number from 0 up, as an argparse type."""
    if not re.fullmatch(r"\d{1,18}", text):
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}")
    return int(text)
