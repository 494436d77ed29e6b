"""Writing a story to standard output, as it happens."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence


def size_text(size: float) -> str:
    """``512 B``, ``1.5 KiB``, ``3.0 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_text(number: int, noun: str) -> str:
    """``1 file``, ``2 files``, ``2 directories``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


class Teller:
    """Writes the story to standard output; colours only where a terminal shows them."""

    def __init__(self) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") == "dumb"
        self._colours = sys.stdout.isatty() and not plain
        self._width = max(60, min(shutil.get_terminal_size((88, 24)).columns, 96))
        self._step = 0

    def paint(self, code: str, text: str) -> str:
        """The text in a colour, where there are colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and text else text

    def line(self, text: str = "") -> None:
        """One line, at once: whoever watches should see it happen."""
        print(text, flush=True)

    def title(self, text: str) -> None:
        """What all of it is about."""
        self.line(self.paint("1", text))
        self.line()

    def fact(self, name: str, text: str) -> None:
        """A name and what is to be known of it."""
        self.line(f"  {self.paint('2', f'{name:<8}')} {text}")

    def step(self, text: str) -> None:
        """The next chapter."""
        self._step += 1
        self.line()
        self.line(self.paint("1;36", f"{self._step:>2}  {text}"))

    def say(self, text: str) -> None:
        """What it means."""
        for line in textwrap.wrap(text, self._width - 4, break_on_hyphens=False):
            self.line(f"    {line}")

    def command(self, device: str, words: Sequence[str], seconds: float | None) -> None:
        """A command as a user would type it, and how long it took; None if it runs on."""
        typed = f"{device}$ {shlex.join(words)}"
        took = "runs on" if seconds is None else f"{seconds:.1f} s"
        room = max(self._width - 4 - len(typed) - len(took), 2)
        self.line(f"    {self.paint('1', typed)}{' ' * room}{self.paint('2', took)}")

    def output(self, text: str, most: int = 12) -> None:
        """What it printed; of many lines the first."""
        lines = [line for line in text.splitlines() if line.strip()]
        for line in lines[:most]:
            cut = line if len(line) <= self._width - 6 else line[: self._width - 7] + "…"
            self.line(f"      {self.paint('2', cut)}")
        if len(lines) > most:
            self.line(f"      {self.paint('2', f'… and {len(lines) - most} more lines')}")

    def good(self, text: str) -> None:
        """Something was checked, and holds."""
        first, *rest = textwrap.wrap(text, self._width - 8, break_on_hyphens=False)
        self.line(f"    {self.paint('32', 'ok')}  {first}")
        for line in rest:
            self.line(f"        {line}")

    def end(self, trees: str, seconds: float) -> None:
        """All is well; ``trees`` is how many were compared, in a word."""
        self.line()
        done = self.paint("1;32", f"All {trees} trees are the same.")
        self.line(f"{done} It took {seconds:.0f} s, and nothing is left of it but this text.")

    def bad(self, text: str) -> None:
        """Why all of it failed."""
        self.line()
        self.line(self.paint("1;31", f"FAILED: {text}"))
