"""Standard input, output and error: what may be written to them, and questions to a person.

File names and contents come from strangers. Everything written here is a ``Text`` of parts, and
each part is stripped of what steers a terminal; colours are added afterwards, and only for a
terminal that wants them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

# C0 but tab, DEL and C1; zero-width, bidirectional and other format characters; lone surrogates.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


class Styled(NamedTuple):
    """Text with the name of a style; the style shows on a terminal alone."""

    text: str
    style: str


Part = str | Styled


def bold(text: str) -> Styled:
    """For what the eye should find first."""
    return Styled(text, "bold")


def dim(text: str) -> Styled:
    """For what most readers skip."""
    return Styled(text, "dim")


def red(text: str) -> Styled:
    """For what failed or goes away."""
    return Styled(text, "red")


def green(text: str) -> Styled:
    """For what is well or appears."""
    return Styled(text, "green")


def yellow(text: str) -> Styled:
    """For what wants attention."""
    return Styled(text, "yellow")


def cyan(text: str) -> Styled:
    """For names to be typed elsewhere, such as ids."""
    return Styled(text, "cyan")


def clean(text: str) -> str:
    """``text`` on one line, with every character escaped that could steer a terminal."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Terminal:
    """The process's standard streams as the commands use them.

    Args:
        colours: False turns colours off whatever the terminal can do.
        quiet: leave out notes and warnings.
    """

    def __init__(
        self,
        *,
        colours: bool = True,
        quiet: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.quiet = quiet
        self.dumb = environ.get("TERM", "") == "dumb"
        self.colours = wanted = colours and not self.dumb and not environ.get("NO_COLOR")
        self._out_colours = wanted and is_terminal(sys.stdout)
        self._err_colours = wanted and is_terminal(sys.stderr)
        # The progress bar replaces this while it shows, so that lines do not break into it.
        self.before_err: Callable[[], None] | None = None

    @property
    def person(self) -> bool:
        """Whether someone is there to read a question and to answer it."""
        return is_terminal(sys.stdin) and is_terminal(sys.stderr)

    @property
    def shows_progress(self) -> bool:
        """Whether a moving bar makes sense."""
        return is_terminal(sys.stderr) and not self.quiet and not self.dumb

    def out(self, *parts: Part) -> None:
        """A line of the result, to standard output."""
        sys.stdout.write(self._joined(parts, self._out_colours) + "\n")

    def raw(self, text: str) -> None:
        """Text of our own making (JSON, a script), to standard output."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")

    def err(self, *parts: Part) -> None:
        """A line for people, to standard error."""
        if self.before_err is not None:
            self.before_err()
        sys.stdout.flush()
        sys.stderr.write(self._joined(parts, self._err_colours) + "\n")
        sys.stderr.flush()

    def note(self, message: str) -> None:
        """Something worth knowing, unless ``--quiet``."""
        if not self.quiet:
            self.err(message)

    def warn(self, message: str) -> None:
        """Something worth acting on, unless ``--quiet``."""
        if not self.quiet:
            self.err(yellow("warning: "), message)

    def ask(self, question: str) -> str | None:
        """The line typed in answer, stripped, or None at the end of input."""
        sys.stdout.flush()
        sys.stderr.write(clean(question))
        sys.stderr.flush()
        line = sys.stdin.readline()
        return line.strip() if line else None

    def confirm(self, question: str) -> bool:
        """Whether the answer is yes. Anything else, and no answer, is no."""
        answer = self.ask(f"{question} [y/N] ")
        return answer is not None and answer.lower() in ("y", "yes")

    def secret(self, question: str) -> str:
        """A line read from the terminal without echo, or the whole of standard input if piped."""
        if not is_terminal(sys.stdin):
            return sys.stdin.read().strip()
        from getpass import getpass

        return getpass(question, stream=sys.stderr).strip()

    def erase(self, lines: int) -> None:
        """Take back this many lines from a person's screen."""
        if not self.dumb and is_terminal(sys.stderr):
            sys.stderr.write(f"\x1b[{lines}A\x1b[J")
            sys.stderr.flush()

    def _joined(self, parts: Iterable[Part], colours: bool) -> str:
        texts = []
        for part in parts:
            if isinstance(part, str):
                texts.append(clean(part))
            elif colours and part.text:
                texts.append(f"\x1b[{_CODES[part.style]}m{clean(part.text)}\x1b[0m")
            else:
                texts.append(clean(part.text))
        return "".join(texts)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end. A closed or missing stream is nobody."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
